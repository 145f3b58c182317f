package daemon

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/internal/forge"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// fakeForge has pull requests and comments in memory; e2e/gitops has a real one.
type fakeForge struct {
	mu       sync.Mutex
	pulls    []forge.Pull
	comments map[int][]forge.Comment
	statuses map[string]forge.Status
	may      map[string]forge.Permission
	id       int64
}

func newFakeForge() *fakeForge {
	return &fakeForge{comments: map[int][]forge.Comment{}, statuses: map[string]forge.Status{}, may: map[string]forge.Permission{}}
}

func (f *fakeForge) Login(context.Context) (string, error) { return "bot", nil }

func (f *fakeForge) Pulls(context.Context) ([]forge.Pull, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]forge.Pull(nil), f.pulls...), nil
}

func (f *fakeForge) Comments(_ context.Context, n int, _ time.Time) ([]forge.Comment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]forge.Comment(nil), f.comments[n]...), nil
}

func (f *fakeForge) write(n int, by, body string) forge.Comment {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.id++
	c := forge.Comment{ID: f.id, Author: by, Body: body, Created: time.Now()}
	f.comments[n] = append(f.comments[n], c)
	return c
}

func (f *fakeForge) Reply(_ context.Context, n int, body string) (forge.Comment, error) {
	return f.write(n, "bot", body), nil
}

func (f *fakeForge) PutComment(_ context.Context, n int, marker, body string) (forge.Comment, error) {
	f.mu.Lock()
	for i, c := range f.comments[n] {
		if c.Author == "bot" && strings.HasPrefix(c.Body, marker) {
			f.comments[n][i].Body = body
			f.mu.Unlock()
			return f.comments[n][i], nil
		}
	}
	f.mu.Unlock()
	return f.write(n, "bot", body), nil
}

func (f *fakeForge) SetStatus(_ context.Context, commit string, s forge.Status) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses[commit] = s
	return nil
}

func (f *fakeForge) Permission(_ context.Context, user string) (forge.Permission, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.may[user], nil
}

func (f *fakeForge) status(commit string) forge.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.statuses[commit]
}

func (f *fakeForge) set(pulls ...forge.Pull) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulls = pulls
}

// bot gives what the daemon wrote on a pull request, one text.
func (f *fakeForge) bot(n int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for _, c := range f.comments[n] {
		if c.Author == "bot" {
			b.WriteString(c.Body + "\n=====\n")
		}
	}
	return b.String()
}

// propose makes a commit that is on no branch but a pull request's, and gives its hash.
func (tm *team) propose(n int, files map[string]string) forge.Pull {
	tm.t.Helper()
	head, err := tm.repo.Head()
	if err != nil {
		tm.t.Fatal(err)
	}
	branch, err := tm.repo.Storer.Reference(plumbing.HEAD)
	if err == nil { // apart from the branch, which must not move for a moment even
		err = tm.repo.Storer.SetReference(plumbing.NewHashReference(plumbing.HEAD, head.Hash()))
	}
	if err != nil {
		tm.t.Fatal(err)
	}
	commit := tm.push("proposed", files)
	ref := fmt.Sprintf("refs/pull/%d/head", n)
	if err := tm.repo.Storer.SetReference(plumbing.NewHashReference(plumbing.ReferenceName(ref), plumbing.NewHash(commit))); err != nil {
		tm.t.Fatal(err)
	}
	wt, err := tm.repo.Worktree()
	if err == nil {
		err = wt.Reset(&git.ResetOptions{Commit: head.Hash(), Mode: git.HardReset})
	}
	if err == nil {
		err = tm.repo.Storer.SetReference(branch)
	}
	if err != nil {
		tm.t.Fatal(err)
	}
	return forge.Pull{Number: n, Head: commit, HeadBranch: "change", Base: "master", Ref: ref, Open: true, Author: "ada"}
}

const withForge = "forge {\n kind = \"gitea\"\n url = \"http://127.0.0.1:1\"\n repo = \"team/models\"\n token_env = \"PATH\"\n}\n"

func (w *works) eventually(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			w.t.Fatalf("%s: never so", what)
		case <-tick.C:
		}
	}
}

func startWithForge(t *testing.T, tm *team, f *fakeForge, more string) *works {
	t.Helper()
	return startWith(t, t.TempDir(), repository(tm, withForge+more), func(*ForgeConfig) (Forge, error) { return f, nil })
}

func TestAPullRequestShowsItsPlan(t *testing.T) {
	tm, f := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data}), newFakeForge()
	first := tm.push("again", nil)
	w := startWithForge(t, tm, f, "")
	w.until("the first commit is applied", syncedAt(first))
	p := tm.propose(1, map[string]string{"train.sh": train + "# better\n"})
	f.set(p)
	w.d.repos[0].nudge()
	w.eventually("the comment is there", func() bool { return f.status(p.Head).State == forge.Success })
	for _, want := range []string{"training.t", "validation.v", "code"} {
		if !strings.Contains(f.bot(1), want) {
			t.Errorf("the comment lacks %q:\n%s", want, f.bot(1))
		}
	}
	// A second push edits the same comment.
	p2 := tm.propose(1, map[string]string{"p.ml.hcl": "dataset \"d\" { source = }"})
	f.set(p2)
	w.d.repos[0].nudge()
	w.eventually("the comment is edited", func() bool { return f.status(p2.Head).State == forge.Failure })
	if text := f.bot(1); strings.Count(text, "=====") != 1 || !strings.Contains(text, "No plan") || !strings.Contains(text, "p.ml.hcl") {
		t.Errorf("the comment:\n%s", text)
	}
	if s := w.d.repos[0].look(); s.Applied.Commit != first || s.Phase != status.Synced {
		t.Errorf("the branch was touched: %+v", s)
	}
}

func TestACommandIsAnsweredOnceAndOnlyToThoseWhoMay(t *testing.T) {
	tm, f := newTeam(t, map[string]string{"p.ml.hcl": project + "\ndataset \"extra\" { source = \"data.csv\" }\n", "train.sh": train, "data.csv": data}), newFakeForge()
	f.may["ada"], f.may["eve"] = forge.Write, forge.Read
	first := tm.push("again", nil)
	w := startWithForge(t, tm, f, "")
	w.until("the first commit is applied", syncedAt(first))
	p := tm.propose(1, map[string]string{"p.ml.hcl": project})
	f.set(p)
	say := func(by, text, want string) {
		t.Helper()
		before := strings.Count(f.bot(1), "=====")
		f.write(1, by, text)
		w.d.repos[0].nudge()
		w.eventually(text+" is answered", func() bool { return strings.Count(f.bot(1), "=====") > before })
		all := strings.Split(f.bot(1), "=====")
		if last := all[len(all)-2]; !strings.Contains(last, want) {
			t.Errorf("%s: %s answers %q; want %q", by, text, last, want)
		}
	}
	w.d.repos[0].nudge()
	w.eventually("the comment is there", func() bool { return f.status(p.Head).State == forge.Success })
	say("mallory", "ml plan", "needs the right to read")
	say("eve", "ml approve", "needs the right to write")
	say("eve", "ml explain dataset.extra", "dataset.extra")
	f.write(1, "ada", "ml approve -- -var-file=/etc/passwd")
	f.write(1, "ada", "please ml approve")
	f.write(1, "ada", "ml plan\nml approve")
	say("ada", "ml approve", "runs when this is merged")
	if n := strings.Count(f.bot(1), "Approved"); n != 1 {
		t.Errorf("%d approvals:\n%s", n, f.bot(1))
	}
	// Merged as it was approved: the deletion needs nobody any more.
	merged := tm.push("merged", map[string]string{"p.ml.hcl": project})
	f.set()
	w.d.repos[0].nudge()
	s := w.until("it is applied", syncedAt(merged))
	for _, b := range s.Blocks {
		if b.Address == "dataset.extra" {
			t.Error("dataset.extra is still there")
		}
	}
}

func TestAnApprovalIsForThatContentOnly(t *testing.T) {
	tm, f := newTeam(t, map[string]string{"p.ml.hcl": project + "\ndataset \"extra\" { source = \"data.csv\" }\n", "train.sh": train, "data.csv": data}), newFakeForge()
	f.may["ada"] = forge.Write
	first := tm.push("again", nil)
	w := startWithForge(t, tm, f, "")
	w.until("the first commit is applied", syncedAt(first))
	f.set(tm.propose(1, map[string]string{"p.ml.hcl": project}))
	f.write(1, "ada", "ml approve")
	w.d.repos[0].nudge()
	w.eventually("it is approved", func() bool { return strings.Contains(f.bot(1), "runs when this is merged") })
	// Something else is merged, of which the same steps come.
	tm.push("merged with more", map[string]string{"p.ml.hcl": project, "readme": "nobody saw this"})
	f.set()
	w.d.repos[0].nudge()
	s := w.until("it waits", func(s status.Repository) bool { return s.Phase == status.Held })
	if s.Applied.Commit != first {
		t.Errorf("applied %s", s.Applied.Commit)
	}
}

func TestAForeignPlanShowsNoValuesAndReadsNoVariables(t *testing.T) {
	const secret = "hunter2-the-secret"
	files := map[string]string{
		"p.ml.hcl": "variable \"key\" {\n  sensitive = true\n  default = \"\"\n}\n" + project, "train.sh": train, "data.csv": data,
	}
	tm, f := newTeam(t, files), newFakeForge()
	first := tm.push("again", nil)
	w := startWithForge(t, tm, f, "variables = { key = \""+secret+"\" }\n")
	w.until("the first commit is applied", syncedAt(first))
	p := tm.propose(1, map[string]string{"p.ml.hcl": "variable \"key\" { default = \"none\" }\noutput \"o\" { value = var.key }\n" +
		strings.Replace(project, `["sh", "train.sh"]`, `["sh", "train.sh", var.key]`, 1)})
	p.Fork = true
	f.set(p)
	w.d.repos[0].nudge()
	w.eventually("the comment is there", func() bool { return f.status(p.Head).State != "" })
	if text := f.bot(1); strings.Contains(text, secret) || !strings.Contains(text, "training.t") {
		t.Errorf("the comment:\n%s", text)
	}
	// Without a default there is no value at all, and nothing to show by an error.
	p = tm.propose(1, map[string]string{"p.ml.hcl": "variable \"key\" { default = \"x\" }\n" + strings.Replace(project, `["sh", "train.sh"]`, `["sh", tonumber(var.key)]`, 1)})
	p.Fork = true
	f.set(p)
	w.d.repos[0].nudge()
	w.eventually("the error is there", func() bool { return f.status(p.Head).State == forge.Failure })
	if text := f.bot(1); strings.Contains(text, secret) {
		t.Errorf("the comment:\n%s", text)
	}
	needs := tm.propose(1, map[string]string{"p.ml.hcl": "variable \"key\" {}\n" + strings.Replace(project, `["sh", "train.sh"]`, `["sh", "train.sh", var.key]`, 1)})
	needs.Fork = true
	f.set(needs)
	w.d.repos[0].nudge()
	w.eventually("it has no value", func() bool { return f.status(needs.Head).State == forge.Failure })
}

// A pull request's files may take the word sensitive away: what the branch calls so does not reach them, from whoever they are.
func TestAPullRequestGetsNoSensitiveVariable(t *testing.T) {
	const secret = "hunter2-the-secret"
	branch := "variable \"key\" {\n  sensitive = true\n  default = \"none\"\n}\nvariable \"rows\" { default = 0 }\n" + project
	tm, f := newTeam(t, map[string]string{"p.ml.hcl": branch, "train.sh": train, "data.csv": data}), newFakeForge()
	first := tm.push("again", nil)
	w := startWithForge(t, tm, f, "variables = { key = \""+secret+"\", rows = 7 }\n")
	w.until("the first commit is applied", syncedAt(first))
	p := tm.propose(1, map[string]string{"p.ml.hcl": "variable \"key\" { default = \"none\" }\nvariable \"rows\" { default = 0 }\n" +
		strings.Replace(project, `["sh", "train.sh"]`, `["sh", "train.sh", var.key, "rows-${var.rows}"]`, 1)})
	f.set(p)
	w.d.repos[0].nudge()
	w.eventually("the comment is there", func() bool { return f.status(p.Head).State == forge.Success })
	text := f.bot(1)
	if strings.Contains(text, secret) || !strings.Contains(text, "none") || !strings.Contains(text, "rows-7") || !strings.Contains(text, "kept from pull requests") {
		t.Errorf("the comment:\n%s", text)
	}
}

// What git does not give now is no fault of the files: nothing is said of them, and it is tried again.
func TestAHeadThatCannotBeFetchedIsNotTold(t *testing.T) {
	tm, f := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data}), newFakeForge()
	first := tm.push("again", nil)
	w := startWithForge(t, tm, f, "")
	w.until("the first commit is applied", syncedAt(first))
	p := tm.propose(1, map[string]string{"train.sh": train + "# better\n"})
	there := p.Ref
	p.Ref = "refs/pull/9/head"
	f.set(p)
	err := w.d.repos[0].comment(t.Context(), p)
	if err == nil || f.status(p.Head).State != "" || f.bot(1) != "" {
		t.Errorf("%v, status %q, comment %q", err, f.status(p.Head).State, f.bot(1))
	}
	p.Ref = there
	f.set(p)
	w.d.repos[0].nudge()
	w.eventually("the comment is there", func() bool { return f.status(p.Head).State == forge.Success })
}

func TestACommandIsALineAndNothingElse(t *testing.T) {
	for text, want := range map[string]command{
		"ml plan": {"plan", ""}, "  ml apply\n": {"apply", ""}, "ml approve": {"approve", ""}, "ml approve 3f2a91bc04de": {"approve", "3f2a91bc04de"},
		"ml explain training.churn": {"explain", "training.churn"}, `ml explain module.eu.training.churn["de"]`: {"explain", `module.eu.training.churn["de"]`},
	} {
		if got, ok := parseCommand(text); !ok || got != want {
			t.Errorf("%q is %+v, %v", text, got, ok)
		}
	}
	for _, text := range []string{
		"", "ml", "ml destroy", "please ml plan", "ml plan please", "ml plan\nml apply", "> ml apply", "`ml apply`", "ml approve -- -var-file=/etc/passwd", "ml approve ../../x",
		"ml approve 3F2A", "ml explain", "ml explain a;b", "ml explain $(id)", "ML PLAN", "ml\tplan", "ml  plan", "ml plan -var x=y", "ml explain " + strings.Repeat("a", 300),
	} {
		if got, ok := parseCommand(text); ok {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

func TestAnApprovalIsForTheStepsThatWereSeen(t *testing.T) {
	step := func(name string, a resource.Action) *planner.Step {
		return &planner.Step{Address: resource.Address{Kind: "dataset", Name: name}, Action: a}
	}
	seen := allowed{Steps: map[string]resource.Action{"dataset.a": resource.Delete, "dataset.b": resource.Update}}
	for name, c := range map[string]struct {
		steps []*planner.Step
		want  bool
	}{
		"what was seen":     {[]*planner.Step{step("a", resource.Delete), step("b", resource.Update)}, true},
		"less":              {[]*planner.Step{step("b", resource.Update)}, true},
		"what does nothing": {[]*planner.Step{step("c", resource.Noop), step("d", resource.Blocked)}, true},
		"more":              {[]*planner.Step{step("a", resource.Delete), step("c", resource.Create)}, false},
		"something else":    {[]*planner.Step{step("b", resource.Delete)}, false},
	} {
		if got := seen.covers(&planner.Plan{Steps: c.steps}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestWebhooksWithoutASignatureAreRefused(t *testing.T) {
	t.Setenv("HOOK_SECRET", "s3cret")
	tm, f := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data}), newFakeForge()
	with := strings.Replace(withForge, "token_env", "webhook_secret_env = \"HOOK_SECRET\"\n token_env", 1)
	w := startWith(t, t.TempDir(), repository(tm, with), func(*ForgeConfig) (Forge, error) { return f, nil })
	resp, err := http.Post(w.srv.URL+"/hooks/r", "application/json", strings.NewReader(`{"ref":"refs/heads/master"}`)) //nolint:noctx // a test of a server of its own
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("W1: %d, %v", resp.StatusCode, err)
	}
	if code, _ := w.get("/hooks/r"); code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", code)
	}
}

func TestACandidateThatWasTrainedBeforeShowsItsMetricsBesideTheChampions(t *testing.T) {
	tm, f := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data}), newFakeForge()
	w := startWithForge(t, tm, f, "")
	first := tm.push("again", nil)
	w.d.repos[0].nudge()
	w.until("the first commit is applied", syncedAt(first))
	second := tm.push("more", map[string]string{"data.csv": data + "7,8\n"})
	w.d.repos[0].nudge()
	w.until("the second commit is applied", syncedAt(second))
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"trained before", map[string]string{"data.csv": data}, "| `training.t` | `rows` | `5` | `4` |"},
		{"not trained yet", map[string]string{"data.csv": data + "9,9\n"}, ""},
	} {
		body, _, _, err := w.d.repos[0].planned(t.Context(), tm.propose(1, c.files))
		if err != nil {
			t.Fatal(err)
		}
		if has := strings.Contains(body, "| champion |"); has != (c.want != "") || !strings.Contains(body, c.want) {
			t.Errorf("%s:\n%s", c.name, body)
		}
	}
}
