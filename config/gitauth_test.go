package config

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func newKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

// sshHost listens on loopback and takes one key; with none it never says a word.
func sshHost(t *testing.T, host ssh.Signer, takes ssh.PublicKey) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	conf := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if takes != nil && string(key.Marshal()) == string(takes.Marshal()) {
			return nil, nil
		}
		return nil, os.ErrPermission
	}}
	if host != nil {
		conf.AddHostKey(host)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if host == nil {
					<-stop
					return
				}
				s, chans, reqs, err := ssh.NewServerConn(c, conf)
				if err != nil {
					return
				}
				defer s.Close()
				go ssh.DiscardRequests(reqs)
				for ch := range chans { // it let the key in, and offers nothing more
					if ch.Reject(ssh.Prohibited, "this is only a door") != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestSSHFailsWithTheRemedyAndNeverAsks(t *testing.T) {
	hostKey, _ := newKey(t)
	other, _ := newKey(t)
	mine, file := newKey(t)
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(privateKey(t), "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key   []byte        // in ~/.ssh/id_ed25519
		known ssh.PublicKey // in known_hosts
		host  ssh.Signer
		takes ssh.PublicKey
		want  []string
	}{
		"no key":                  {known: hostKey.PublicKey(), host: hostKey, want: []string{"no ssh key to log in with", "ssh-add"}},
		"a key with a passphrase": {key: pem.EncodeToMemory(locked), known: hostKey.PublicKey(), host: hostKey, want: []string{"no ssh key to log in with", "id_ed25519", "ssh-add"}},
		"an unknown host":         {key: file, host: hostKey, takes: mine.PublicKey(), want: []string{"does not know this host"}},
		"another host key":        {key: file, known: other.PublicKey(), host: hostKey, takes: mine.PublicKey(), want: []string{"another key than known_hosts holds"}},
		"a key that is refused":   {key: file, known: hostKey.PublicKey(), host: hostKey, takes: other.PublicKey(), want: []string{"accepts none of your keys"}},
		"a key that is let in":    {key: file, known: hostKey.PublicKey(), host: hostKey, takes: mine.PublicKey(), want: []string{"this is only a door"}},
		"a host that is silent":   {key: file, known: hostKey.PublicKey(), want: []string{"did not answer in time"}},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			t.Setenv("HOME", home)
			t.Setenv("SSH_AUTH_SOCK", "")
			known := filepath.Join(home, "known_hosts")
			t.Setenv("SSH_KNOWN_HOSTS", known)
			addr := sshHost(t, c.host, c.takes)
			if c.known != nil {
				write(t, known, knownhosts.Line([]string{knownhosts.Normalize(addr)}, c.known)+"\n")
			}
			if c.key != nil {
				write(t, filepath.Join(home, ".ssh", "id_ed25519"), string(c.key))
			}
			opts := projectFiles(t, map[string]string{"main.ml.hcl": "module \"m\" { source = \"git::ssh://git@" + addr + "/r.git?ref=v1\" }\n"})
			opts.fetchTime = 10 * time.Second
			if c.host == nil {
				opts.fetchTime = 50 * time.Millisecond
			}
			_, diags := FetchModules(t.Context(), opts)
			if len(diags) != 1 || diags[0].Summary != "A module cannot be fetched" {
				t.Fatal(diags)
			}
			for _, w := range c.want {
				if !strings.Contains(diags[0].Detail, w) {
					t.Errorf("%q does not say %q", diags[0].Detail, w)
				}
			}
		})
	}
}

func privateKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
