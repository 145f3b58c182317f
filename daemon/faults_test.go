package daemon

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/internal/forge"
)

// moody is a forge that fails as it is told, and counts what it is asked for.
type moody struct {
	*fakeForge
	mu     sync.Mutex
	err    error
	hangs  bool
	asked  int
	landed []forge.Status
}

func (m *moody) be(err error, hangs bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err, m.hangs, m.asked = err, hangs, 0
}

func (m *moody) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

func (m *moody) weather(ctx context.Context) error {
	m.mu.Lock()
	err, hangs := m.err, m.hangs
	m.asked++
	m.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (m *moody) Pulls(ctx context.Context) ([]forge.Pull, error) {
	if err := m.weather(ctx); err != nil {
		return nil, err
	}
	return m.fakeForge.Pulls(ctx)
}

func (m *moody) Comments(ctx context.Context, n int, since time.Time) ([]forge.Comment, error) {
	if err := m.weather(ctx); err != nil {
		return nil, err
	}
	return m.fakeForge.Comments(ctx, n, since)
}

func (m *moody) PutComment(ctx context.Context, n int, marker, body string) (forge.Comment, error) {
	if err := m.weather(ctx); err != nil {
		return forge.Comment{}, err
	}
	return m.fakeForge.PutComment(ctx, n, marker, body)
}

func (m *moody) Reply(ctx context.Context, n int, body string) (forge.Comment, error) {
	if err := m.weather(ctx); err != nil {
		return forge.Comment{}, err
	}
	return m.fakeForge.Reply(ctx, n, body)
}

func (m *moody) SetStatus(ctx context.Context, commit string, s forge.Status) error {
	if err := m.weather(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	m.landed = append(m.landed, s)
	m.mu.Unlock()
	return m.fakeForge.SetStatus(ctx, commit, s)
}

func (m *moody) Permission(ctx context.Context, user string) (forge.Permission, error) {
	if err := m.weather(ctx); err != nil {
		return forge.None, err
	}
	return m.fakeForge.Permission(ctx, user)
}

func startMoody(t *testing.T, files map[string]string) (*team, *moody, *works) {
	t.Helper()
	tm := newTeam(t, files)
	m := &moody{fakeForge: newFakeForge()}
	w := startWith(t, t.TempDir(), repository(tm, withForge), func(*ForgeConfig) (Forge, error) { return m, nil })
	return tm, m, w
}

func small() map[string]string {
	return map[string]string{"p.ml.hcl": "dataset \"d\" { source = \"data.csv\" }\n", "data.csv": data}
}

// Whatever the forge does, the branch is applied, the status says what is the matter, and when the forge is back it hears the last word.
func TestAForgeThatFailsHoldsNothingUp(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		hangs bool
	}{
		"down":   {&forge.UnavailableError{Op: "gitea", Err: errors.New("no answer: connection refused")}, false},
		"hangs":  {nil, true},
		"denied": {forge.ErrDenied, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tm, f, w := startMoody(t, small())
			first := tm.push("again", nil)
			w.d.repos[0].nudge()
			w.until("the first commit is applied", syncedAt(first))
			f.be(c.err, c.hangs)
			p := tm.propose(1, map[string]string{"data.csv": data + "7,8\n"})
			f.set(p)
			f.write(1, "ada", "ml plan")
			second := tm.push("more data", map[string]string{"data.csv": data + "9,9\n"})
			w.d.repos[0].nudge()
			w.until("the second commit is applied all the same", syncedAt(second)) // one that hangs has two minutes of patience, the test one
			if !c.hangs {
				w.until("the status says what is the matter", func(s status.Repository) bool { return strings.Contains(s.ForgeError, c.err.Error()) })
			}
			f.be(nil, false)
			f.fakeForge.mu.Lock()
			f.may["ada"] = forge.Write
			f.fakeForge.mu.Unlock()
			if name == "hangs" {
				return // the client has a timeout, which the fake has not
			}
			w.until("it is well again", func(s status.Repository) bool { w.d.repos[0].nudge(); return s.ForgeError == "" })
			if name == "down" {
				w.eventually("it hears of the commit", func() bool { return f.status(second).State == forge.Success })
			}
			w.eventually("the pull request has its comment", func() bool { return f.status(p.Head).State == forge.Success })
			w.eventually("the command is answered, once", func() bool { return strings.Count(f.bot(1), "Planned again") == 1 })
		})
	}
}

// A forge that wants no more requests gets none before the time that it names, whatever webhooks say; the branch is applied meanwhile.
func TestAForgeThatLimitsIsLeftAloneUntilItsTime(t *testing.T) {
	tm, f, w := startMoody(t, small())
	first := tm.push("again", nil)
	w.d.repos[0].nudge()
	w.until("the first commit is applied", syncedAt(first))
	w.eventually("it is told", func() bool { return f.status(first).State == forge.Success })
	pulls := []forge.Pull{}
	for n := 1; n <= 5; n++ {
		p := tm.propose(n, map[string]string{"data.csv": data + strings.Repeat("7,8\n", n)})
		p.Number = n
		pulls = append(pulls, p)
	}
	until := time.Now().Add(3 * time.Second)
	f.be(&forge.RateLimitedError{Op: "github", Until: until}, false)
	f.set(pulls...)
	second := tm.push("more data", map[string]string{"data.csv": data + "9,9\n"})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Until(until) > 300*time.Millisecond {
		w.d.repos[0].nudge() // a webhook
		<-tick.C
	}
	if s := w.d.repos[0].look(); s.Applied.Commit != second || !strings.Contains(s.ForgeError, "no more requests until") {
		t.Errorf("applied %s, want %s; it says %q", s.Applied.Commit, second, s.ForgeError)
	}
	if n := f.count(); n > 3 { // the loops of pull requests and of statuses may have been on their way
		t.Errorf("%d requests to a forge that wants none", n)
	}
	f.be(nil, false)
	w.eventually("it hears of the commit, and all have their comments", func() bool {
		for _, p := range pulls {
			w.d.repos[0].nudgePulls()
			if f.status(p.Head).State != forge.Success {
				return false
			}
		}
		return f.status(second).State == forge.Success
	})
}

// What waits to be told is the last word on each commit, in the order of commits, and not without end.
func TestTheForgeHearsTheLastWord(t *testing.T) {
	x := newTidings()
	x.put("a", forge.Status{State: forge.Pending})
	x.put("b", forge.Status{State: forge.Pending})
	commit, s, _ := x.first()
	x.put("a", forge.Status{State: forge.Success}) // while the older word is on its way
	x.told(commit, s)
	if commit, s, ok := x.first(); !ok || commit != "a" || s.State != forge.Success {
		t.Errorf("%s %v %v", commit, s.State, ok)
	}
	for i := range 3 * maxTidings {
		x.put(string(rune('c'+i)), forge.Status{})
	}
	if len(x.order) != maxTidings || len(x.words) != maxTidings {
		t.Errorf("%d and %d wait", len(x.order), len(x.words))
	}
}

// A git server that hangs costs the patience and the interval, and nothing else.
func TestAGitServerThatHangsCostsItsPatience(t *testing.T) {
	tm := newTeam(t, small())
	first := tm.push("again", nil)
	s := serveGit(t, tm.dir)
	w := startPatient(t, strings.Replace(repository(tm, ""), tm.dir, s.URL+"/"+filepath.Base(tm.dir)+"/.git", 1), time.Second)
	w.until("the first commit is applied", syncedAt(first))
	s.set(func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	})
	second := tm.push("more data", map[string]string{"data.csv": data + "9,9\n"})
	w.d.repos[0].nudge()
	st := w.until("it says so", func(s status.Repository) bool { return s.FetchError != "" && s.Phase == status.Synced })
	if st.Applied.Commit != first || len(st.Blocks) != 1 {
		t.Errorf("%+v", st)
	}
	s.set(nil)
	w.until("it goes on by itself", syncedAt(second))
}

// The branch goes, the repository is emptied: nothing is taken away, and it goes on when they are back.
func TestABranchThatGoesTakesNothingAway(t *testing.T) {
	tm := newTeam(t, small())
	first := tm.push("again", nil)
	w := start(t, t.TempDir(), repository(tm, ""))
	w.until("the first commit is applied", syncedAt(first))
	ref := plumbing.NewBranchReferenceName("master")
	steps := map[string]func(){
		"the branch is deleted": func() {
			if err := errors.Join(tm.repo.Storer.SetReference(plumbing.NewHashReference("refs/heads/other", plumbing.NewHash(first))), tm.repo.Storer.RemoveReference(ref)); err != nil {
				t.Fatal(err)
			}
		},
		"the repository is emptied": func() {
			for _, name := range []plumbing.ReferenceName{ref, "refs/heads/other"} {
				if err := tm.repo.Storer.RemoveReference(name); err != nil {
					t.Fatal(err)
				}
			}
		},
		"the repository is away": func() {
			if err := os.Rename(filepath.Join(tm.dir, ".git"), filepath.Join(tm.dir, "away")); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, step := range steps {
		step()
		w.d.repos[0].nudge()
		s := w.until(name+" is told", func(s status.Repository) bool { return s.FetchError != "" && s.Phase == status.Synced })
		if s.Applied.Commit != first || len(s.Blocks) != 1 || s.Held != nil {
			t.Errorf("%s: %+v", name, s)
		}
		if name == "the repository is away" {
			if err := os.Rename(filepath.Join(tm.dir, "away"), filepath.Join(tm.dir, ".git")); err != nil {
				t.Fatal(err)
			}
		}
		if err := tm.repo.Storer.SetReference(plumbing.NewHashReference(ref, plumbing.NewHash(first))); err != nil {
			t.Fatal(err)
		}
		w.d.repos[0].nudge()
		w.until("it is well again", func(s status.Repository) bool { return s.FetchError == "" && s.Phase == status.Synced })
	}
	next := tm.push("more", map[string]string{"data.csv": data + "9,9\n"})
	w.d.repos[0].nudge()
	w.until("it goes on", syncedAt(next))
}

// R10: the branch is set back to an older commit, whose files would take something away and change something.
func TestR10AHistorySetBackWaitsForAnApproval(t *testing.T) {
	tm := newTeam(t, small())
	old := tm.push("again", nil)
	now := tm.push("more", map[string]string{"p.ml.hcl": "dataset \"d\" { source = \"data.csv\" }\ndataset \"e\" { source = \"data.csv\" }\n", "data.csv": data + "7,8\n"})
	w := start(t, t.TempDir(), repository(tm, "policy {\n allow = [\"create\", \"update\", \"replace\", \"delete\", \"run\"]\n max_delete_share = 1.0\n}\n"))
	w.until("the newer commit is applied", syncedAt(now))
	wt, err := tm.repo.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	if err := wt.Reset(&git.ResetOptions{Commit: plumbing.NewHash(old), Mode: git.HardReset}); err != nil {
		t.Fatal(err)
	}
	w.d.repos[0].nudge()
	s := w.until("the plan waits", func(s status.Repository) bool { return s.Phase == status.Held })
	if s.Applied.Commit != now || len(s.Blocks) != 2 || !strings.Contains(strings.Join(s.Held.Why, ";"), "rewritten") {
		t.Fatalf("%+v", s)
	}
	if code, body := w.post("/api/v1/repositories/r/approve/" + s.Held.ID); code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	s = w.until("it is applied", syncedAt(old))
	if len(s.Blocks) != 1 {
		t.Errorf("%+v", s.Blocks)
	}
}
