//go:build unix

package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/state"
)

// childVariable makes this test binary be another process that uses a state.
const childVariable = "STATE_CHILD"

func TestMain(m *testing.M) {
	mode := os.Getenv(childVariable)
	if mode == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if err := child(mode, os.Getenv("STATE_PATH")); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func child(mode, path string) error {
	ctx := context.Background()
	s := Open(path, Options{Holder: "child@host"})
	switch mode {
	case "work": // commits and backs up for ever, telling each outcome
		return work(ctx, s)
	case "restore":
		from, err := s.RestoreLatest(ctx)
		fmt.Println("restored", from)
		return err
	case "lease": // holds the lease until stdin ends
		_, release, err := s.Acquire(ctx, "apply")
		if err != nil {
			return err
		}
		fmt.Println("ready")
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
		return release()
	case "file": // has the file open until stdin ends
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
		if err != nil {
			return err
		}
		fmt.Println("ready")
		_, err = io.Copy(io.Discard, os.Stdin)
		return errors.Join(err, db.Close())
	case "snapshot-as-nobody", "commit-as-nobody", "fill":
		return limited(ctx, mode, s)
	}
	return fmt.Errorf("there is no mode %q", mode)
}

// work commits record r1, r2, … each with an intent opened before and closed
// with it, and says so after each commit: the history that no crash may contradict.
func work(ctx context.Context, s *Store) error {
	_, release, err := s.Acquire(ctx, "apply")
	if err != nil {
		return err
	}
	for i := 1; i <= 6; i++ {
		r := small(i)
		op := fmt.Sprintf("op%d", i)
		if _, err := s.Commit(ctx, 0, state.Op{PutIntent: &state.Intent{OpID: op, Address: r.Address}}); err != nil {
			return err
		}
		fmt.Println("intent", i)
		if _, err := s.Commit(ctx, 0, state.Op{PutRecord: r}, state.Op{CloseIntent: op}); err != nil {
			return err
		}
		fmt.Println("done", i)
		if i%2 == 0 {
			if _, err := s.Backup(ctx); err != nil {
				return err
			}
			fmt.Println("backup", i)
		}
	}
	return release()
}

// proc is a running child.
type proc struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

// start starts a child. It is killed and waited for when the test ends.
func start(t *testing.T, mode, path, faultSpec string) *proc {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+mode, "STATE_PATH="+path, fault.Variable+"="+faultSpec)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &proc{cmd: cmd, stdin: stdin, lines: bufio.NewScanner(out)}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Error(err)
			}
			_, _ = p.wait() // it was killed: its status says nothing
		}
	})
	return p
}

// line waits for the child's next line.
func (p *proc) line(t *testing.T) string {
	t.Helper()
	if !p.lines.Scan() {
		t.Fatalf("the child said nothing more: %v", p.lines.Err())
	}
	return p.lines.Text()
}

// wait reads the rest and returns it with how the child ended.
func (p *proc) wait() (rest []string, err error) {
	for p.lines.Scan() {
		rest = append(rest, p.lines.Text())
	}
	return rest, p.cmd.Wait()
}

// checkHistory wants everything that a "work" child told to be there, and no
// more than one step that it could not tell any more.
func checkHistory(t *testing.T, s *Store, said []string) {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal("snapshot:", err)
	}
	done, intents := 0, 0
	for _, l := range said {
		var n int
		if _, err := fmt.Sscanf(l, "done %d", &n); err == nil {
			done = n
		}
		if _, err := fmt.Sscanf(l, "intent %d", &n); err == nil {
			intents = n
		}
	}
	if n := len(snap.Records); n != done && (n != done+1 || intents != n) {
		t.Errorf("told %v, found %d records", said, n)
	}
	for i := 1; i <= done; i++ {
		if r := snap.Record(small(i).Address); r == nil || r.Inputs != small(i).Inputs {
			t.Errorf("record %d was acknowledged and is lost", i)
		}
	}
	started := len(snap.Records) + len(snap.Intents)
	if started < intents || started > intents+1 {
		t.Errorf("told %v, found %d records and %d open intents", said, len(snap.Records), len(snap.Intents))
	}
	if _, err := s.Verify(t.Context()); err != nil {
		t.Error("verify:", err)
	}
}

func TestZ15KillAtEveryPoint(t *testing.T) {
	restoring := []string{fault.StateRestoreBefore, fault.StateRestoreAfter}
	for _, name := range fault.Points() {
		if !strings.HasPrefix(name, "state.") || name == fault.StateCommitSync || name == restoring[0] || name == restoring[1] {
			continue // another package's, or tested below
		}
		t.Run(name, func(t *testing.T) {
			killed := 0
			for _, hit := range []int{1, 2, 7} {
				s := newStore(t)
				p := start(t, "work", s.path, fmt.Sprintf("%s:%d", name, hit))
				said, err := p.wait()
				if err != nil && !strings.Contains(err.Error(), "killed") {
					t.Fatalf("the child ended with %v after %v", err, said)
				}
				if err != nil {
					killed++
				}
				checkHistory(t, s, said)
				checkGoesOn(t, s)
			}
			if killed == 0 {
				t.Error("the point was never passed")
			}
		})
	}
}

// checkGoesOn wants the lock to be free and the state to be writable at once.
func checkGoesOn(t *testing.T, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, release, err := s.Acquire(ctx, "apply")
	if err != nil {
		t.Fatal("after the kill:", err)
	}
	if _, err := s.Commit(ctx, 0, state.Op{PutRecord: small(99)}); err != nil {
		t.Error(err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if _, err := s.Backup(ctx); err != nil {
		t.Error(err)
	}
}

func TestZ15KillAtAnyTime(t *testing.T) {
	for n := 1; n <= 14; n++ {
		s := newStore(t)
		p := start(t, "work", s.path, "")
		var said []string
		for range n {
			said = append(said, p.line(t))
		}
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		rest, _ := p.wait()
		checkHistory(t, s, append(said, rest...))
		checkGoesOn(t, s)
	}
}

func TestZ15KillDuringRestore(t *testing.T) {
	for _, name := range []string{fault.StateRestoreBefore, fault.StateRestoreAfter, fault.StateSerialBefore} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			commit(t, s, state.Op{PutRecord: small(1)})
			if _, err := s.Backup(t.Context()); err != nil {
				t.Fatal(err)
			}
			writeFile(t, s.path, []byte("rubbish"))
			p := start(t, "restore", s.path, name+":1")
			if said, err := p.wait(); err == nil {
				t.Fatalf("the child lived and said %v", said)
			}
			if _, err := s.Snapshot(t.Context()); err != nil {
				if !errors.Is(err, state.ErrCorrupt) {
					t.Fatal(err)
				}
				if _, err := s.RestoreLatest(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if snap, err := s.Snapshot(t.Context()); err != nil || len(snap.Records) != 1 {
				t.Errorf("after the second try: %v", err)
			}
		})
	}
}

// TestAFailedSyncIsNotAcknowledged fails one fsync of a child: it must stop
// there, and nothing it told before may be lost.
func TestAFailedSyncIsNotAcknowledged(t *testing.T) {
	s := newStore(t)
	said, err := start(t, "work", s.path, fault.StateCommitSync+":4:error").wait()
	if err == nil || !strings.Contains(said[len(said)-1], state.ErrReadOnly.Error()) {
		t.Fatalf("the child ended with %v after %v", err, said)
	}
	if want := []string{"intent 1", "done 1"}; !slices.Equal(said[:len(said)-1], want) {
		t.Errorf("told %v, want %v", said, want)
	}
	checkHistory(t, s, said)
	checkGoesOn(t, s) // another process may write
}
