package daemon

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// served is a daemon that does not run, with tokens and a webhook, on a server of its own kind, as Serve makes it.
type served struct {
	t    *testing.T
	d    *Daemon
	addr string
	log  *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

const hookSecret = "a webhook's secret"

func serveQuiet(t *testing.T, impatient times, more string) *served {
	t.Helper()
	t.Setenv("T_READ", "the-read-token")
	t.Setenv("T_WRITE", "the-write-token")
	t.Setenv("T_HOOK", hookSecret)
	file := filepath.Join(t.TempDir(), "daemon.hcl")
	text := more + "tokens {\n read_env = \"T_READ\"\n write_env = \"T_WRITE\"\n}\nrepository \"r\" {\n url = \"/nowhere\"\n" +
		strings.Replace(withForge, "token_env", "webhook_secret_env = \"T_HOOK\"\n token_env", 1) + "}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	conf, _, diags := Load(file)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	s := &served{t: t, log: &syncBuffer{}}
	var err error
	s.d, err = New(conf, Options{Version: "test", Environ: os.Environ, Now: time.Now, Log: slog.New(slog.NewTextHandler(s.log, nil)), Forges: NewForge})
	if err != nil {
		t.Fatal(err)
	}
	s.d.times = impatient
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // of a test
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.d.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return s
}

// raw sends bytes and gives the status lines of what comes back until the connection ends, or a second passed without a word.
func (s *served) raw(text string) (codes []string, rest string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr) //nolint:noctx // of a test
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return nil, err.Error() // it was cut off in the middle, which is an answer
	}
	var all strings.Builder
	r := bufio.NewReader(conn)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			s.t.Fatal(err)
		}
		line, err := r.ReadString('\n')
		all.WriteString(line)
		if code, ok := strings.CutPrefix(line, "HTTP/1."); ok {
			codes = append(codes, code[2:5])
		}
		if err != nil {
			return codes, all.String()
		}
	}
}

func (s *served) answers() {
	s.t.Helper()
	resp, err := http.Get("http://" + s.addr + "/healthz") //nolint:noctx // of a test
	if err != nil {
		s.t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%d, %v", resp.StatusCode, err)
	}
}

const auth = "Authorization: Bearer the-write-token\r\n"

func sign(body string) string {
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

func (s *served) call(method, path, body string, head map[string]string) (*http.Response, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://"+s.addr+path, strings.NewReader(body)) //nolint:noctx // of a test
	if err != nil {
		s.t.Fatal(err)
	}
	bearer("the-write-token")(req)
	req.Header.Set("Content-Type", "application/json")
	for k, v := range head {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	raw, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		s.t.Fatal(err)
	}
	return resp, string(raw)
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("%s: never so", what)
		case <-tick.C:
		}
	}
}
