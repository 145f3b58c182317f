// Package forge speaks to the system that holds a repository's pull requests: GitHub, GitLab, and Gitea or Forgejo. It lists open pull
// requests, keeps one comment per project up to date, sets the status of a commit, reads comments, asks what somebody may, and verifies
// webhooks.
//
// It clones nothing, runs nothing and decides nothing. What a forge answers is data with a bound on its size; a token goes to the forge's
// own host only, and never into an error.
//
// Main types: [Client] for one repository, made by [New]; [Verify] and [Hint] for webhooks.
package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/drone/go-scm/scm"
	"github.com/drone/go-scm/scm/driver/gitea"
	"github.com/drone/go-scm/scm/driver/github"
	"github.com/drone/go-scm/scm/driver/gitlab"
)

// Kind is a forge's API.
type Kind string

// The kinds of forges. Forgejo speaks Gitea's API.
const (
	GitHub Kind = "github"
	GitLab Kind = "gitlab"
	Gitea  Kind = "gitea"
)

// ParseKind reads the name of a kind; "forgejo" is Gitea's.
func ParseKind(name string) (Kind, error) {
	switch k := Kind(strings.ToLower(name)); k {
	case GitHub, GitLab, Gitea:
		return k, nil
	case "forgejo":
		return Gitea, nil
	}
	return "", fmt.Errorf("no forge %q; choose github, gitlab or gitea", name)
}

// Config says which repository, and how to reach it.
type Config struct {
	Kind Kind
	// URL is where the forge is: "https://gitlab.example.com". "" is github.com or gitlab.com; Gitea has no default.
	URL string
	// Repo is "owner/name"; GitLab's may have groups within groups.
	Repo string
	// Token is asked for at each request, so that one that expires can be replaced. nil, or "": without a token.
	Token func() (string, error)
	// Login is who a token that may not ask that acts as: a token of GitHub's or Gitea's own CI.
	Login string
	// HTTPClient is what requests go through. nil is a client of our own. Its redirects and timeout are set by [New].
	HTTPClient *http.Client
	// Timeout bounds one request with its answer; 0 is 30 s.
	Timeout time.Duration
	Now     func() time.Time // nil is time.Now
}

// Static is a token that never changes.
func Static(token string) func() (string, error) {
	return func() (string, error) { return token, nil }
}

// Client speaks to a forge about one repository. It may be used by many goroutines.
type Client struct {
	cfg    Config
	remote remote
	api    api
	login  *login
}

// api is what differs between the forges beyond what the library levels.
type api interface {
	pulls(ctx context.Context, page int) ([]Pull, *scm.Response, error)
	pull(ctx context.Context, number int) (Pull, *scm.Response, error)
	comments(ctx context.Context, number int, since time.Time, page int) (found []Comment, older bool, _ *scm.Response, _ error)
	write(ctx context.Context, number int, id int64, body string) (Comment, *scm.Response, error) // id 0 = a new one
	permission(ctx context.Context, user string) (Permission, *scm.Response, error)
}

// New makes a client. It asks nothing yet.
func New(cfg Config) (*Client, error) {
	base, err := baseURL(cfg.Kind, cfg.URL)
	if err != nil {
		return nil, err
	}
	if !repoName(cfg.Kind, cfg.Repo) {
		return nil, fmt.Errorf("repository %q: write it as owner/name", cfg.Repo)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	sc, err := map[Kind]func(string) (*scm.Client, error){GitHub: github.New, GitLab: gitlab.New, Gitea: gitea.New}[cfg.Kind](base.String())
	if err != nil {
		return nil, fmt.Errorf("forge %s: %w", base, err)
	}
	sc.Client = guarded(cfg, base)
	r := remote{scm: sc, repo: cfg.Repo, plain: base.Scheme == "http", errors: errorsOf(cfg)}
	c := &Client{cfg: cfg, remote: r, login: &login{}}
	switch cfg.Kind {
	case GitHub:
		c.api = hub{remote: r, kind: GitHub}
	case GitLab:
		c.api = lab{r}
	case Gitea:
		c.api = hub{remote: r, kind: Gitea, prefix: "api/v1/"}
	}
	return c, nil
}

// baseURL is where the API is, for the address that people know.
func baseURL(kind Kind, address string) (*url.URL, error) {
	if address == "" {
		address = map[Kind]string{GitHub: "https://github.com", GitLab: "https://gitlab.com"}[kind]
	}
	if !slices.Contains([]Kind{GitHub, GitLab, Gitea}, kind) {
		return nil, fmt.Errorf("no forge %q; choose github, gitlab or gitea", kind)
	}
	if address == "" {
		return nil, fmt.Errorf("forge %s: say where it is, for example https://git.example.com", kind)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("forge: its address is no URL; write for example https://git.example.com")
	}
	if (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("forge %s: write its address as https://HOST, and the token elsewhere", u.Redacted())
	}
	u.Path = strings.TrimRight(u.Path, "/")
	if kind == GitHub {
		switch {
		case strings.EqualFold(u.Host, "github.com"), strings.EqualFold(u.Host, "www.github.com"), strings.EqualFold(u.Host, "api.github.com"):
			u = &url.URL{Scheme: "https", Host: "api.github.com"}
		case !strings.HasSuffix(u.Path, "/api/v3"):
			u.Path += "/api/v3" // GitHub Enterprise Server
		}
	}
	return u, nil
}

var namePart = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,255}$`)

// repoName says whether a name can stand in the path of a request as it is.
func repoName(kind Kind, name string) bool {
	parts := strings.Split(name, "/")
	if len(parts) < 2 || len(parts) > 2 && kind != GitLab || len(parts) > 21 {
		return false
	}
	for _, p := range parts {
		if !namePart.MatchString(p) || strings.Trim(p, ".") == "" {
			return false
		}
	}
	return true
}

// Pull is a pull request; GitLab calls it a merge request.
type Pull struct {
	Number int
	Title  string
	Author string
	URL    string // its page
	Draft  bool
	Open   bool
	// Head is the commit that it would merge, on a branch of that name.
	Head, HeadBranch string
	// Base is the branch that it would be merged into.
	Base string
	// Fork is true unless the forge says that the head is in this very repository.
	Fork bool
	// HeadURL is where the fork can be cloned from; "" when it is gone, or may not be seen.
	HeadURL string
	// Ref is where this repository itself has the head, of a fork's too: nobody else's has to be asked for it.
	Ref     string
	Updated time.Time
}

// Comment is a comment of a pull request.
type Comment struct {
	ID               int64
	Author           string
	Body             string
	Created, Updated time.Time
}

// Permission is what somebody may in the repository.
type Permission int

// The permissions, rising.
const (
	None Permission = iota
	Read
	Write
	Admin
)

// String is the permission's name.
func (p Permission) String() string {
	return [...]string{"none", "read", "write", "admin"}[min(max(p, None), Admin)]
}
