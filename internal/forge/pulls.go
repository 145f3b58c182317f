package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/drone/go-scm/scm"
)

// maxPages bounds a listing, at a hundred a page: a forge that never comes to an end is no reason to.
const maxPages = 100

// Pulls lists the open pull requests, by number.
func (c *Client) Pulls(ctx context.Context) ([]Pull, error) {
	var all []Pull
	err := c.pages(ctx, "list pull requests", func(page int) (*scm.Response, bool, error) {
		found, res, err := c.api.pulls(ctx, page)
		all = append(all, found...)
		return res, true, err
	})
	if err != nil {
		return nil, err
	}
	// One that moved to another page meanwhile stands there twice.
	slices.SortStableFunc(all, func(a, b Pull) int { return a.Number - b.Number })
	return slices.CompactFunc(all, func(a, b Pull) bool { return a.Number == b.Number }), nil
}

// Pull asks for one pull request, open or not.
func (c *Client) Pull(ctx context.Context, number int) (Pull, error) {
	p, res, err := c.api.pull(ctx, number)
	if err := c.remote.errors.of(ctx, fmt.Sprintf("read pull request %d", number), res, err); err != nil {
		return Pull{}, err
	}
	return p, nil
}

// Comments lists the comments of a pull request that were written or edited at or after since, the oldest first.
func (c *Client) Comments(ctx context.Context, number int, since time.Time) ([]Comment, error) {
	var all []Comment
	err := c.pages(ctx, fmt.Sprintf("list comments of pull request %d", number), func(page int) (*scm.Response, bool, error) {
		found, older, res, err := c.api.comments(ctx, number, since, page)
		for _, f := range found {
			if !f.Updated.Before(since) {
				all = append(all, f)
			}
		}
		return res, !older, err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Comment) int {
		if d := a.Created.Compare(b.Created); d != 0 {
			return d
		}
		return int(a.ID - b.ID)
	})
	return slices.CompactFunc(all, func(a, b Comment) bool { return a.ID == b.ID }), nil
}

// pages calls list for each page until there is no next one, or list says that it has enough.
func (c *Client) pages(ctx context.Context, what string, list func(page int) (*scm.Response, bool, error)) error {
	for page, n := 1, 0; ; n++ {
		if n == maxPages {
			return fmt.Errorf("%s: %s: more than %d pages", c.remote.errors.forge, what, maxPages)
		}
		res, more, err := list(page)
		if err := c.remote.errors.of(ctx, what, res, err); err != nil {
			return err
		}
		if !more || res.Page.Next <= page {
			return nil
		}
		page = res.Page.Next
	}
}

// PutComment writes the one comment that begins with the marker, a line of its own: it edits the oldest that this client's own user wrote,
// and writes a new one where there is none. A comment of somebody else with the same marker is theirs. The same body again changes nothing.
func (c *Client) PutComment(ctx context.Context, number int, marker, body string) (Comment, error) {
	if !begins(body, marker) {
		return Comment{}, errors.New("write comment: its first line is not the marker that it is found by")
	}
	me, err := c.Login(ctx)
	if err != nil {
		return Comment{}, err
	}
	all, err := c.Comments(ctx, number, time.Time{})
	if err != nil {
		return Comment{}, err
	}
	for _, old := range all {
		if !strings.EqualFold(old.Author, me) || !begins(old.Body, marker) {
			continue
		}
		if sameText(old.Body, body) {
			return old, nil
		}
		edited, err := c.write(ctx, number, old.ID, body)
		if errors.Is(err, ErrNotFound) {
			continue // deleted since
		}
		return edited, err
	}
	return c.write(ctx, number, 0, body)
}

func begins(body, marker string) bool {
	first, _, _ := strings.Cut(body, "\n")
	return marker != "" && strings.TrimRight(first, "\r ") == marker
}

// sameText compares as forges keep text: some end lines in their own way and trim the end.
func sameText(a, b string) bool {
	norm := func(s string) string { return strings.TrimSpace(strings.ReplaceAll(s, "\r\n", "\n")) }
	return norm(a) == norm(b)
}

// Reply writes a new comment.
func (c *Client) Reply(ctx context.Context, number int, body string) (Comment, error) {
	return c.write(ctx, number, 0, body)
}

func (c *Client) write(ctx context.Context, number int, id int64, body string) (Comment, error) {
	what := fmt.Sprintf("write a comment on pull request %d", number)
	if id != 0 {
		what = fmt.Sprintf("edit comment %d of pull request %d", id, number)
	}
	done, res, err := c.api.write(ctx, number, id, body)
	return done, c.remote.errors.of(ctx, what, res, err)
}

// Reaction is a sign at a comment that says what became of it.
type Reaction string

// The reactions, by GitHub's names.
const (
	Seen Reaction = "eyes"
	Yes  Reaction = "+1"
	No   Reaction = "-1"
)

// React puts a sign at a comment.
func (c *Client) React(ctx context.Context, number int, comment int64, r Reaction) (err error) {
	var res *scm.Response
	switch c.cfg.Kind {
	case GitHub:
		_, res, err = c.remote.scm.Issues.AddReaction(ctx, c.cfg.Repo, number, int(comment), &scm.ReactionInput{Content: string(r)})
	case GitLab:
		name := map[Reaction]string{Yes: "thumbsup", No: "thumbsdown"}[r]
		if name == "" {
			name = string(r)
		}
		_, res, err = c.remote.scm.PullRequests.AddReaction(ctx, c.cfg.Repo, number, int(comment), &scm.ReactionInput{Content: name})
	case Gitea: // the library has none for it
		res, err = c.remote.do(ctx, http.MethodPost, fmt.Sprintf("api/v1/repos/%s/issues/comments/%d/reactions", c.cfg.Repo, comment), map[string]string{"content": string(r)}, nil)
	}
	return c.remote.errors.of(ctx, fmt.Sprintf("react to comment %d", comment), res, err)
}

// State is the state of a commit.
type State string

// The states.
const (
	Pending State = "pending"
	Success State = "success"
	Failure State = "failure"
)

// Status is what a commit shows beside its name.
type Status struct {
	State   State
	Context string // whose status it is: "continuo/models/churn"
	Text    string // cut to 140 characters, which is what GitHub takes
	URL     string // a page that tells more, or ""
}

var commitID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// SetStatus sets the status of a commit, over the one with the same context.
func (c *Client) SetStatus(ctx context.Context, commit string, s Status) error {
	if !commitID.MatchString(commit) {
		return fmt.Errorf("set status: %q is no commit", commit)
	}
	for utf8.RuneCountInString(s.Text) > 140 {
		_, n := utf8.DecodeLastRuneInString(s.Text)
		s.Text = s.Text[:len(s.Text)-n]
	}
	state, ok := map[State]scm.State{Pending: scm.StatePending, Success: scm.StateSuccess, Failure: scm.StateFailure}[s.State]
	if !ok {
		return fmt.Errorf("set status: no state %q", s.State)
	}
	var res *scm.Response
	var err error
	if l, is := c.api.(lab); is {
		res, err = l.status(ctx, commit, s)
	} else {
		_, res, err = c.remote.scm.Repositories.CreateStatus(ctx, c.cfg.Repo, commit, &scm.StatusInput{State: state, Label: s.Context, Desc: s.Text, Target: s.URL})
	}
	return c.remote.errors.of(ctx, "set status "+s.Context, res, err)
}

// Permission asks what a user may in the repository now. Whom the forge does not know may nothing. Of GitLab's roles a developer may
// write, and maintainers and owners are admins. Gitea answers only tokens of the repository's admins.
func (c *Client) Permission(ctx context.Context, user string) (Permission, error) {
	if user == "" || strings.ContainsAny(user, "/?#%\\ ") || strings.Trim(user, ".") == "" {
		return None, nil // nobody has such a name
	}
	p, res, err := c.api.permission(ctx, user)
	if err := c.remote.errors.of(ctx, "ask what "+user+" may", res, err); err != nil {
		if errors.Is(err, ErrNotFound) {
			return None, nil
		}
		return None, err
	}
	return p, nil
}

// login is who this client's token acts as, once it is known.
type login struct {
	mu   sync.Mutex
	name string
}

// Login asks who the token acts as, once. Tokens of a forge's own CI may not ask that everywhere; then it is GitHub's other API that says
// it, or Config.Login.
func (c *Client) Login(ctx context.Context) (string, error) {
	c.login.mu.Lock()
	defer c.login.mu.Unlock()
	if c.login.name != "" {
		return c.login.name, nil
	}
	user, res, err := c.remote.scm.Users.Find(ctx)
	err = c.remote.errors.of(ctx, "ask who the token acts as", res, err)
	switch {
	case err == nil && user.Login != "":
		c.login.name = user.Login
	case err != nil && !errors.Is(err, ErrDenied) && !errors.Is(err, ErrNotFound):
		return "", err
	default:
		if c.login.name = c.viewer(ctx); c.login.name == "" {
			c.login.name = c.cfg.Login
		}
	}
	if c.login.name == "" {
		return "", fmt.Errorf("%s: %w: the token does not say who it acts as", c.remote.errors.forge, ErrDenied)
	}
	return c.login.name, nil
}

// viewer asks GitHub's GraphQL, which answers tokens of apps and of its CI, too.
func (c *Client) viewer(ctx context.Context) string {
	if c.cfg.Kind != GitHub {
		return ""
	}
	path := "graphql"
	if strings.HasSuffix(c.remote.scm.BaseURL.Path, "/api/v3/") {
		path = "../graphql"
	}
	var answer struct {
		Data struct{ Viewer struct{ Login string } }
	}
	if _, err := c.remote.do(ctx, http.MethodPost, path, map[string]string{"query": "{viewer{login}}"}, &answer); err != nil {
		return "" // the caller has another way, and an error for when it has not
	}
	return answer.Data.Viewer.Login
}
