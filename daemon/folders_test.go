package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/daemon/internal/status"
)

// hourly is a repository that is looked at once an hour when nothing tells.
func hourly(tm *team, more string) string {
	return strings.Replace(repository(tm, more), `interval = "5s"`, `interval = "1h"`, 1)
}

func TestNewDataIsSeenAtOnce(t *testing.T) {
	tm := newTeam(t, map[string]string{
		"p.ml.hcl": strings.Replace(project, `"data.csv"`, `"in/**/*.csv"`, 1), "train.sh": strings.ReplaceAll(train, `"$ML_INPUT_DATA"`, `"$ML_INPUT_DATA"/a.csv`), "in/a.csv": data,
	})
	first := tm.push("again", nil)
	dir := t.TempDir()
	w := start(t, dir, hourly(tm, ""))
	w.until("the first commit is applied", syncedAt(first))
	versions := func() int {
		_, body := w.get("/api/v1/repositories/r/runs/training.t")
		return strings.Count(body, `"id"`)
	}
	in := filepath.Join(dir, "data", "r", "work", "in")
	// What is no data begins nothing; it is there before the data, so it was passed over when that is seen.
	if err := os.WriteFile(filepath.Join(in, "README"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"b.csv", "new/c.csv", "new/deeper/d.csv"} {
		path := filepath.Join(in, filepath.FromSlash(name))
		at := time.Now()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data+fmt.Sprintf("%d,8\n", i)), 0o644)); err != nil {
			t.Fatal(err)
		}
		w.eventually("a training for "+name, func() bool { return versions() == i+2 })
		t.Logf("%s: trained %s after it was written", name, time.Since(at).Round(10*time.Millisecond))
		w.until("it is done", syncedAt(first))
	}
}

func TestARepositoryOfThisMachineTellsByItself(t *testing.T) {
	tm := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data})
	first := tm.push("again", nil)
	w := start(t, t.TempDir(), hourly(tm, ""))
	w.until("the first commit is applied", syncedAt(first))
	for i := range 2 {
		at := time.Now()
		next := tm.push("more", map[string]string{"data.csv": data + fmt.Sprintf("%d,8\n", i)})
		w.until("the next commit is applied", syncedAt(next))
		t.Logf("applied %s after the push", time.Since(at).Round(10*time.Millisecond))
	}
}

func TestWhatCannotBeWatchedIsNoFailure(t *testing.T) {
	tm := newTeam(t, map[string]string{"p.ml.hcl": strings.Replace(project, `"data.csv"`, `"in"`, 1), "train.sh": strings.ReplaceAll(train, `"$ML_INPUT_DATA"`, `"$ML_INPUT_DATA"/a.csv`), "in/a.csv": data})
	first := tm.push("again", nil)
	dir := t.TempDir()
	many := filepath.Join(dir, "data", "r", "work", "in")
	for i := range maxFolders + 50 {
		if err := os.MkdirAll(filepath.Join(many, fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w := start(t, dir, repository(tm, ""))
	s := w.until("the first commit is applied", func(s status.Repository) bool { return syncedAt(first)(s) && !s.Last.IsZero() })
	w.d.repos[0].nudge()
	w.until("the next cycle is over", func(n status.Repository) bool { return n.Last.After(s.Last) })
	w.end()
	r := w.d.repos[0]
	if r.unwatched != errTooMany.Error() || r.look().Failures != 0 {
		t.Errorf("said %q; %+v", r.unwatched, r.look())
	}
	if got, err := wanted(r.places, r.refs()); len(got) > maxFolders || !errors.Is(err, errTooMany) {
		t.Errorf("%d folders, %v", len(got), err)
	}
}

func TestWhatADatasetHolds(t *testing.T) {
	root := t.TempDir()
	at := func(p string) string { return filepath.Join(root, filepath.FromSlash(p)) }
	for _, d := range []string{"d/e/f", "d/.hidden", ".ml/x"} {
		if err := os.MkdirAll(at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		src     string
		dirs    []string
		yes, no []string // a slash at the end is a folder that appeared
	}{
		{"x.csv", []string{"."}, []string{"x.csv"}, []string{"y.csv", "x.csv.tmp", "z/"}},
		{"d", []string{"d", "d/e", "d/e/f"}, []string{"d/x", "d/e/f/g", "d/e/new/", "d/"}, []string{"dd", "x"}},
		{"d/*.csv", []string{"d"}, []string{"d/x.csv", "d/"}, []string{"d/x.txt", "d/e/x.csv", "d/e/"}},
		{"d/**/*.csv", []string{"d", "d/e", "d/e/f"}, []string{"d/x.csv", "d/e/f/x.csv", "d/g/"}, []string{"d/x.txt", "x.csv"}},
		{"d/*/x.csv", []string{"d", "d/e", "d/e/f"}, []string{"d/e/x.csv", "d/g/"}, []string{"d/x.csv"}},
		{"gone/far/x.csv", []string{"."}, []string{"gone/", "gone/far/", "gone/far/x.csv"}, []string{"other/", "gone"}},
		{"*.csv", []string{"."}, []string{"x.csv"}, []string{"d/x.csv", "x"}},
	} {
		p := placeData(root, c.src)
		got, err := wanted([]dataPlace{p}, nil)
		var want []string
		for _, d := range c.dirs {
			want = append(want, at(d))
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: watches %v, %v; want %v", c.src, got, err, want)
		}
		for _, list := range []struct {
			names []string
			want  bool
		}{{c.yes, true}, {c.no, false}} {
			for _, name := range list.names {
				if got := p.holds(at(name), strings.HasSuffix(name, "/")); got != list.want {
					t.Errorf("%s: holds %s = %v", c.src, name, got)
				}
			}
		}
	}
}

func TestAFileThatGrowsAllTheTimeLeavesPauses(t *testing.T) {
	r := &repo{wake: make(chan struct{}, 1), moved: make(chan struct{}, 1), arrived: make(chan struct{}, 1)}
	const gap = 200 * time.Millisecond
	began := time.Now()
	poke(r.arrived)
	if byData, err := r.rest(context.Background(), time.Hour, gap); err != nil || !byData || time.Since(began) < gap {
		t.Errorf("%v, %v after %s", byData, err, time.Since(began))
	}
	// A webhook does not wait for the pause to be over.
	poke(r.arrived)
	poke(r.wake)
	if byData, err := r.rest(context.Background(), time.Hour, time.Hour); err != nil || byData {
		t.Errorf("%v, %v", byData, err)
	}
	r.arrived = make(chan struct{}, 1) // whatever was left of it
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.rest(ctx, time.Hour, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
