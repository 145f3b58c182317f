package forge

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/drone/go-scm/scm"
)

// lab is GitLab's API. The library's own methods do not tell forks, and put the text of a comment into the address of the request, where a
// plan does not fit.
type lab struct{ remote }

func (l lab) path(format string, args ...any) string {
	return "api/v4/projects/" + url.PathEscape(l.repo) + "/" + fmt.Sprintf(format, args...)
}

type labPull struct {
	Number  int       `json:"iid"`
	Title   string    `json:"title"`
	State   string    `json:"state"`
	Draft   bool      `json:"draft"`
	URL     string    `json:"web_url"`
	Author  labUser   `json:"author"`
	SHA     string    `json:"sha"`
	Source  string    `json:"source_branch"`
	Target  string    `json:"target_branch"`
	From    int64     `json:"source_project_id"`
	To      int64     `json:"target_project_id"`
	Updated time.Time `json:"updated_at"`
}

type labUser struct {
	ID       int64  `json:"id"`
	Username string `json:"username"`
	State    string `json:"state"`
}

func (l lab) convert(ctx context.Context, p labPull, forks map[int64]string) Pull {
	out := Pull{
		Number: p.Number, Title: p.Title, Author: p.Author.Username, URL: p.URL, Draft: p.Draft, Open: p.State == "opened",
		Head: p.SHA, HeadBranch: p.Source, Base: p.Target, Updated: p.Updated, Ref: fmt.Sprintf("refs/merge-requests/%d/head", p.Number),
		Fork: p.From == 0 || p.From != p.To,
	}
	if out.Fork && p.From != 0 {
		out.HeadURL = l.fork(ctx, p.From, forks)
	}
	return out
}

// fork asks where a fork is. One that is private or gone has no address for us, which is no error: its commits are here.
func (l lab) fork(ctx context.Context, id int64, known map[int64]string) string {
	if at, ok := known[id]; ok {
		return at
	}
	var p struct {
		URL string `json:"http_url_to_repo"`
	}
	if _, err := l.do(ctx, http.MethodGet, fmt.Sprintf("api/v4/projects/%d", id), nil, &p); err != nil {
		p.URL = ""
	}
	known[id] = l.cloneURL(p.URL)
	return known[id]
}

func (l lab) pulls(ctx context.Context, page int) ([]Pull, *scm.Response, error) {
	var found []labPull
	res, err := l.do(ctx, http.MethodGet, l.path("merge_requests?state=opened&order_by=created_at&sort=asc&per_page=100&page=%d", page), nil, &found)
	out, forks := make([]Pull, 0, len(found)), map[int64]string{}
	for _, p := range found {
		out = append(out, l.convert(ctx, p, forks))
	}
	return out, res, err
}

func (l lab) pull(ctx context.Context, number int) (Pull, *scm.Response, error) {
	var p labPull
	res, err := l.do(ctx, http.MethodGet, l.path("merge_requests/%d", number), nil, &p)
	if err != nil {
		return Pull{}, res, err
	}
	return l.convert(ctx, p, map[int64]string{}), res, nil
}

type labNote struct {
	ID      int64     `json:"id"`
	Body    string    `json:"body"`
	Author  labUser   `json:"author"`
	System  bool      `json:"system"` // "added 1 commit": GitLab's own
	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}

func (n labNote) convert() Comment {
	return Comment{ID: n.ID, Author: n.Author.Username, Body: n.Body, Created: n.Created, Updated: n.Updated}
}

// comments come by the time of their last change, the newest first: GitLab takes no "since".
func (l lab) comments(ctx context.Context, number int, since time.Time, page int) ([]Comment, bool, *scm.Response, error) {
	var found []labNote
	res, err := l.do(ctx, http.MethodGet, l.path("merge_requests/%d/notes?order_by=updated_at&sort=desc&per_page=100&page=%d", number, page), nil, &found)
	out, older := make([]Comment, 0, len(found)), false
	for _, n := range found {
		older = older || n.Updated.Before(since)
		if !n.System {
			out = append(out, n.convert())
		}
	}
	return out, older, res, err
}

func (l lab) write(ctx context.Context, number int, id int64, body string) (Comment, *scm.Response, error) {
	method, path := http.MethodPost, l.path("merge_requests/%d/notes", number)
	if id != 0 {
		method, path = http.MethodPut, l.path("merge_requests/%d/notes/%d", number, id)
	}
	var done labNote
	res, err := l.do(ctx, method, path, map[string]string{"body": body}, &done)
	return done.convert(), res, err
}

// status sets the status of a commit with its text, which the library leaves out.
func (l lab) status(ctx context.Context, commit string, s Status) (*scm.Response, error) {
	in := map[string]string{"state": map[State]string{Pending: "pending", Success: "success", Failure: "failed"}[s.State], "name": s.Context, "description": s.Text}
	if s.URL != "" {
		in["target_url"] = s.URL
	}
	res, err := l.do(ctx, http.MethodPost, l.path("statuses/%s", commit), in, nil)
	if err != nil && res != nil && res.Status == http.StatusBadRequest && strings.Contains(err.Error(), "Cannot transition status") {
		return res, nil // GitLab's word for: it is so already
	}
	return res, err
}

// The levels of access, https://docs.gitlab.com/api/members/#roles.
const (
	guest      = 10
	developer  = 30
	maintainer = 40
)

func (l lab) permission(ctx context.Context, user string) (Permission, *scm.Response, error) {
	var users []labUser
	res, err := l.do(ctx, http.MethodGet, "api/v4/users?username="+url.QueryEscape(user), nil, &users)
	if err != nil {
		return None, res, err
	}
	for _, u := range users {
		if !strings.EqualFold(u.Username, user) || u.State != "active" {
			continue
		}
		var member struct {
			ID     int64  `json:"id"`
			State  string `json:"state"`
			Access int    `json:"access_level"`
		}
		// With "all", rights that come from a group count, and expired ones do not.
		res, err := l.do(ctx, http.MethodGet, l.path("members/all/%d", u.ID), nil, &member)
		switch {
		case err != nil || member.ID != u.ID || member.State != "active":
			return None, res, err
		case member.Access >= maintainer:
			return Admin, res, nil
		case member.Access >= developer:
			return Write, res, nil
		case member.Access >= guest:
			return Read, res, nil
		}
	}
	return None, res, nil
}
