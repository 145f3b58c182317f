package forge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pullShapes are open pull requests: from a branch, from a fork, and from a fork that is gone.
var pullShapes = map[Kind][]string{
	GitHub: {
		`{"number": 7, "state": "open", "title": "new data", "draft": false, "html_url": "https://f.example/7", "user": {"login": "ann"}, "updated_at": "2026-03-01T10:00:00Z",
		  "head": {"ref": "data", "sha": "1111111111111111111111111111111111111111", "repo": {"id": 42, "full_name": "lab/churn", "clone_url": "https://f.example/lab/churn.git"}},
		  "base": {"ref": "main", "sha": "0000000000000000000000000000000000000000", "repo": {"id": 42, "full_name": "lab/churn"}}}`,
		`{"number": 8, "state": "open", "title": "from outside", "draft": true, "html_url": "https://f.example/8", "user": {"login": "eve"}, "updated_at": "2026-03-01T11:00:00Z",
		  "head": {"ref": "main", "sha": "2222222222222222222222222222222222222222", "repo": {"id": 43, "full_name": "eve/churn", "clone_url": "https://f.example/eve/churn.git"}},
		  "base": {"ref": "main", "sha": "0000000000000000000000000000000000000000", "repo": {"id": 42, "full_name": "lab/churn"}}}`,
		`{"number": 9, "state": "open", "title": "gone", "draft": false, "html_url": "https://f.example/9", "user": {"login": "eve"}, "updated_at": "2026-03-01T12:00:00Z",
		  "head": {"ref": "main", "sha": "3333333333333333333333333333333333333333", "repo": null},
		  "base": {"ref": "main", "sha": "0000000000000000000000000000000000000000", "repo": {"id": 42, "full_name": "lab/churn"}}}`,
	},
	GitLab: {
		`{"id": 900, "iid": 7, "project_id": 42, "state": "opened", "title": "new data", "draft": false, "web_url": "https://f.example/7", "author": {"id": 3, "username": "ann"}, "updated_at": "2026-03-01T10:00:00Z",
		  "sha": "1111111111111111111111111111111111111111", "source_branch": "data", "target_branch": "main", "source_project_id": 42, "target_project_id": 42}`,
		`{"id": 901, "iid": 8, "project_id": 42, "state": "opened", "title": "from outside", "draft": true, "web_url": "https://f.example/8", "author": {"id": 4, "username": "eve"}, "updated_at": "2026-03-01T11:00:00Z",
		  "sha": "2222222222222222222222222222222222222222", "source_branch": "main", "target_branch": "main", "source_project_id": 43, "target_project_id": 42}`,
		`{"id": 902, "iid": 9, "project_id": 42, "state": "opened", "title": "gone", "draft": false, "web_url": "https://f.example/9", "author": {"id": 4, "username": "eve"}, "updated_at": "2026-03-01T12:00:00Z",
		  "sha": "3333333333333333333333333333333333333333", "source_branch": "main", "target_branch": "main", "source_project_id": null, "target_project_id": 42}`,
	},
}

func TestPullRequestsTellForksOverAllPages(t *testing.T) {
	each(t, func(t *testing.T, r *recorded) {
		shapes, list, ref := pullShapes[GitHub], "pulls", "refs/pull/%d/head"
		if r.kind == GitLab {
			shapes, list, ref = pullShapes[GitLab], "merge_requests", "refs/merge-requests/%d/head"
			r.answers["GET "+r.root()+"projects/43"] = answer{200, nil, `{"id": 43, "http_url_to_repo": "https://f.example/eve/churn.git"}`}
		}
		page := 0
		r.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.EscapedPath() != r.repo()+list {
				r.serve(w, req)
				return
			}
			if got := req.URL.Query().Get("page"); got != fmt.Sprint(page+1) {
				t.Errorf("page %q is asked for, not %d", got, page+1)
			}
			if page < 2 {
				w.Header().Set("Link", fmt.Sprintf(`<%s%s?page=%d>; rel="next", <%s?page=3>; rel="last"`, r.URL, req.URL.Path, page+2, r.URL))
			}
			r.say(w, "["+shapes[page]+"]")
			page++
		})
		got, err := r.client().Pulls(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at := func(h int) time.Time { return time.Date(2026, 3, 1, h, 0, 0, 0, time.UTC) }
		want := []Pull{
			{Number: 7, Title: "new data", Author: "ann", URL: "https://f.example/7", Open: true, Head: strings.Repeat("1", 40), HeadBranch: "data", Base: "main", Updated: at(10)},
			{Number: 8, Title: "from outside", Author: "eve", URL: "https://f.example/8", Draft: true, Open: true, Head: strings.Repeat("2", 40), HeadBranch: "main", Base: "main", Fork: true, HeadURL: "https://f.example/eve/churn.git", Updated: at(11)},
			{Number: 9, Title: "gone", Author: "eve", URL: "https://f.example/9", Open: true, Head: strings.Repeat("3", 40), HeadBranch: "main", Base: "main", Fork: true, Updated: at(12)},
		}
		for i := range want {
			want[i].Ref = fmt.Sprintf(ref, want[i].Number)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		r.answers["GET "+r.repo()+list+"/7"] = answer{200, nil, shapes[0]}
		if one, err := r.client().Pull(t.Context(), 7); err != nil || one != want[0] {
			t.Errorf("%+v, %v", one, err)
		}
	})
}

func TestAForgeWithoutAnEndIsLeft(t *testing.T) {
	r := record(t, GitHub)
	n := 0
	r.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n++
		w.Header().Set("Link", fmt.Sprintf(`<%s/x?page=%d>; rel="next"`, r.URL, n+1))
		r.say(w, "[]")
	})
	if _, err := r.client().Pulls(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 100 pages") || n != maxPages {
		t.Errorf("%v after %d pages", err, n)
	}
}

const mark = "<!-- continuo plan . -->"

func TestOneCommentIsKeptUpToDate(t *testing.T) {
	each(t, func(t *testing.T, r *recorded) {
		r.comments = []Comment{
			{ID: 1, Author: "eve", Body: mark + "\nI was here first", Created: now.Add(-3 * time.Hour), Updated: now},
			{ID: 2, Author: "robot", Body: "a reply\n" + mark, Created: now.Add(-2 * time.Hour), Updated: now},
			{ID: 3, Author: "robot", Body: strings.ReplaceAll(mark, ".", "models/other") + "\nanother project", Created: now.Add(-time.Hour), Updated: now},
		}
		c := r.client()
		put := func(text string) Comment {
			t.Helper()
			done, err := c.PutComment(t.Context(), 7, mark, mark+"\n"+text)
			if err != nil {
				t.Fatal(err)
			}
			return done
		}
		first := put("one")
		if second := put("two"); second.ID != first.ID || first.ID < 100 {
			t.Errorf("the first is %d, the second %d", first.ID, second.ID)
		}
		writes := len(r.requests)
		put("two\r\n")
		if got := len(r.requests) - writes; got != 1 {
			t.Errorf("the same text took %d requests, not only the one that lists", got)
		}
		var bodies []string
		for _, k := range r.comments {
			bodies = append(bodies, k.Body)
		}
		want := []string{mark + "\nI was here first", "a reply\n" + mark, strings.ReplaceAll(mark, ".", "models/other") + "\nanother project", mark + "\ntwo"}
		if d := cmp.Diff(want, bodies); d != "" {
			t.Error(d)
		}
		if n := r.asked("GET " + r.root() + "user"); n != 1 {
			t.Errorf("who we are was asked %d times", n)
		}
		if _, err := c.PutComment(t.Context(), 7, mark, "no marker"); err == nil {
			t.Error("a comment without its marker was written: it would never be found again")
		}
	})
}

func TestACommentThatWasDeletedMeanwhileIsWrittenAnew(t *testing.T) {
	each(t, func(t *testing.T, r *recorded) {
		r.comments = []Comment{{ID: 5, Author: "Robot", Body: mark + "\nold", Created: now, Updated: now}}
		one := "PATCH " + r.repo() + "issues/comments/5"
		if r.kind == GitLab {
			one = "PUT " + r.repo() + "merge_requests/7/notes/5"
		}
		r.answers[one] = answer{404, nil, `{"message": "404 Not found"}`}
		done, err := r.client().PutComment(t.Context(), 7, mark, mark+"\nnew")
		if err != nil || done.ID != 101 {
			t.Errorf("%+v, %v", done, err)
		}
	})
}

func TestALongCommentIsInTheBody(t *testing.T) {
	each(t, func(t *testing.T, r *recorded) {
		long := mark + "\n" + strings.Repeat("x", 59_000)
		if _, err := r.client().PutComment(t.Context(), 7, mark, long); err != nil {
			t.Fatal(err)
		}
		for _, q := range r.requests {
			if len(q) > 2000 {
				t.Errorf("an address of %d bytes: servers refuse it", len(q))
			}
		}
		if len(r.comments) != 1 || r.comments[0].Body != long {
			t.Error("the comment is not what was written")
		}
	})
}

func TestCommentsSinceATime(t *testing.T) {
	each(t, func(t *testing.T, r *recorded) {
		for i := range 4 {
			at := now.Add(time.Duration(i) * time.Minute)
			r.comments = append(r.comments, Comment{ID: int64(i + 1), Author: "ann", Body: fmt.Sprint("ml plan ", i), Created: at, Updated: at})
		}
		r.comments[2].Author = "system"
		got, err := r.client().Comments(t.Context(), 7, now.Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		want := r.comments[1:]
		if r.kind == GitLab { // what GitLab itself notes is nobody's comment
			want = []Comment{r.comments[1], r.comments[3]}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if r.kind != GitLab && r.asked("GET "+r.repo()+"issues/7/comments?page=1&per_page=100&since=2026-03-02T09%3A31%3A00Z") != 1 {
			t.Errorf("the time was not sent: %q", r.requests)
		}
	})
}

func TestTheStatusOfACommit(t *testing.T) {
	each(t, func(t *testing.T, r *recorded) {
		sha := strings.Repeat("ab", 20)
		path := r.repo() + "statuses/" + sha
		r.answers["POST "+path] = answer{201, nil, `{}`}
		s := Status{State: Failure, Context: "continuo/.", Text: strings.Repeat("ü", 200), URL: "https://ml.example.com/1"}
		if err := r.client().SetStatus(t.Context(), sha, s); err != nil {
			t.Fatal(err)
		}
		sent := r.bodies["POST "+path] + r.requests[0]
		state := `"state":"failure"`
		if r.kind == GitLab {
			state = `"state":"failed"`
		}
		for _, want := range []string{state, "continuo", "ml.example.com"} {
			if !strings.Contains(sent, want) {
				t.Errorf("%q is not in %s", want, sent)
			}
		}
		if n := strings.Count(sent, "ü") + strings.Count(sent, "%C3%BC"); n != 140 {
			t.Errorf("%d characters of text", n)
		}
		r.answers["POST "+path] = answer{400, nil, `{"message": "Cannot transition status via :run from :running (Reason(s): Status cannot transition via \"run\")"}`}
		if err := r.client().SetStatus(t.Context(), sha, Status{State: Pending, Context: "x"}); err != nil && r.kind == GitLab {
			t.Errorf("a status that is so already: %v", err)
		}
		for _, bad := range []string{"", "main", "../../admin", sha[:7]} {
			if err := r.client().SetStatus(t.Context(), bad, s); err == nil {
				t.Errorf("the status of %q was set", bad)
			}
		}
	})
}

func TestPermissionIsAskedAtThatMoment(t *testing.T) {
	hubShape := `{"permission": %q, "role_name": %q, "user": {"login": "ann", "id": 3}}`
	for _, tt := range []struct {
		said string
		want Permission
	}{{"admin", Admin}, {"owner", Admin}, {"write", Write}, {"read", Read}, {"none", None}, {"something new", None}} {
		for _, k := range []Kind{GitHub, Gitea} {
			r := record(t, k)
			r.answers["GET "+r.repo()+"collaborators/ann/permission"] = answer{200, nil, fmt.Sprintf(hubShape, tt.said, tt.said)}
			c := r.client()
			for range 2 {
				if got, err := c.Permission(t.Context(), "ann"); err != nil || got != tt.want {
					t.Errorf("%s says %q: %v, %v", k, tt.said, got, err)
				}
			}
			if n := r.asked("GET " + r.repo() + "collaborators/ann"); n != 2 {
				t.Errorf("asked %d times, for two questions", n)
			}
			r.answers["GET "+r.repo()+"collaborators/bob/permission"] = answer{200, nil, fmt.Sprintf(hubShape, "admin", "admin")}
			if got, err := c.Permission(t.Context(), "bob"); err != nil || got != None {
				t.Errorf("an answer about ann lets bob %v (%v)", got, err)
			}
		}
	}
}

func TestPermissionOnGitLab(t *testing.T) {
	user := `[{"id": 3, "username": "ann", "state": %q}, {"id": 4, "username": "ann2", "state": "active"}]`
	member := `{"id": 3, "username": "ann", "state": "active", "access_level": %d, "expires_at": null}`
	for _, tt := range []struct {
		users, member string
		status        int
		want          Permission
	}{
		{fmt.Sprintf(user, "active"), fmt.Sprintf(member, 50), 200, Admin},
		{fmt.Sprintf(user, "active"), fmt.Sprintf(member, 40), 200, Admin},
		{fmt.Sprintf(user, "active"), fmt.Sprintf(member, 30), 200, Write},
		{fmt.Sprintf(user, "active"), fmt.Sprintf(member, 20), 200, Read},
		{fmt.Sprintf(user, "active"), fmt.Sprintf(member, 5), 200, None},
		{fmt.Sprintf(user, "active"), `{"message": "404 Not found"}`, 404, None},
		{fmt.Sprintf(user, "active"), `{"id": 3, "state": "awaiting", "access_level": 50}`, 200, None},
		{fmt.Sprintf(user, "active"), `{"id": 4, "state": "active", "access_level": 50}`, 200, None},
		{fmt.Sprintf(user, "blocked"), fmt.Sprintf(member, 50), 200, None},
		{`[]`, fmt.Sprintf(member, 50), 200, None},
	} {
		r := record(t, GitLab)
		r.answers["GET /api/v4/users"] = answer{200, nil, tt.users}
		r.answers["GET "+r.repo()+"members/all/3"] = answer{tt.status, nil, tt.member}
		if got, err := r.client().Permission(t.Context(), "ann"); err != nil || got != tt.want {
			t.Errorf("%s, %s: %v, %v", tt.users, tt.member, got, err)
		}
	}
}

func TestAStrangerMayNothing(t *testing.T) {
	each(t, func(t *testing.T, r *recorded) {
		r.answers["GET "+r.repo()+"collaborators/eve/permission"] = answer{404, nil, `{"message": "Not Found"}`}
		r.answers["GET /api/v4/users"] = answer{200, nil, `[]`}
		if got, err := r.client().Permission(t.Context(), "eve"); err != nil || got != None {
			t.Errorf("%v, %v", got, err)
		}
		asked := len(r.requests)
		for _, name := range []string{"", ".", "..", "../../user", "a/b", "a?b", "a b", "a%2fb"} {
			if got, err := r.client().Permission(t.Context(), name); err != nil || got != None {
				t.Errorf("%q: %v, %v", name, got, err)
			}
		}
		if len(r.requests) != asked {
			t.Errorf("a name that nobody has was asked for: %q", r.requests[asked:])
		}
	})
}

func TestReactions(t *testing.T) {
	for k, want := range map[Kind][2]string{
		GitHub: {"/api/v3/repos/lab/churn/issues/comments/5/reactions", "eyes"},
		GitLab: {"/api/v4/projects/lab%2Fchurn/merge_requests/7/notes/5/award_emoji", "eyes"},
		Gitea:  {"/api/v1/repos/lab/churn/issues/comments/5/reactions", "eyes"},
	} {
		r := record(t, k)
		r.answers["POST "+want[0]] = answer{201, nil, `{"id": 1, "content": "eyes", "name": "eyes"}`}
		if err := r.client().React(t.Context(), 7, 5, Seen); err != nil {
			t.Errorf("%s: %v", k, err)
		}
		if sent := r.bodies["POST "+want[0]] + r.requests[0]; !strings.Contains(sent, want[1]) {
			t.Errorf("%s: %s", k, sent)
		}
	}
}

// The token of GitHub's own CI may not ask who it is; its other API says it.
func TestATokenOfACIKnowsItsOwnComments(t *testing.T) {
	r := record(t, GitHub)
	r.answers["GET /api/v3/user"] = answer{403, nil, `{"message": "Resource not accessible by integration"}`}
	r.answers["POST /api/graphql"] = answer{200, nil, `{"data": {"viewer": {"login": "github-actions[bot]"}}}`}
	if who, err := r.client().Login(t.Context()); err != nil || who != "github-actions[bot]" {
		t.Errorf("%q, %v", who, err)
	}
	each(t, func(t *testing.T, r *recorded) {
		r.answers["GET "+r.root()+"user"] = answer{403, nil, `{"message": "no"}`}
		r.answers["POST /api/graphql"] = answer{403, nil, `{"message": "no"}`}
		c := r.client()
		if _, err := c.Login(t.Context()); err == nil {
			t.Error("nobody said who the token is, and it is somebody")
		}
		c.cfg.Login = "ci"
		if who, err := c.Login(t.Context()); err != nil || who != "ci" {
			t.Errorf("%q, %v", who, err)
		}
	})
}
