package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

func TestR14ATransferThatBreaksLeavesTheCopyWhole(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request, []byte){
		"reset at half":   cutAt(0.5),
		"reset at once":   cutAt(0),
		"reset at 99 %":   cutAt(0.99),
		"a wrong byte":    inPack(func(pack []byte) { pack[len(pack)/2] ^= 1 }),
		"a wrong sum":     inPack(func(pack []byte) { pack[len(pack)-8] ^= 1 }), // the last packet ends with "0000"
		"no pack":         inPack(func(pack []byte) { copy(pack, "KCAP") }),
		"half, and done":  func(w http.ResponseWriter, _ *http.Request, answer []byte) { w.Write(answer[:len(answer)/2]) }, //nolint:errcheck // the client may be gone
		"nothing, and ok": func(http.ResponseWriter, *http.Request, []byte) {},
		"a page":          func(w http.ResponseWriter, _ *http.Request, _ []byte) { fmt.Fprint(w, "<html>Sign in") },
		"500":             func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusInternalServerError) },
		"a byte now and then": func(w http.ResponseWriter, r *http.Request, answer []byte) {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for i := range answer {
				if _, err := w.Write(answer[i : i+1]); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				select {
				case <-tick.C:
				case <-r.Context().Done():
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			s := serve(t, o)
			m := s.mirror()
			fetch := func() error {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				return m.Fetch(ctx, branch)
			}
			// The first fetch of all breaks, and so does one into a copy that has something.
			var before, file string
			for i, parents := 0, []string(nil); i < 2; i++ {
				text := noise(300_000, uint64(i))
				commit := o.commit(o.raw(o.file("a", text)), parents...)
				s.breaks(fault)
				began := time.Now()
				if err := fetch(); err == nil {
					if head, _ := m.Head(branch); head == commit && m.has(commit) {
						t.Fatal("it came through: the fault is none")
					}
				}
				if took := time.Since(began); took > 30*time.Second {
					t.Errorf("it took %s", took)
				}
				if before != "" && m.has(before) {
					if _, err := m.Write(context.Background(), before, ".", filepath.Join(t.TempDir(), "w"), DefaultLimits); err != nil {
						t.Errorf("what was there before: %v", err)
					}
				} else if before != "" {
					t.Error("what was there before is gone")
				}
				if m.has(commit) {
					t.Error("half a transfer is taken for whole")
				}
				s.mends()
				if err := fetch(); err != nil {
					t.Fatalf("the next fetch: %v", err)
				}
				whole(t, m, commit, "a", text)
				before, file, parents = commit, text, []string{commit}
			}
			_ = file
		})
	}
}

// has says whether the copy holds a commit.
func (m *Mirror) has(commit string) bool {
	_, err := m.commit(commit)
	return err == nil
}

// More commits than a fetch brings: the list of where the history was cut is written before the pack is.
func TestR14ALongHistoryThatBreaksIsFetchedWhole(t *testing.T) {
	o := newOrigin(t)
	s := serve(t, o)
	m := s.mirror()
	var heads []string
	grow := func(n int) {
		for range n {
			var parents []string
			if len(heads) > 0 {
				parents = heads[len(heads)-1:]
			}
			heads = append(heads, o.commit(o.raw(o.file("a", noise(2000, uint64(len(heads)))), o.file("n", fmt.Sprint(len(heads)))), parents...))
		}
	}
	for range 2 {
		grow(Depth + 20)
		s.breaks(cutAt(0.6))
		if err := m.Fetch(t.Context(), branch); err == nil {
			t.Fatal("it came through")
		}
		s.mends()
		if err := m.Fetch(t.Context(), branch); err != nil {
			t.Fatal(err)
		}
		last := len(heads) - 1
		whole(t, m, heads[last], "n", fmt.Sprint(last))
		if ok, err := m.Descends(t.Context(), heads[last], heads[last-Depth+5]); err != nil || !ok {
			t.Errorf("descends: %v, %v", ok, err)
		}
	}
}

// answerWith is an answer that holds just this pack.
func answerWith(pack []byte) []byte {
	var b bytes.Buffer
	packet := func(band string, data []byte) { fmt.Fprintf(&b, "%04x%s%s", len(data)+len(band)+4, band, data) }
	b.WriteString("0000") // where the history was cut: nowhere
	packet("", []byte("NAK\n"))
	for len(pack) > 0 {
		n := min(len(pack), 60_000)
		packet("\x01", pack[:n])
		pack = pack[n:]
	}
	b.WriteString("0000")
	return b.Bytes()
}

// A server that leaves files out makes no copy that lacks them for ever.
func TestR14APackThatLeavesAFileOutIsFetchedAgain(t *testing.T) {
	o := newOrigin(t)
	s := serve(t, o)
	m := s.mirror()
	file := o.file("models/a", "x")
	folder := o.folder("models", o.file("a", "the text"))
	commit := o.commit(o.raw(folder))
	for name, hashes := range map[string][]plumbing.Hash{
		"without the file":       {plumbing.NewHash(commit), treeOf(t, o, commit), folder.Hash},
		"without a folder":       {plumbing.NewHash(commit), treeOf(t, o, commit), file.Hash},
		"without all of it":      {plumbing.NewHash(commit), file.Hash},
		"the commit and no more": {plumbing.NewHash(commit)},
	} {
		t.Run(name, func(t *testing.T) {
			var pack bytes.Buffer
			if _, err := packfile.NewEncoder(&pack, o.repo.Storer, false).Encode(hashes, 0); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(m.dir); err != nil {
				t.Fatal(err)
			}
			s.breaks(func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.Write(answerWith(pack.Bytes())) }) //nolint:errcheck // the client may be gone
			if err := m.Fetch(t.Context(), branch); err != nil {
				t.Fatal(err)
			}
			for _, at := range []string{".", "models"} {
				dir := filepath.Join(t.TempDir(), "work")
				if _, err := m.Write(t.Context(), commit, at, dir, DefaultLimits); err == nil || errors.Is(err, ErrNoFolder) {
					t.Errorf("%s: %v", at, err)
				}
				if _, err := os.Stat(filepath.Join(dir, "a")); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("something was written: %v", err)
				}
			}
			s.mends()
			if err := m.Fetch(t.Context(), branch); err != nil {
				t.Fatal(err)
			}
			whole(t, m, commit, "models/a", "the text")
		})
	}
}

func treeOf(t *testing.T, o *origin, commit string) plumbing.Hash {
	t.Helper()
	c, err := o.repo.CommitObject(plumbing.NewHash(commit))
	if err != nil {
		t.Fatal(err)
	}
	return c.TreeHash
}

// More has happened on the branch than a fetch brings: looked at deeper, the applied commit is still among the ancestors.
func TestALongPushIsNoRewrittenHistory(t *testing.T) {
	for name, over := range map[string]func(o *origin) *Mirror{
		"http": func(o *origin) *Mirror { return serve(t, o).mirror() },
		"path": func(o *origin) *Mirror { return o.mirror() },
	} {
		o := newOrigin(t)
		first := o.commit(o.raw(o.file("a", "1")))
		m := over(o)
		if err := m.Fetch(t.Context(), branch); err != nil {
			t.Fatal(err)
		}
		head := first
		for range 2*Depth + 10 {
			head = o.commit(o.raw(o.file("a", "2")), head)
		}
		if err := m.Fetch(t.Context(), branch); err != nil {
			t.Fatal(err)
		}
		if ok, err := m.Descends(t.Context(), head, first); err != nil || ok {
			t.Fatalf("%s: a fetch brings all of it (%v): the test shows nothing", name, err)
		}
		if err := m.Deepen(t.Context(), branch); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if ok, err := m.Descends(t.Context(), head, first); err != nil || !ok {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
		// And the next fetch is as ever.
		next := o.commit(o.raw(o.file("a", "3")), head)
		if err := m.Fetch(t.Context(), branch); err != nil {
			t.Fatal(err)
		}
		if ok, err := m.Descends(t.Context(), next, first); err != nil || !ok {
			t.Errorf("%s, after it: %v, %v", name, ok, err)
		}
	}
}
