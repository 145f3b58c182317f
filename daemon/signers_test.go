package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// signers are people with real keys, and a repository that they commit to with
// the real git, gpg and ssh-keygen.
type signers struct {
	t    *testing.T
	dir  string // the repository
	keys string // of ssh
	gpg  string // folder of gpg
}

func newSigners(t *testing.T) *signers {
	t.Helper()
	for _, tool := range []string{"git", "gpg", "ssh-keygen"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%v: commits are signed with git, gpg and ssh-keygen", err)
			}
			t.Skipf("%v: commits are signed with git, gpg and ssh-keygen", err)
		}
	}
	home, err := os.MkdirTemp("", "gpg") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	s := &signers{t: t, dir: t.TempDir(), keys: t.TempDir(), gpg: home}
	t.Cleanup(func() {
		s.run("gpgconf", "--kill", "all")
		if err := os.RemoveAll(home); err != nil {
			t.Error(err)
		}
	})
	s.run("git", "init", "-q", "-b", "master")
	return s
}

func (s *signers) run(name string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.gpg, "GNUPGHOME=" + s.gpg, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Somebody", "GIT_AUTHOR_EMAIL=some@example.org", "GIT_COMMITTER_NAME=Somebody", "GIT_COMMITTER_EMAIL=some@example.org",
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// ssh makes a key and gives its line for allowed_signers.
func (s *signers) ssh(name string) string {
	s.t.Helper()
	file := filepath.Join(s.keys, name)
	s.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", file)
	return name + "@example.org " + s.read(file+".pub")
}

func (s *signers) read(file string) string {
	s.t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(raw)
}

// pgp makes a key; life is gpg's expiry, and more goes before the command.
func (s *signers) pgp(name, life string, more ...string) {
	s.t.Helper()
	s.run("gpg", append(more, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", name+" <"+name+"@example.org>", "ed25519", "sign", life)...)
}

func (s *signers) export(names ...string) string {
	s.t.Helper()
	return s.run("gpg", append([]string{"--batch", "--armor", "--export"}, names...)...) + "\n"
}

// revoke takes a key back with the certificate that gpg made beside it.
func (s *signers) revoke(name string) {
	s.t.Helper()
	list, err := filepath.Glob(filepath.Join(s.gpg, "openpgp-revocs.d", s.fingerprint(name)+".rev"))
	if err != nil || len(list) != 1 {
		s.t.Fatal(list, err)
	}
	text := strings.ReplaceAll(s.read(list[0]), ":-----BEGIN", "-----BEGIN")
	if err := os.WriteFile(list[0], []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.run("gpg", "--batch", "--quiet", "--import", list[0])
}

func (s *signers) fingerprint(name string) string {
	s.t.Helper()
	for _, l := range strings.Split(s.run("gpg", "--batch", "--with-colons", "--list-keys", name), "\n") {
		if f := strings.Split(l, ":"); f[0] == "fpr" {
			return f[9]
		}
	}
	s.t.Fatalf("no key of %s", name)
	return ""
}

// as are git's settings for who signs: "" nobody, "pgp:NAME" or "ssh:NAME".
func (s *signers) as(who string) []string {
	kind, name, _ := strings.Cut(who, ":")
	switch kind {
	case "pgp":
		return []string{"-c", "commit.gpgsign=true", "-c", "user.signingkey=" + s.fingerprint(name)}
	case "ssh":
		return []string{"-c", "commit.gpgsign=true", "-c", "gpg.format=ssh", "-c", "user.signingkey=" + filepath.Join(s.keys, name)}
	}
	return []string{"-c", "commit.gpgsign=false"}
}

// commit writes files ("" takes one away), commits, and gives the hash.
func (s *signers) commit(who string, files map[string]string, more ...string) string {
	s.t.Helper()
	for name, text := range files {
		path := filepath.Join(s.dir, filepath.FromSlash(name))
		if text == "" {
			s.run("git", "rm", "-q", name)
			continue
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			s.t.Fatal(err)
		}
		s.run("git", "add", name)
	}
	s.run("git", append(append(append([]string{}, more...), s.as(who)...), "commit", "-q", "--allow-empty", "-m", "by "+who)...)
	return s.run("git", "rev-parse", "HEAD")
}

// block is the verify block, with the signers of the daemon's own file in dir.
func (s *signers) block(dir, pgp, allowed, more string) string {
	s.t.Helper()
	text := "verify {\n"
	for name, c := range map[string]struct{ text, line string }{
		"team.asc": {pgp, "pgp_key_files = [\"team.asc\"]\n"}, "allowed": {allowed, "allowed_signers_file = \"allowed\"\n"},
	} {
		if c.text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(c.text), 0o644); err != nil {
			s.t.Fatal(err)
		}
		text += c.line
	}
	return text + more + "}\n"
}

func (s *signers) file(more string) string {
	return fmt.Sprintf("data = \"data\"\nrepository \"r\" {\n url = %q\n branch = \"master\"\n interval = \"5s\"\n mode = \"apply\"\n%s}\n", s.dir, more)
}
