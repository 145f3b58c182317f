//go:build e2e && linux

package gitops

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/e2e/gitops/gitea"
	"github.com/continuo-ml/continuo/internal/forge"
)

// server is the Gitea of all tests of this package. Accounts and repositories are each test's own.
var server *gitea.Server

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute) // the first time, Gitea is built
	defer cancel()
	if server, err = gitea.Start(ctx, os.Stderr); err != nil {
		return 1, err
	}
	code = m.Run()
	return code, server.Stop()
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// team is a repository with a main branch, its owner, whose token the program has, and people around it.
type team struct {
	owner, member, reader, stranger gitea.User
	repo                            string
	checkout                        gitea.Checkout // the owner's
	first                           string         // the first commit of main
}

func newTeam(t *testing.T, files map[string]string) team {
	t.Helper()
	ctx := t.Context()
	person := func(name string) gitea.User { t.Helper(); return must[gitea.User](t)(server.User(ctx, name)) }
	w := team{owner: person("robot"), member: person("member"), reader: person("reader"), stranger: person("stranger")}
	w.repo = must[string](t)(w.owner.Repo(ctx, "churn"))
	ok(t, w.owner.Collaborate(ctx, w.repo, w.member.Name, "write"))
	ok(t, w.owner.Collaborate(ctx, w.repo, w.reader.Name, "read"))
	w.checkout = must[gitea.Checkout](t)(w.owner.Clone(ctx, w.repo, filepath.Join(t.TempDir(), "owner")))
	w.first = must[string](t)(w.checkout.Push(ctx, "main", files, "first"))
	return w
}

func (w team) client(t *testing.T, as gitea.User) *forge.Client {
	t.Helper()
	return must[*forge.Client](t)(forge.New(forge.Config{Kind: forge.Gitea, URL: server.URL, Repo: w.repo, Token: forge.Static(as.Token)}))
}
