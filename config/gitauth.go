package config

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-git/go-git/v5"
	gitconfig "github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing/transport"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/memory"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// fetchPatience is how long one module may take to be fetched.
const fetchPatience = 2 * time.Minute

// errNoKeys says that ssh has nothing to log in with.
var errNoKeys = errors.New("there is no ssh key to log in with: no agent answers at SSH_AUTH_SOCK, and ~/.ssh holds no key that needs no passphrase")

// sshAuth is how a host is logged in to over ssh: with the keys of the agent
// and those files that need no passphrase, to a host that known_hosts names.
// Nothing is ever asked for. It is nil for other addresses.
func sshAuth(repo string) (transport.AuthMethod, error) {
	u, err := url.Parse(repo)
	if err != nil || u.Scheme != "ssh" {
		return nil, err
	}
	host, port, user := u.Hostname(), u.Port(), u.User.Username()
	settings := gitssh.DefaultSSHConfig
	if user == "" {
		user = settings.Get(host, "User")
	}
	if user == "" {
		user = "git"
	}
	if port == "" {
		port = settings.Get(host, "Port")
	}
	signers, err := sshKeys(settings.Get(host, "IdentityFile"))
	if err != nil {
		return nil, err
	}
	if name := settings.Get(host, "Hostname"); name != "" {
		host = name
	}
	db, err := gitssh.NewKnownHostsDb()
	if err != nil {
		return nil, &knownhosts.KeyError{} // no file: nothing is known of the host
	}
	auth := &gitssh.PublicKeysCallback{User: user, Callback: func() ([]ssh.Signer, error) { return signers, nil }}
	auth.HostKeyCallback, auth.HostKeyAlgorithms = db.HostKeyCallback(), db.HostKeyAlgorithms(net.JoinHostPort(host, port))
	return auth, nil
}

// sshKeys are the keys of the agent, then those in files.
func sshKeys(identity string) ([]ssh.Signer, error) {
	var out []ssh.Signer
	var why []error
	if os.Getenv("SSH_AUTH_SOCK") != "" {
		agent, err := gitssh.NewSSHAgentAuth("git")
		if err == nil {
			out, err = agent.Callback()
		}
		why = append(why, err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return out, err
	}
	identity = strings.Replace(identity, "~", home, 1)
	for _, file := range []string{identity, filepath.Join(home, ".ssh", "id_ed25519"), filepath.Join(home, ".ssh", "id_ecdsa"), filepath.Join(home, ".ssh", "id_rsa")} {
		key, err := gitssh.NewPublicKeysFromFile("git", file, "")
		switch {
		case err == nil:
			out = append(out, key.Signer)
		case !errors.Is(err, os.ErrNotExist):
			why = append(why, fmt.Errorf("%s: %w", file, err))
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	if err := errors.Join(why...); err != nil {
		return nil, fmt.Errorf("%w (%w)", errNoKeys, err)
	}
	return nil, errNoKeys
}

// fetchRemedy says what to do about a repository that could not be read.
func fetchRemedy(err error) string {
	var host *knownhosts.KeyError
	switch {
	case errors.Is(err, errNoKeys):
		return "Start an agent and load your key: eval $(ssh-agent) && ssh-add."
	case errors.As(err, &host) && len(host.Want) == 0:
		return "ssh does not know this host yet: connect to it once with ssh, and compare its fingerprint with what its owner published."
	case errors.As(err, &host):
		return "The host shows another key than known_hosts holds. Somebody may stand between: ask its owner before you change known_hosts."
	case strings.Contains(err.Error(), "ssh: unable to authenticate"):
		return "The host accepts none of your keys; ssh-add -l lists those of the agent."
	case errors.Is(err, transport.ErrAuthenticationRequired), errors.Is(err, transport.ErrAuthorizationFailed):
		return "Private repositories are fetched over ssh: git::ssh://git@HOST/…"
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("It did not answer in time (%s). Check the address and the network.", fetchPatience)
	case errors.As(err, new(*noTagError)):
		return "Pin a tag or a full commit."
	}
	return "Check the address, the ref (a tag or a full commit) and your access."
}

// noTagError says what a repository has instead of the tag that was asked for.
type noTagError struct{ text string }

// Error implements error.
func (e *noTagError) Error() string { return e.text }

func noTag(ctx context.Context, g gitSource, auth transport.AuthMethod) error {
	remote := git.NewRemote(memory.NewStorage(), &gitconfig.RemoteConfig{Name: "origin", URLs: []string{g.repo}})
	refs, err := remote.ListContext(ctx, &git.ListOptions{Auth: auth})
	if err != nil {
		return err
	}
	var tags []string
	for _, r := range refs {
		switch {
		case r.Name().IsBranch() && r.Name().Short() == g.ref:
			return &noTagError{fmt.Sprintf("%s is a branch, which moves; it is at commit %s now", g.ref, r.Hash())}
		case r.Name().IsTag():
			tags = append(tags, r.Name().Short())
		}
	}
	return &noTagError{fmt.Sprintf("there is no tag %q.%s", g.ref, didYouMean(g.ref, tags))}
}

// impatient gives up on what does not answer. An ssh handshake cannot be
// interrupted, so it is left behind; the program ends soon after.
func impatient[T any](ctx context.Context, patience time.Duration, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	type answer struct {
		v   T
		err error
	}
	done := make(chan answer, 1)
	go func() {
		defer cancel()
		v, err := do(ctx)
		done <- answer{v, err}
	}()
	select {
	case a := <-done:
		return a.v, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-done: // what was done in time counts
		return a.v, a.err
	default:
		var none T
		return none, ctx.Err()
	}
}
