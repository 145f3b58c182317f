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

// hub is GitHub's API, and Gitea's, which follows it under a prefix. The library's own methods leave out where a fork is (and for Gitea
// name the wrong side), edit no comment of Gitea's, and list comments from the first on.
type hub struct {
	remote
	kind   Kind
	prefix string
}

func (h hub) path(format string, args ...any) string {
	return h.prefix + "repos/" + h.repo + "/" + fmt.Sprintf(format, args...)
}

type hubPull struct {
	Number int       `json:"number"`
	Title  string    `json:"title"`
	State  string    `json:"state"`
	Draft  bool      `json:"draft"`
	URL    string    `json:"html_url"`
	User   hubUser   `json:"user"`
	Head   hubSide   `json:"head"`
	Base   hubSide   `json:"base"`
	Update time.Time `json:"updated_at"`
}

type hubUser struct {
	Login string `json:"login"`
}

type hubSide struct {
	Ref  string `json:"ref"`
	SHA  string `json:"sha"`
	Repo *struct {
		ID       int64  `json:"id"`
		CloneURL string `json:"clone_url"`
	} `json:"repo"` // null when the fork was deleted
}

func (h hub) convert(p hubPull) Pull {
	out := Pull{
		Number: p.Number, Title: p.Title, Author: p.User.Login, URL: p.URL, Draft: p.Draft, Open: p.State == "open",
		Head: p.Head.SHA, HeadBranch: p.Head.Ref, Base: p.Base.Ref, Updated: p.Update, Ref: fmt.Sprintf("refs/pull/%d/head", p.Number), Fork: true,
	}
	if p.Head.Repo != nil {
		out.HeadURL = h.cloneURL(p.Head.Repo.CloneURL)
		out.Fork = p.Base.Repo == nil || p.Head.Repo.ID == 0 || p.Head.Repo.ID != p.Base.Repo.ID
	}
	if !out.Fork {
		out.HeadURL = ""
	}
	return out
}

func (h hub) pulls(ctx context.Context, page int) ([]Pull, *scm.Response, error) {
	order := "sort=created&direction=asc&per_page=100"
	if h.kind == Gitea {
		order = "sort=oldest&limit=50"
	}
	var found []hubPull
	res, err := h.do(ctx, http.MethodGet, h.path("pulls?state=open&%s&page=%d", order, page), nil, &found)
	out := make([]Pull, 0, len(found))
	for _, p := range found {
		out = append(out, h.convert(p))
	}
	return out, res, err
}

func (h hub) pull(ctx context.Context, number int) (Pull, *scm.Response, error) {
	var p hubPull
	res, err := h.do(ctx, http.MethodGet, h.path("pulls/%d", number), nil, &p)
	return h.convert(p), res, err
}

type hubComment struct {
	ID      int64     `json:"id"`
	Body    string    `json:"body"`
	User    hubUser   `json:"user"`
	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}

func (c hubComment) convert() Comment {
	return Comment{ID: c.ID, Author: c.User.Login, Body: c.Body, Created: c.Created, Updated: c.Updated}
}

func (h hub) comments(ctx context.Context, number int, since time.Time, page int) ([]Comment, bool, *scm.Response, error) {
	q := url.Values{"per_page": {"100"}, "page": {fmt.Sprint(page)}}
	if !since.IsZero() {
		q.Set("since", since.UTC().Format(time.RFC3339))
	}
	var found []hubComment
	res, err := h.do(ctx, http.MethodGet, h.path("issues/%d/comments?%s", number, q.Encode()), nil, &found)
	out := make([]Comment, 0, len(found))
	for _, c := range found {
		out = append(out, c.convert())
	}
	return out, false, res, err
}

func (h hub) write(ctx context.Context, number int, id int64, body string) (Comment, *scm.Response, error) {
	method, path := http.MethodPost, h.path("issues/%d/comments", number)
	if id != 0 {
		method, path = http.MethodPatch, h.path("issues/comments/%d", id)
	}
	var done hubComment
	res, err := h.do(ctx, method, path, map[string]string{"body": body}, &done)
	return done.convert(), res, err
}

func (h hub) permission(ctx context.Context, user string) (Permission, *scm.Response, error) {
	var found struct {
		Permission string  `json:"permission"`
		User       hubUser `json:"user"`
	}
	res, err := h.do(ctx, http.MethodGet, h.path("collaborators/%s/permission", url.PathEscape(user)), nil, &found)
	if err != nil || found.User.Login != "" && !strings.EqualFold(found.User.Login, user) {
		return None, res, err
	}
	switch found.Permission {
	case "admin", "owner":
		return Admin, res, nil
	case "write":
		return Write, res, nil
	case "read":
		return Read, res, nil
	}
	return None, res, nil
}
