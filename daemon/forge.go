package daemon

import (
	"context"
	"path"
	"time"

	"github.com/continuo-ml/continuo/internal/forge"
)

// Forge is where a repository's pull requests are; forge.Client is one.
type Forge interface {
	Pulls(ctx context.Context) ([]forge.Pull, error)
	Comments(ctx context.Context, pull int, since time.Time) ([]forge.Comment, error)
	PutComment(ctx context.Context, pull int, marker, body string) (forge.Comment, error)
	Reply(ctx context.Context, pull int, body string) (forge.Comment, error)
	SetStatus(ctx context.Context, commit string, s forge.Status) error
	Permission(ctx context.Context, user string) (forge.Permission, error)
	Login(ctx context.Context) (string, error)
}

var _ Forge = (*forge.Client)(nil)

// NewForge makes the client for a repository's forge.
func NewForge(c *ForgeConfig) (Forge, error) {
	kind, err := forge.ParseKind(c.Kind)
	if err != nil {
		return nil, err
	}
	return forge.New(forge.Config{Kind: kind, URL: c.URL, Repo: c.Repo, Token: c.Token.Read})
}

// context names the statuses that the daemon sets, one for each project of a repository.
func (r *repo) context() string { return path.Join("continuo", r.conf.Path) }

// page is the repository's page, "" when nobody said under which address people reach it.
func (r *repo) page() string {
	if r.public == "" {
		return ""
	}
	return r.public + "/r/" + r.conf.Name
}
