//go:build linux

// Package gitea runs a real Gitea on loopback for the end-to-end tests, and does there what people do: accounts, repositories, forks, pushes,
// pull requests, comments, webhooks. The program is built from Gitea's Go module, once, outside of the tree; it needs gcc and git.
package gitea

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/continuo-ml/continuo/e2e/internal/binaries"
)

// module is what is built. The replacements in its go.mod are Gitea's own.
var module = binaries.Module{Name: "gitea", Path: "code.gitea.io/gitea", Tools: []string{"gitea"}, Tags: "sqlite sqlite_unlock_notify", Cgo: true}

// Server is a Gitea that runs.
type Server struct {
	URL   string // http://127.0.0.1:PORT
	Admin User   // the first account

	dir  string
	as   *syscall.Credential // whom it runs as; nil = ourselves
	name string              // that account's name
	cmd  *exec.Cmd
	over chan struct{} // closed when it has ended
}

// Start builds Gitea if that was not done, and starts one with an empty database. It says on log what takes long. It refuses to run as root,
// so then it runs as nobody.
func Start(ctx context.Context, log io.Writer) (*Server, error) {
	bin, files, err := build(ctx, log)
	if err != nil {
		return nil, err
	}
	s := &Server{}
	if err := s.account(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "continuo-gitea-"); err != nil {
		return nil, err
	}
	if err := s.begin(ctx, bin, files); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func build(ctx context.Context, log io.Writer) (bin, files string, err error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", "", fmt.Errorf("find the cache folder: %w: set XDG_CACHE_HOME", err)
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", "", fmt.Errorf("find the repository: %w", err)
	}
	for _, need := range []string{"gcc", "git"} {
		if _, err := exec.LookPath(need); err != nil {
			return "", "", fmt.Errorf("start gitea: %s is missing: apt-get install -y gcc libc6-dev git", need)
		}
	}
	b := binaries.Builder{Source: filepath.Join(filepath.Dir(strings.TrimSpace(string(root))), "e2e", "gitops", "build"), Cache: filepath.Join(base, "continuo-e2e"), Log: io.Discard}
	if built, err := b.Built(module); err != nil {
		return "", "", err
	} else if !built {
		_, _ = fmt.Fprintln(log, "building gitea, which takes minutes and is done once") // a notice
	}
	dir, err := b.Build(ctx, module)
	if err != nil {
		return "", "", err
	}
	files, err = b.Files(ctx, module)
	return filepath.Join(dir, "gitea"), files, err
}

func (s *Server) account() error {
	me, err := user.Current()
	if err != nil {
		return fmt.Errorf("start gitea: %w", err)
	}
	s.name = me.Username
	if me.Uid != "0" {
		return nil
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return fmt.Errorf("start gitea: it does not run as root, and %w", err)
	}
	uid, err := strconv.ParseUint(nobody.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(nobody.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.name, s.as = nobody.Username, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return nil
}

// begin lays out the server's folder, fills its database and starts it.
func (s *Server) begin(ctx context.Context, bin, files string) error {
	// Whom it runs as may see neither our caches nor our home.
	for _, part := range []string{"templates", "options", "public"} {
		if err := os.CopyFS(filepath.Join(s.dir, "static", part), os.DirFS(filepath.Join(files, part))); err != nil {
			return fmt.Errorf("start gitea: copy %s: %w", part, err)
		}
	}
	own := filepath.Join(s.dir, "gitea")
	if err := os.Link(bin, own); err != nil {
		if err := copyFile(bin, own); err != nil {
			return fmt.Errorf("start gitea: %w", err)
		}
	}
	at, err := freePort()
	if err != nil {
		return err
	}
	s.URL = "http://" + at
	if err := os.WriteFile(s.config(), []byte(s.settings(at)), 0o600); err != nil {
		return err
	}
	if err := s.handOver(); err != nil {
		return err
	}
	if _, err := s.tool(ctx, "migrate"); err != nil {
		return err
	}
	// Passwords are for this server and this test only.
	s.Admin = User{Name: "admin-" + random(4), server: s, password: random(16)}
	out, err := s.tool(ctx, "admin", "user", "create", "--admin", "--username", s.Admin.Name, "--email", s.Admin.Name+"@example.com", "--password", s.Admin.password,
		"--must-change-password=false", "--access-token", "--access-token-name", "test", "--access-token-scopes", "all")
	if err != nil {
		return err
	}
	_, token, found := strings.Cut(out, "Access token was successfully created... ")
	if s.Admin.Token, _, _ = strings.Cut(token, "\n"); !found {
		return fmt.Errorf("start gitea: it named no token: %s", out)
	}
	return s.serve(ctx)
}

func (s *Server) config() string { return filepath.Join(s.dir, "app.ini") }

// settings are Gitea's own for a small server, but for its queues: kept on disk, they are asked every two seconds at most (modules/queue/backoff.go of
// v1.26.2), and a test would measure that.
func (s *Server) settings(at string) string {
	host, port, _ := strings.Cut(at, ":")
	return fmt.Sprintf(`APP_NAME = Continuo tests
RUN_MODE = prod
RUN_USER = %[1]s
WORK_PATH = %[2]s

[server]
PROTOCOL = http
HTTP_ADDR = %[3]s
HTTP_PORT = %[4]s
ROOT_URL = http://%[3]s:%[4]s/
DISABLE_SSH = true
OFFLINE_MODE = true
LFS_START_SERVER = false
STATIC_ROOT_PATH = %[2]s/static

[database]
DB_TYPE = sqlite3
PATH = %[2]s/gitea.db

[repository]
ROOT = %[2]s/repositories
DEFAULT_BRANCH = main

[security]
INSTALL_LOCK = true
SECRET_KEY = %[5]s

[oauth2]
ENABLED = false

[service]
DISABLE_REGISTRATION = true
AUTO_WATCH_ON_CHANGES = false

[queue]
TYPE = channel

[webhook]
ALLOWED_HOST_LIST = loopback

[indexer]
ISSUE_INDEXER_TYPE = db

[session]
PROVIDER = memory

[actions]
ENABLED = false

[cron]
ENABLED = false

[log]
MODE = console
LEVEL = Warn
`, s.name, s.dir, host, port, random(16))
}

// handOver gives everything below the folder to whom the server runs as.
func (s *Server) handOver() error {
	if s.as == nil {
		return nil
	}
	return filepath.WalkDir(s.dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || path == filepath.Join(s.dir, "gitea") { // the program may be the very file of the cache
			return err
		}
		return os.Lchown(path, int(s.as.Uid), int(s.as.Gid))
	})
}

func (s *Server) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "gitea"), append(args, "--config", s.config())...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "USER=" + s.name, "GITEA_WORK_DIR=" + s.dir, "LANG=C.UTF-8"}
	// A test that is killed leaves nothing behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: s.as}
	return cmd
}

func (s *Server) tool(ctx context.Context, args ...string) (string, error) {
	out, err := s.command(ctx, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("gitea %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "gitea.log") }

// serve starts the server and returns when it answers.
func (s *Server) serve(ctx context.Context) error {
	log, err := os.Create(s.logFile())
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the child has its own handle
	s.cmd = s.command(context.WithoutCancel(ctx), "web")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return fmt.Errorf("start gitea: %w", err)
	}
	s.over = make(chan struct{})
	go func() {
		_ = s.cmd.Wait() // that it ended says all
		close(s.over)
	}()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/api/v1/version", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			if resp.StatusCode == http.StatusOK {
				return resp.Body.Close()
			}
			_ = resp.Body.Close() // it is still starting
		}
		select {
		case <-s.over:
			return fmt.Errorf("start gitea: it ended (%s): %s", s.cmd.ProcessState, s.Log())
		case <-ctx.Done():
			return fmt.Errorf("start gitea: it does not answer at %s: %s", s.URL, s.Log())
		case <-tick.C:
		}
	}
}

// Log is the end of what the server said.
func (s *Server) Log() string {
	raw, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-4000):])
}

// Stop ends the server, returns when it is gone, and removes what it left.
func (s *Server) Stop() error {
	var err error
	if s.cmd != nil {
		if err = s.cmd.Process.Kill(); errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
		<-s.over
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, in.Close(), out.Close())
}

// random is so many bytes as hex digits.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails, and ends the program if it would
	return hex.EncodeToString(b)
}
