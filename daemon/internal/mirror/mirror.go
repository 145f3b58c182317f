// Package mirror keeps a bare copy of a git repository and writes the files of
// its commits into folders.
//
// Nothing of a repository is ever checked out: files are read from git's objects
// under limits and written as plain files, so that links, submodules, filters,
// hooks and odd names in it reach nothing. It executes nothing, and follows no
// address that a repository names.
//
// Main type: Mirror, with Fetch, Head, Descends, and Write.
package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-git/go-git/v5"
	gitconfig "github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"golang.org/x/crypto/ssh"

	"github.com/continuo-ml/continuo/internal/durable"
)

// Depth is how many commits of a branch are fetched: enough to see whether the
// newest one follows the one that was applied.
const Depth = 100

// deep is how many commits Deepen fetches, and how many are looked at for an ancestor.
const deep = 100 * Depth

// Credentials are what a repository is read with. Without any, https is
// anonymous and ssh uses nothing: a daemon has no keys but those that it is given.
type Credentials struct {
	Username string
	Password func() (string, error) // read at each fetch, so that it may be changed
	SSHKey   string                 // file with a private key without a passphrase
	// KnownHosts is the file that says which key a host has; required for ssh.
	KnownHosts string
}

// Mirror is a bare copy of one repository.
type Mirror struct {
	// Whole has all of the history fetched, for those who must see each commit.
	Whole bool

	url  string
	dir  string
	cred Credentials
	// doubt says that an object that must be in the copy was not to be had.
	doubt atomic.Bool
}

// ErrNoBranch says that the repository has no such branch, or no commit at all.
var ErrNoBranch = errors.New("no such branch")

// ErrNoFolder says that a commit has no such folder.
var ErrNoFolder = errors.New("no such folder")

// New checks the address and names the folder of the copy. Addresses are https,
// http to this machine, ssh, or an absolute path on this machine.
func New(address, dir string, cred Credentials) (*Mirror, error) {
	if err := checkURL(address); err != nil {
		return nil, err
	}
	transports()
	return &Mirror{url: address, dir: dir, cred: cred}, nil
}

func checkURL(address string) error {
	if filepath.IsAbs(address) {
		return nil
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return errors.New("the address of the repository cannot be read: write https://HOST/PATH.git, ssh://git@HOST/PATH.git or an absolute path")
	case u.User != nil && u.Scheme != "ssh":
		return fmt.Errorf("credentials do not belong into an address (%s): use the credentials block", u.Redacted())
	case u.Scheme == "https" || u.Scheme == "ssh":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("%s is not encrypted: use https, or ssh", address)
	}
	return fmt.Errorf("the address %q is none that repositories are read from: write https://HOST/PATH.git, ssh://git@HOST/PATH.git or an absolute path", u.Redacted())
}

func isLoopback(host string) bool {
	return host == "localhost" || strings.HasPrefix(host, "127.") || host == "::1"
}

// Fetch brings the refs into the copy, each under its own name. Depth bounds
// their history, unless it is to be whole. What was there before stays readable
// when it errors.
func (m *Mirror) Fetch(ctx context.Context, refs ...string) error {
	return m.fetch(ctx, Depth, refs...)
}

// Deepen is Fetch with a history that is longer by far: for a branch on which so
// much has happened that Fetch does not reach back to a commit that matters.
func (m *Mirror) Deepen(ctx context.Context, refs ...string) error {
	return m.fetch(ctx, deep, refs...)
}

func (m *Mirror) fetch(ctx context.Context, depth int, refs ...string) error {
	repo, err := m.openFor()
	if err != nil {
		return err
	}
	if m.Whole {
		depth = 0
	}
	auth, err := m.auth()
	if err != nil {
		return err
	}
	if repo, err = m.sound(repo, refs); err != nil {
		return err
	}
	defer m.sweep()
	specs := make([]gitconfig.RefSpec, 0, len(refs))
	for _, ref := range refs {
		spec := gitconfig.RefSpec("+" + ref + ":" + ref)
		if !okRef(ref) || spec.Validate() != nil {
			return fmt.Errorf("%q is no name that a ref can have", ref)
		}
		specs = append(specs, spec)
	}
	remote := git.NewRemote(repo.Storer, &gitconfig.RemoteConfig{Name: "origin", URLs: []string{m.url}})
	err = remote.FetchContext(ctx, &git.FetchOptions{RefSpecs: specs, Depth: depth, Auth: auth, Tags: git.NoTags, Force: true})
	var none git.NoMatchingRefSpecError
	switch {
	case errors.Is(err, git.NoErrAlreadyUpToDate):
		return nil
	case errors.As(err, &none), errors.Is(err, transport.ErrEmptyRemoteRepository):
		return fmt.Errorf("%w: %s of %s", ErrNoBranch, strings.Join(refs, ", "), m.Address())
	case err != nil:
		return fmt.Errorf("fetch %s: %w", m.Address(), m.readable(err))
	}
	return nil
}

// okRef says whether a ref is one that a daemon asks for: below refs/, and
// without what git or a file system could take for something else.
func okRef(ref string) bool {
	name, ok := strings.CutPrefix(ref, "refs/")
	if !ok || len(ref) > 256 || strings.Contains(ref, "..") || strings.Contains(ref, "@{") || strings.ContainsAny(ref, " ~^:?*[\\\x7f") {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasPrefix(part, "-") || strings.HasSuffix(part, ".lock") || strings.HasSuffix(part, ".") {
			return false
		}
	}
	return !strings.ContainsFunc(ref, func(r rune) bool { return r < 0x20 })
}

// Address is the repository's address, without secrets.
func (m *Mirror) Address() string {
	if u, err := url.Parse(m.url); err == nil && u.Scheme != "" {
		return u.Redacted()
	}
	return m.url
}

// Head is the commit that a ref of the copy stands for.
func (m *Mirror) Head(ref string) (string, error) {
	repo, err := m.open()
	if err != nil {
		return "", err
	}
	r, err := repo.Reference(plumbing.ReferenceName(ref), true)
	if errors.Is(err, plumbing.ErrReferenceNotFound) {
		return "", fmt.Errorf("%w: %s of %s", ErrNoBranch, ref, m.Address())
	}
	if err != nil {
		return "", fmt.Errorf("read %s of %s: %w", ref, m.Address(), err)
	}
	return r.Hash().String(), nil
}

// Descends says whether commit has before among its ancestors, or is it. A
// before that the copy does not reach from commit counts as no ancestor:
// history was rewritten, or is longer than Depth.
func (m *Mirror) Descends(ctx context.Context, commit, before string) (bool, error) {
	if commit == before {
		return true, nil
	}
	repo, err := m.open()
	if err != nil {
		return false, err
	}
	seen := map[plumbing.Hash]bool{}
	todo := []plumbing.Hash{plumbing.NewHash(commit)}
	for len(todo) > 0 && len(seen) < deep {
		h := todo[0]
		todo = todo[1:]
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if seen[h] {
			continue
		}
		seen[h] = true
		c, err := repo.CommitObject(h)
		if errors.Is(err, plumbing.ErrObjectNotFound) {
			continue // beyond what was fetched
		}
		if err != nil {
			return false, fmt.Errorf("read commit %s: %w", h, err)
		}
		for _, p := range c.ParentHashes {
			if p.String() == before {
				return true, nil
			}
			todo = append(todo, p)
		}
	}
	return false, nil
}

// Commit is what people want to know of a commit.
type Commit struct {
	Hash    string    `json:"hash"`
	Subject string    `json:"subject"`
	Author  string    `json:"author"`
	When    time.Time `json:"when"`
}

// Look reads a commit's own words.
func (m *Mirror) Look(commit string) (Commit, error) {
	c, err := m.commit(commit)
	if err != nil {
		return Commit{}, err
	}
	subject, _, _ := strings.Cut(c.Message, "\n")
	return Commit{Hash: commit, Subject: subject, Author: c.Author.Name, When: c.Author.When}, nil
}

// Tree names the content of a folder of a commit, whatever its history.
func (m *Mirror) Tree(commit, folder string) (string, error) {
	c, err := m.commit(commit)
	if err != nil {
		return "", err
	}
	tree, err := c.Tree()
	if err == nil && folder != "." {
		tree, err = tree.Tree(folder)
	}
	if err != nil {
		return "", fmt.Errorf("folder %s of commit %.12s: %w", folder, commit, err)
	}
	return tree.Hash.String(), nil
}

func (m *Mirror) commit(hash string) (*object.Commit, error) {
	repo, err := m.open()
	if err != nil {
		return nil, err
	}
	c, err := repo.CommitObject(plumbing.NewHash(hash))
	if err != nil {
		return nil, fmt.Errorf("commit %s of %s: %w", hash, m.Address(), err)
	}
	return c, nil
}

// open opens the copy, and makes it where there is none. One that a crash left
// damaged is made anew: it holds nothing that cannot be fetched again.
func (m *Mirror) open() (*git.Repository, error) {
	repo, err := git.PlainOpen(m.dir)
	if err == nil {
		return guard(repo), nil
	}
	if !errors.Is(err, git.ErrRepositoryNotExists) {
		if rerr := os.RemoveAll(m.dir); rerr != nil {
			return nil, fmt.Errorf("copy of %s: %w", m.Address(), errors.Join(err, rerr))
		}
	}
	if err := durable.MkdirAll(m.dir, 0o755); err != nil {
		return nil, fmt.Errorf("copy of %s: %w", m.Address(), err)
	}
	repo, err = git.PlainInit(m.dir, true)
	if err != nil {
		return nil, fmt.Errorf("copy of %s: %w", m.Address(), err)
	}
	return guard(repo), nil
}

// anyUser is the name where none is configured: forges look at the token alone.
const anyUser = "ml"

// openFor opens the copy to fetch into. One that was cut off is begun anew when
// the history must be whole: what it lacks no later fetch would bring.
func (m *Mirror) openFor() (*git.Repository, error) {
	repo, err := m.open()
	if err != nil || !m.Whole {
		return repo, err
	}
	cut, err := repo.Storer.Shallow()
	if err != nil {
		return nil, fmt.Errorf("copy of %s: %w", m.Address(), err)
	}
	if len(cut) == 0 {
		return repo, nil
	}
	if err := os.RemoveAll(m.dir); err != nil {
		return nil, fmt.Errorf("copy of %s: %w", m.Address(), err)
	}
	return m.open()
}

func (m *Mirror) auth() (transport.AuthMethod, error) {
	u, err := url.Parse(m.url)
	if err != nil || u.Scheme == "" {
		return nil, nil //nolint:nilerr // a path, which New let pass
	}
	if u.Scheme == "ssh" {
		return m.sshAuth(u)
	}
	if m.cred.Password == nil {
		return nil, nil
	}
	password, err := m.cred.Password()
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", m.Address(), err)
	}
	return &githttp.BasicAuth{Username: cmp.Or(m.cred.Username, anyUser), Password: password}, nil
}

func (m *Mirror) sshAuth(u *url.URL) (transport.AuthMethod, error) {
	if m.cred.SSHKey == "" || m.cred.KnownHosts == "" {
		return nil, fmt.Errorf("%s needs credentials { ssh_key_file, known_hosts_file }", m.Address())
	}
	user := u.User.Username()
	if user == "" {
		user = "git"
	}
	raw, err := os.ReadFile(m.cred.SSHKey)
	if err != nil {
		return nil, fmt.Errorf("ssh key for %s: %w", m.Address(), err)
	}
	signer, err := ssh.ParsePrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("ssh key %s: %w; the daemon needs one without a passphrase", m.cred.SSHKey, err)
	}
	known, err := gitssh.NewKnownHostsCallback(m.cred.KnownHosts)
	if err != nil {
		return nil, fmt.Errorf("known hosts for %s: %w", m.Address(), err)
	}
	auth := &gitssh.PublicKeys{User: user, Signer: signer}
	auth.HostKeyCallback = known
	return auth, nil
}
