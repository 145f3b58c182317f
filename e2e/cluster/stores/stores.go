//go:build linux

// Package stores starts real servers that hold data, on loopback, for the end-to-end tests: versitygw speaks S3 over a folder,
// fake-gcs-server speaks the JSON API of Google Cloud Storage (it is an emulator, for there is no other server of it), and Azurite is
// Microsoft's own server of the protocol of Azure Blob Storage. Each is built or fetched once, at an exact version, outside the tree.
package stores

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/continuo-ml/continuo/e2e/internal/binaries"
)

// Server is a server that runs.
type Server struct {
	// Endpoint is its address, http://HOST:PORT.
	Endpoint string
	// Env is what its clients have in their environment, as NAME → value.
	Env map[string]string

	name string
	log  string
	cmd  *exec.Cmd
	over chan struct{} // closed when it has ended
}

// The keys of the S3 server. They are those of nobody else.
const (
	AccessKey = "continuo-test"
	SecretKey = "continuo-test-secret"
	Region    = "eu-central-1"
)

// S3 starts versitygw over dir/data on the address host, which must be this machine's.
func S3(ctx context.Context, dir, host string) (*Server, error) {
	bin, err := build(ctx, binaries.Module{Name: "versitygw", Path: "github.com/versity/versitygw", Tools: []string{"versitygw"}})
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	at, err := freePort(host)
	if err != nil {
		return nil, err
	}
	s := &Server{name: "versitygw", Endpoint: "http://" + at, log: filepath.Join(dir, "versitygw.log"), Env: map[string]string{
		"AWS_ENDPOINT_URL": "http://" + at, "AWS_ACCESS_KEY_ID": AccessKey, "AWS_SECRET_ACCESS_KEY": SecretKey, "AWS_REGION": Region,
	}}
	cmd := exec.Command(filepath.Join(bin, "versitygw"), "--port", at, "--region", Region, "--quiet", "posix", data)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	return s, s.start(ctx, cmd)
}

// GCS starts fake-gcs-server with its objects in memory.
func GCS(ctx context.Context, dir string) (*Server, error) {
	bin, err := build(ctx, binaries.Module{Name: "fakegcs", Path: "github.com/fsouza/fake-gcs-server", Tools: []string{"fake-gcs-server"}})
	if err != nil {
		return nil, err
	}
	at, err := freePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return nil, err
	}
	s := &Server{name: "fake-gcs-server", Endpoint: "http://" + at, log: filepath.Join(dir, "fakegcs.log"), Env: map[string]string{"STORAGE_EMULATOR_HOST": at}}
	return s, s.start(ctx, exec.Command(filepath.Join(bin, "fake-gcs-server"), "-scheme", "http", "-host", host, "-port", port, "-backend", "memory", "-public-host", at))
}

// azurite is the version that npm fetches.
const azurite = "3.35.0"

// The account and key that Azurite has out of the box; they stand in its documentation, and are no secret.
const (
	AzureAccount = "devstoreaccount1"
	AzureKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// Azure starts Azurite over a folder in dir. It needs node and npm.
func Azure(ctx context.Context, dir string) (*Server, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	at := filepath.Join(cache, "azurite-"+azurite)
	script := filepath.Join(at, "node_modules", "azurite", "dist", "src", "blob", "main.js")
	if _, err := os.Stat(script); err != nil {
		out, err := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--prefix", at, "azurite@"+azurite).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("fetch azurite: %w (apt-get install nodejs npm): %s", err, last(string(out)))
		}
	}
	addr, err := freePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	s := &Server{name: "azurite", Endpoint: "http://" + addr, log: filepath.Join(dir, "azurite.log"), Env: map[string]string{
		"AZURE_STORAGE_BLOB_ENDPOINT": "http://" + addr + "/" + AzureAccount, "AZURE_STORAGE_ACCOUNT": AzureAccount, "AZURE_STORAGE_KEY": AzureKey,
	}}
	return s, s.start(ctx, exec.Command("node", script, "--blobHost", "127.0.0.1", "--blobPort", port, "--location", filepath.Join(dir, "azurite"), "--disableTelemetry", "--silent"))
}

func build(ctx context.Context, m binaries.Module) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	b := binaries.Builder{Source: filepath.Join(filepath.Dir(strings.TrimSpace(string(root))), "e2e", "cluster", "build"), Cache: cache, Log: io.Discard}
	return b.Build(ctx, m)
}

func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w: set XDG_CACHE_HOME", err)
	}
	return filepath.Join(base, "continuo-e2e"), nil
}

func freePort(host string) (string, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// start runs the server until Stop, and returns when it answers.
func (s *Server) start(ctx context.Context, cmd *exec.Cmd) error {
	log, err := os.Create(s.log)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the child has its own handle
	cmd.Stdout, cmd.Stderr = log, log
	// A test that is killed leaves nothing behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	s.cmd, s.over = cmd, make(chan struct{})
	go func() {
		_ = cmd.Wait() // that it ended says all
		close(s.over)
	}()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+"/", nil)
		if err != nil {
			return errors.Join(err, s.Stop())
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			return resp.Body.Close() // whatever it says, it is there
		}
		select {
		case <-s.over:
			text, rerr := os.ReadFile(s.log)
			return errors.Join(fmt.Errorf("start %s: it ended (%s): %s", s.name, cmd.ProcessState, last(string(text))), rerr)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("start %s: it does not answer at %s; see %s", s.name, s.Endpoint, s.log), s.Stop())
		case <-tick.C:
		}
	}
}

// Stop ends the server and returns when it is gone.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", s.name, err)
	}
	<-s.over
	return nil
}

func last(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
