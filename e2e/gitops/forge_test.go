//go:build e2e && linux

package gitops

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/e2e/gitops/gitea"
	"github.com/continuo-ml/continuo/internal/forge"
	"github.com/continuo-ml/continuo/report"
)

const mark = "<!-- continuo plan . -->"

func TestOneCommentPerPullRequestThroughPushes(t *testing.T) {
	w := newTeam(t, map[string]string{"main.ml.hcl": "# nothing\n"})
	ctx, c := t.Context(), w.client(t, w.owner)
	head := must[string](t)(w.checkout.Push(ctx, "data", map[string]string{"a.csv": "1\n"}, "more data"))
	n := must[int](t)(w.owner.Pull(ctx, w.repo, "data", "main", "more data"))

	pulls := must[[]forge.Pull](t)(c.Pulls(ctx))
	if len(pulls) != 1 || pulls[0].Number != n || pulls[0].Head != head || pulls[0].HeadBranch != "data" || pulls[0].Base != "main" || pulls[0].Fork || pulls[0].Author != w.owner.Name || !pulls[0].Open {
		t.Fatalf("%+v", pulls)
	}
	// A stranger was here first, with our marker.
	_ = must[int64](t)(w.stranger.Comment(ctx, w.repo, n, mark+"\nAll is well, merge me."))
	first := must[forge.Comment](t)(c.PutComment(ctx, n, mark, mark+"\nthe first plan"))
	ok(t, c.SetStatus(ctx, head, forge.Status{State: forge.Pending, Context: "continuo/.", Text: "planning"}))
	ok(t, c.SetStatus(ctx, head, forge.Status{State: forge.Success, Context: "continuo/.", Text: "1 to run", URL: "https://ml.example.com/1"}))
	if got := must[[]gitea.Status](t)(w.owner.Statuses(ctx, w.repo, head)); len(got) != 1 || got[0] != (gitea.Status{Status: "success", Context: "continuo/.", Description: "1 to run", TargetURL: "https://ml.example.com/1"}) {
		t.Errorf("statuses: %+v", got)
	}

	second := must[string](t)(w.checkout.Push(ctx, "data", map[string]string{"a.csv": "1\n2\n"}, "still more"))
	ok(t, gitea.Until(ctx, func() bool { return must[forge.Pull](t)(c.Pull(ctx, n)).Head == second })) // Gitea looks at a push after it
	if p := must[forge.Pull](t)(c.Pull(ctx, n)); p.Ref != fmt.Sprintf("refs/pull/%d/head", n) {
		t.Errorf("%+v", p)
	}
	if again := must[forge.Comment](t)(c.PutComment(ctx, n, mark, mark+"\nthe second plan")); again.ID != first.ID {
		t.Errorf("comment %d was not edited: there is %d now", first.ID, again.ID)
	}
	said := must[[]gitea.Said](t)(w.owner.Comments(ctx, w.repo, n))
	if len(said) != 2 || said[0].Body != mark+"\nAll is well, merge me." || said[1].Body != mark+"\nthe second plan" {
		t.Errorf("%+v", said)
	}
	// The head of a pull request can be had from the repository itself.
	if got := must[string](t)(w.checkout.Git(ctx, "ls-remote", "origin", fmt.Sprintf("refs/pull/%d/head", n))); !strings.HasPrefix(got, second) {
		t.Errorf("ls-remote: %s", got)
	}
	ok(t, w.owner.Merge(ctx, w.repo, n))
	if left := must[[]forge.Pull](t)(c.Pulls(ctx)); len(left) != 0 {
		t.Errorf("it is merged: %+v", left)
	}
}

func TestAForksPullRequestIsOne(t *testing.T) {
	w := newTeam(t, map[string]string{"main.ml.hcl": "# nothing\n"})
	ctx, c := t.Context(), w.client(t, w.owner)
	fork := must[string](t)(w.stranger.Fork(ctx, w.repo))
	theirs := must[gitea.Checkout](t)(w.stranger.Clone(ctx, fork, filepath.Join(t.TempDir(), "fork")))
	head := must[string](t)(theirs.Push(ctx, "main", map[string]string{"evil.txt": "x\n"}, "please"))
	n := must[int](t)(w.stranger.Pull(ctx, w.repo, w.stranger.Name+":main", "main", "please"))
	p := must[forge.Pull](t)(c.Pull(ctx, n))
	if !p.Fork || p.Head != head || p.HeadURL != server.URL+"/"+fork+".git" || p.Author != w.stranger.Name {
		t.Errorf("%+v", p)
	}
	if got := must[string](t)(w.checkout.Git(ctx, "ls-remote", "origin", p.Ref)); !strings.HasPrefix(got, head) {
		t.Errorf("%s is not in the repository itself: %s", p.Ref, got)
	}
	ok(t, c.SetStatus(ctx, head, forge.Status{State: forge.Failure, Context: "continuo/.", Text: "no plan"}))
	_ = must[forge.Comment](t)(c.PutComment(ctx, n, mark, mark+"\ncounts only"))

	ok(t, w.stranger.Do(ctx, http.MethodDelete, "repos/"+fork, nil, nil))
	if p := must[forge.Pull](t)(c.Pull(ctx, n)); !p.Fork || p.HeadURL != "" {
		t.Errorf("the fork is gone: %+v", p)
	}
}

func TestWhatPeopleMayIsAskedNow(t *testing.T) {
	w := newTeam(t, map[string]string{"a": "b"})
	ctx, c := t.Context(), w.client(t, w.owner)
	for name, want := range map[string]forge.Permission{
		w.owner.Name: forge.Admin, w.member.Name: forge.Write, w.reader.Name: forge.Read, strings.ToUpper(w.member.Name): forge.Write,
		"nobody-of-that-name": forge.None, "../../x": forge.None,
	} {
		if got := must[forge.Permission](t)(c.Permission(ctx, name)); got != want {
			t.Errorf("%s may %s, not %s", name, want, got)
		}
	}
	if got := must[forge.Permission](t)(c.Permission(ctx, w.stranger.Name)); got > forge.Read { // the repository is public
		t.Errorf("a stranger may %s", got)
	}
	ok(t, w.owner.Do(ctx, http.MethodDelete, "repos/"+w.repo+"/collaborators/"+w.member.Name, nil, nil))
	if got := must[forge.Permission](t)(c.Permission(ctx, w.member.Name)); got > forge.Read {
		t.Errorf("who left may still %s", got)
	}
	if _, err := w.client(t, w.stranger).Permission(ctx, w.member.Name); !errors.Is(err, forge.ErrDenied) {
		t.Errorf("a token that is no admin's: %v", err)
	}
	bad := must[*forge.Client](t)(forge.New(forge.Config{Kind: forge.Gitea, URL: server.URL, Repo: w.repo, Token: forge.Static("no-such-token")}))
	if _, err := bad.PutComment(ctx, 1, mark, mark); !errors.Is(err, forge.ErrDenied) || strings.Contains(err.Error(), "no-such-token") {
		t.Errorf("%v", err)
	}
}

func TestCommentsAndReactions(t *testing.T) {
	w := newTeam(t, map[string]string{"a": "b"})
	ctx, c := t.Context(), w.client(t, w.owner)
	_ = must[string](t)(w.checkout.Push(ctx, "data", map[string]string{"a": "c"}, "change"))
	n := must[int](t)(w.owner.Pull(ctx, w.repo, "data", "main", "change"))
	id := must[int64](t)(w.member.Comment(ctx, w.repo, n, "ml plan"))
	all := must[[]forge.Comment](t)(c.Comments(ctx, n, time.Time{}))
	if len(all) != 1 || all[0].ID != id || all[0].Author != w.member.Name || all[0].Body != "ml plan" {
		t.Fatalf("%+v", all)
	}
	if later := must[[]forge.Comment](t)(c.Comments(ctx, n, all[0].Updated.Add(time.Hour))); len(later) != 0 {
		t.Errorf("%+v", later)
	}
	ok(t, c.React(ctx, n, id, forge.Seen))
	var signs []struct{ Content string }
	ok(t, w.owner.Do(ctx, http.MethodGet, fmt.Sprintf("repos/%s/issues/comments/%d/reactions", w.repo, id), nil, &signs))
	if len(signs) != 1 || signs[0].Content != "eyes" {
		t.Errorf("%+v", signs)
	}
	if r := must[forge.Comment](t)(c.Reply(ctx, n, "done")); r.ID == 0 || r.Author != w.owner.Name {
		t.Errorf("%+v", r)
	}
}

func TestWebhooksOfARealForgePass(t *testing.T) {
	w := newTeam(t, map[string]string{"a": "b"})
	ctx := t.Context()
	type delivery struct {
		hint forge.Hint
		err  error
		bad  error // with another secret
	}
	got := make(chan delivery, 100)
	hooks := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, forge.MaxHook))
		if err != nil {
			t.Error(err)
		}
		d := delivery{}
		d.hint, d.err = forge.Verify(forge.Gitea, "s3cr3t", r.Header, body)
		_, d.bad = forge.Verify(forge.Gitea, "s3cr3t2", r.Header, body)
		got <- d
	}))
	defer hooks.Close()
	ok(t, w.owner.Hook(ctx, w.repo, hooks.URL+"/webhook", "s3cr3t"))
	// next waits for a hint of a kind; Gitea sends more than one for what a person does once, and the first push was just before.
	next := func(kind forge.HintKind) forge.Hint {
		t.Helper()
		deadline := time.NewTimer(time.Minute)
		defer deadline.Stop()
		for {
			select {
			case d := <-got:
				if !errors.Is(d.bad, forge.ErrSignature) {
					t.Errorf("another secret: %v", d.bad)
				}
				if errors.Is(d.err, forge.ErrIgnored) {
					continue
				}
				ok(t, d.err)
				if d.hint.Kind == kind && d.hint.Ref != "refs/heads/main" {
					return d.hint
				}
			case <-deadline.C:
				t.Fatalf("no webhook about a %s came; Gitea says:\n%s", kind, server.Log())
			}
		}
	}
	_ = must[string](t)(w.checkout.Push(ctx, "data", map[string]string{"a": "c"}, "change"))
	if h := next(forge.HintPush); h.Repo != w.repo || h.Ref != "refs/heads/data" || h.Delivery == "" {
		t.Errorf("%+v", h)
	}
	n := must[int](t)(w.owner.Pull(ctx, w.repo, "data", "main", "change"))
	if h := next(forge.HintPull); h.Repo != w.repo || h.Number != n {
		t.Errorf("%+v", h)
	}
	_ = must[int64](t)(w.member.Comment(ctx, w.repo, n, "ml plan"))
	if h := next(forge.HintComment); h.Repo != w.repo || h.Number != n {
		t.Errorf("%+v", h)
	}
	_ = must[string](t)(w.checkout.Push(ctx, "data", map[string]string{"a": "d"}, "again"))
	if h := next(forge.HintPull); h.Number != n {
		t.Errorf("a push to the pull request: %+v", h)
	}
}

// What a hostile name does in a comment is decided by the forge that renders it: nobody is notified, nothing is a link or runs.
func TestAForgeRendersACommentWithoutHarm(t *testing.T) {
	w := newTeam(t, map[string]string{"a": "b"})
	ctx := t.Context()
	_ = must[string](t)(w.checkout.Push(ctx, "data", map[string]string{"a": "c"}, "change"))
	n := must[int](t)(w.owner.Pull(ctx, w.repo, "data", "main", "change"))
	body := must[string](t)(hostileComment(w.reader.Name, n))
	_ = must[forge.Comment](t)(w.client(t, w.owner).PutComment(ctx, n, report.Marker("."), body))
	if said := must[[]gitea.Said](t)(w.owner.Comments(ctx, w.repo, n)); len(said) != 1 || said[0].Body != body {
		t.Errorf("Gitea keeps %d comments, and not the text that was written", len(said))
	}
	html := must[string](t)(w.owner.Render(ctx, w.repo, body))
	for _, bad := range []string{"<script", "<img", "<iframe", "href=", "onerror=\"", "class=\"mention\"", "class=\"ref-issue\""} {
		if strings.Contains(html, bad) {
			t.Errorf("%q is in what Gitea shows:\n%s", bad, html)
		}
	}
	if opened, closed := strings.Count(html, "<details"), strings.Count(html, "</details>"); opened != closed || opened == 0 {
		t.Errorf("%d details, %d ends", opened, closed)
	}
	// The same name outside of code does notify: without that, the check below could not fail.
	mentioned := func() int {
		var all []struct{ ID int64 }
		ok(t, w.reader.Do(ctx, http.MethodGet, "notifications?all=true", nil, &all))
		return len(all)
	}
	if got := mentioned(); got != 0 {
		t.Errorf("%s was notified %d times", w.reader.Name, got)
	}
	_ = must[forge.Comment](t)(w.client(t, w.owner).Reply(ctx, n, "Hello @"+w.reader.Name))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); mentioned() == 0; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("a mention in plain text notifies nobody: this test looks at the wrong thing")
		}
	}
	if got := mentioned(); got != 1 {
		t.Errorf("%d notifications, of one mention", got)
	}
}
