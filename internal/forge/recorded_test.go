package forge

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorded answers as the API of a forge does, in the shapes that its documentation gives; what the tests do not read is left out of them.
// It is no forge: that is what the tests of e2e/gitops run against.
type recorded struct {
	*httptest.Server
	t    *testing.T
	kind Kind

	mu       sync.Mutex
	comments []Comment
	next     int64
	requests []string          // "METHOD path?query"
	bodies   map[string]string // of the last request with that method and path
	answers  map[string]answer // by "METHOD path", before everything else
}

type answer struct {
	status int
	header map[string]string
	body   string
}

const token = "s3cr3t-t0ken"

func record(t *testing.T, kind Kind) *recorded {
	r := &recorded{t: t, kind: kind, next: 100, bodies: map[string]string{}, answers: map[string]answer{}}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *recorded) client() *Client {
	r.t.Helper()
	c, err := New(Config{Kind: r.kind, URL: r.URL, Repo: "lab/churn", Token: Static(token), Now: func() time.Time { return now }})
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

var now = time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)

// root is what the paths of the kind begin with.
func (r *recorded) root() string {
	return map[Kind]string{GitHub: "/api/v3/", GitLab: "/api/v4/", Gitea: "/api/v1/"}[r.kind]
}

func (r *recorded) repo() string {
	if r.kind == GitLab {
		return r.root() + "projects/lab%2Fchurn/"
	}
	return r.root() + "repos/lab/churn/"
}

func (r *recorded) serve(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
	}
	path := req.URL.EscapedPath()
	key := req.Method + " " + path
	r.requests = append(r.requests, req.Method+" "+req.URL.RequestURI())
	r.bodies[key] = string(body)
	if got := req.Header.Get("Authorization"); got != "Bearer "+token {
		r.t.Errorf("%s has Authorization %q", key, got)
	}
	if a, ok := r.answers[key]; ok {
		for k, v := range a.header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(a.status)
		r.say(w, a.body)
		return
	}
	comments := "issues/7/comments"
	one := r.repo() + "issues/comments/"
	if r.kind == GitLab {
		comments = "merge_requests/7/notes"
		one = r.repo() + "merge_requests/7/notes/"
	}
	switch {
	case key == "GET "+r.root()+"user":
		r.say(w, `{"id": 1, "login": "robot", "username": "robot", "full_name": ""}`)
	case key == "GET "+r.repo()+comments:
		r.say(w, r.list())
	case key == "POST "+r.repo()+comments:
		r.next++
		r.comments = append(r.comments, Comment{ID: r.next, Author: "robot", Body: bodyOf(r.t, body), Created: now, Updated: now})
		w.WriteHeader(http.StatusCreated)
		r.say(w, r.comment(r.comments[len(r.comments)-1]))
	case (req.Method == http.MethodPatch || req.Method == http.MethodPut) && strings.HasPrefix(path, one):
		for i := range r.comments {
			if fmt.Sprint(r.comments[i].ID) == strings.TrimPrefix(path, one) {
				r.comments[i].Body = bodyOf(r.t, body)
				r.say(w, r.comment(r.comments[i]))
				return
			}
		}
		http.Error(w, `{"message": "Not Found"}`, http.StatusNotFound)
	default:
		r.t.Errorf("nobody documented %s", key)
		w.WriteHeader(http.StatusTeapot)
	}
}

func bodyOf(t *testing.T, raw []byte) string {
	var in struct{ Body string }
	if err := json.Unmarshal(raw, &in); err != nil {
		t.Errorf("%v in %s", err, raw)
	}
	return in.Body
}

func (r *recorded) say(w io.Writer, text string) {
	if _, err := io.WriteString(w, text); err != nil {
		r.t.Log(err) // the client hung up, as some tests want it
	}
}

func (r *recorded) comment(c Comment) string {
	body, err := json.Marshal(c.Body)
	if err != nil {
		r.t.Error(err)
	}
	created, updated := c.Created.Format(time.RFC3339), c.Updated.Format(time.RFC3339)
	if r.kind == GitLab {
		return fmt.Sprintf(`{"id": %d, "type": null, "body": %s, "author": {"id": 5, "username": %q, "state": "active"}, "created_at": %q, "updated_at": %q, "system": %t, "noteable_type": "MergeRequest"}`,
			c.ID, body, c.Author, created, updated, c.Author == "system")
	}
	return fmt.Sprintf(`{"id": %d, "node_id": "x", "body": %s, "user": {"login": %q, "id": 5, "type": "User"}, "created_at": %q, "updated_at": %q, "author_association": "MEMBER"}`,
		c.ID, body, c.Author, created, updated)
}

func (r *recorded) list() string {
	all := make([]string, 0, len(r.comments))
	for _, c := range r.comments {
		all = append(all, r.comment(c))
	}
	if r.kind == GitLab { // the newest first
		for i, j := 0, len(all)-1; i < j; i, j = i+1, j-1 {
			all[i], all[j] = all[j], all[i]
		}
	}
	return "[" + strings.Join(all, ",") + "]"
}

// asked counts the requests whose "METHOD path?query" begins so.
func (r *recorded) asked(prefix string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range r.requests {
		if strings.HasPrefix(q, prefix) {
			n++
		}
	}
	return n
}

var kinds = []Kind{GitHub, GitLab, Gitea}

func each(t *testing.T, f func(t *testing.T, r *recorded)) {
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) { f(t, record(t, k)) })
	}
}
