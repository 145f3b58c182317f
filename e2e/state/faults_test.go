//go:build e2e

package state

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/e2e/cluster/stores"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/remote"
	"github.com/continuo-ml/continuo/state/remote/s3"
)

// weather is what lies between a store and the real server.
type weather struct {
	// hit is asked before each request what becomes of it.
	hit func(*http.Request) string
	n   atomic.Int32
}

func (w *weather) RoundTrip(req *http.Request) (*http.Response, error) {
	what := ""
	if w.hit != nil {
		what = w.hit(req)
	}
	switch what {
	case "503":
		w.n.Add(1)
		return &http.Response{StatusCode: 503, Status: "503 Slow Down", Header: http.Header{}, Request: req, Body: io.NopCloser(strings.NewReader(
			`<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`))}, nil
	case "reset": // before it got there
		w.n.Add(1)
		return nil, syscall.ECONNRESET
	case "lost": // it is done, and nobody hears of it
		w.n.Add(1)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err == nil {
			err = errors.Join(resp.Body.Close(), io.ErrUnexpectedEOF)
		}
		return nil, err
	case "slow": // past the deadline of one request, and done all the same
		w.n.Add(1)
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		late := req.Clone(context.WithoutCancel(req.Context()))
		late.Body = io.NopCloser(bytes.NewReader(body))
		<-req.Context().Done()
		if resp, err := http.DefaultTransport.RoundTrip(late); err == nil {
			resp.Body.Close() //nolint:errcheck,gosec // nobody hears of it
		}
		return nil, req.Context().Err()
	}
	return http.DefaultTransport.RoundTrip(req)
}

func isHead(req *http.Request) bool {
	return req.Method == http.MethodPut && strings.HasSuffix(req.URL.Path, "/head")
}

// TestBadWeatherNeverMakesACommitTwice counts versions, whose numbers are given out by the state: one too many would show.
func TestBadWeatherNeverMakesACommitTwice(t *testing.T) {
	newServer(t)
	training := record(1, nil).Address
	for _, kind := range []string{"503", "reset", "lost", "slow"} {
		t.Run(kind, func(t *testing.T) {
			w := &weather{}
			place := s3.New(s3.Options{Bucket: bucketName, Prefix: "weather/" + kind, Transport: w, Within: 300 * time.Millisecond})
			s := remote.Open(place, options(t, t.TempDir()))
			_, release, err := s.Acquire(t.Context(), "apply")
			if err != nil {
				t.Fatal(err)
			}
			var asked atomic.Int32
			w.hit = func(req *http.Request) string { // every second write of the head
				if isHead(req) && asked.Add(1)%2 == 1 {
					return kind
				}
				return ""
			}
			const n = 6
			for i := range n {
				v := &state.Version{Address: training, Digest: "d", Run: fmt.Sprint(i)}
				if _, err := s.Commit(t.Context(), 0, state.Op{PutVersion: v}); err != nil {
					t.Fatalf("commit %d: %v", i, err)
				}
				if v.Number != i+1 {
					t.Errorf("commit %d got number %d", i, v.Number)
				}
			}
			w.hit = nil
			if err := release(); err != nil {
				t.Error(err)
			}
			snap, err := remote.Open(place, options(t, t.TempDir())).Snapshot(t.Context())
			if err != nil || len(snap.Versions[training]) != n {
				t.Errorf("%d versions, %v", len(snap.Versions[training]), err)
			}
			if w.n.Load() < n {
				t.Errorf("only %d requests were hit", w.n.Load())
			}
		})
	}
}

func TestRefusalsOfS3SayWhatToDo(t *testing.T) {
	srv := newServer(t)
	refused := func(o s3.Options, not error, texts ...string) {
		t.Helper()
		s := remote.Open(s3.New(o), remote.Options{Patience: 200 * time.Millisecond})
		_, rerr := s.Snapshot(t.Context())
		_, _, werr := s.Acquire(t.Context(), "apply")
		for _, err := range []error{rerr, werr} {
			if err == nil || not != nil && errors.Is(err, not) {
				t.Errorf("got %v", err)
				continue
			}
			for _, text := range texts {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q does not say %q", err, text)
				}
			}
			if strings.Contains(err.Error(), stores.SecretKey) {
				t.Errorf("%q says too much", err)
			}
		}
		t.Log(rerr)
	}
	refused(s3.Options{Bucket: "nobody"}, remote.ErrBusy, "there is no bucket nobody", "AWS_ENDPOINT_URL")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "other")
	refused(s3.Options{Bucket: bucketName}, remote.ErrBusy, "AWS_SECRET_ACCESS_KEY")
	t.Setenv("AWS_ACCESS_KEY_ID", "nobody")
	refused(s3.Options{Bucket: bucketName}, remote.ErrBusy, "AWS_ACCESS_KEY_ID")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	refused(s3.Options{Bucket: bucketName}, remote.ErrBusy, "get credentials", "AWS_PROFILE")
	setenv(t, srv.Env)
	if err := srv.Stop(); err != nil {
		t.Fatal(err)
	}
	refused(s3.Options{Bucket: bucketName}, nil, "connection refused")
}

func TestObjectsThatAreRemovedOrDamagedByHandAreNamed(t *testing.T) {
	srv := newServer(t)
	place := s3.New(s3.Options{Bucket: bucketName, Prefix: "p"})
	s := remote.Open(place, options(t, t.TempDir()))
	var ops []state.Op
	for i := range 400 {
		ops = append(ops, state.Op{PutRecord: record(i, noise(i, 1000))})
	}
	if _, err := s.Commit(t.Context(), 0, ops...); err != nil {
		t.Fatal(err)
	}
	snap, err := s.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	head, part := filepath.Join(srv.data, "p", "head"), ""
	names, err := filepath.Glob(filepath.Join(srv.data, "p", "parts", "*"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	part = names[0]
	try := func() error {
		_, err := remote.Open(place, options(t, t.TempDir())).Snapshot(t.Context())
		return err
	}
	aside := func(file string, check func(error)) {
		t.Helper()
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(whole)
		bad[len(bad)/2] ^= 4
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(bad, 0); err != nil {
			t.Fatal(err)
		}
		check(try())
		if _, err := f.WriteAt(whole, 0); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Close(), try()); err != nil {
			t.Fatal("put back:", err)
		}
	}
	aside(part, func(err error) {
		if !errors.Is(err, state.ErrCorrupt) || !strings.Contains(err.Error(), filepath.Base(part)) {
			t.Errorf("a damaged part: %v", err)
		}
	})
	aside(head, func(err error) {
		if !errors.Is(err, state.ErrCorrupt) || !strings.Contains(err.Error(), snap) {
			t.Errorf("a damaged head: %v", err)
		}
	})
	if err := os.Remove(head); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Snapshot(t.Context()); !errors.Is(err, state.ErrOlder) {
		t.Errorf("a head that is gone: %v", err)
	}
	if from, err := s.RestoreLatest(t.Context()); err != nil || from != snap {
		t.Error(from, err)
	}
	if err := try(); err != nil {
		t.Error(err)
	}
}

// childVariable makes this test binary be another process that holds the lease and writes.
const childVariable = "ML_STATE_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := child(dir); err != nil {
			fmt.Println("error:", err)
		}
		return
	}
	os.Exit(m.Run())
}

// child commits record 1, 2, … and says so after each.
func child(dir string) error {
	ctx := context.Background()
	s := remote.Open(s3.New(s3.Options{Bucket: bucketName, Prefix: "held"}), remote.Options{Dir: dir, Holder: "child@host", Poll: 10 * time.Millisecond, LeaseFor: holdFor})
	if _, _, err := s.Acquire(ctx, "apply"); err != nil {
		return err
	}
	for i := 1; ; i++ {
		if _, err := s.Commit(ctx, 0, state.Op{PutRecord: record(i, nil)}); err != nil {
			return err
		}
		fmt.Println("done", i)
	}
}

const holdFor = 3 * time.Second

// holder is another process that holds the lease and writes.
type holder struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	n   int    // records told
	end string // its last words
	eof chan struct{}
}

func startHolder(t *testing.T, dir string) *holder {
	t.Helper()
	h := &holder{cmd: exec.Command(os.Args[0], "-test.run=^$"), eof: make(chan struct{})}
	h.cmd.Env = append(os.Environ(), childVariable+"="+dir)
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(h.eof)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			h.mu.Lock()
			if _, err := fmt.Sscanf(lines.Text(), "done %d", &h.n); err != nil {
				h.end = lines.Text()
			}
			h.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		h.signal(t, syscall.SIGKILL)
		<-h.eof
		_ = h.cmd.Wait() // that it was killed says all
	})
	h.until(t, "it writes", func(n int, end string) bool {
		if end != "" {
			t.Fatal(end)
		}
		return n > 3
	})
	return h
}

func (h *holder) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := h.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
}

func (h *holder) until(t *testing.T, what string, ok func(n int, end string) bool) int {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		h.mu.Lock()
		n, end := h.n, h.end
		h.mu.Unlock()
		if ok(n, end) {
			return n
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited in vain: " + what)
		}
	}
}

// records are the numbers up to the highest that is there; it wants no gap.
func records(t *testing.T, s *remote.Store) int {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for snap.Record(record(n+1, nil).Address) != nil {
		n++
	}
	if len(snap.Records) != n {
		t.Errorf("%d records, the first %d without a gap", len(snap.Records), n)
	}
	return n
}

func TestAProcessThatIsStoppedAndGoesOnWritesNothing(t *testing.T) {
	newServer(t)
	h := startHolder(t, t.TempDir())
	h.signal(t, syscall.SIGSTOP)
	s := remote.Open(s3.New(s3.Options{Bucket: bucketName, Prefix: "held"}), options(t, t.TempDir()))
	began := time.Now()
	_, release, err := s.Acquire(t.Context(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(began); waited < holdFor {
		t.Errorf("the lease was taken over after %s", waited)
	}
	there := records(t, s)
	h.signal(t, syscall.SIGCONT)
	told := h.until(t, "it is refused", func(_ int, end string) bool { return end != "" })
	h.mu.Lock()
	last := h.end
	h.mu.Unlock()
	if !strings.Contains(last, "lease lost") || told > there {
		t.Errorf("its last words: %q; it told of %d records, %d were there", last, told, there)
	}
	if now := records(t, s); now != there {
		t.Errorf("%d records became %d after it went on", there, now)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestAProcessThatIsKilledIsFollowedAtOnceInItsFolder(t *testing.T) {
	newServer(t)
	dir := t.TempDir()
	h := startHolder(t, dir)
	h.signal(t, syscall.SIGKILL)
	<-h.eof
	place := s3.New(s3.Options{Bucket: bucketName, Prefix: "held"})
	short, cancel := context.WithTimeout(t.Context(), holdFor/3)
	defer cancel()
	if _, _, err := remote.Open(place, options(t, t.TempDir())).Acquire(short, "apply"); !errors.Is(err, state.ErrLocked) || !strings.Contains(err.Error(), "child@host") {
		t.Errorf("in another folder: %v", err)
	}
	s := remote.Open(place, options(t, dir))
	again, cancel := context.WithTimeout(t.Context(), holdFor/3)
	defer cancel()
	_, release, err := s.Acquire(again, "apply")
	if err != nil {
		t.Fatal("in its own:", err)
	}
	if n := records(t, s); n < h.n {
		t.Errorf("it told of %d records, %d are there", h.n, n)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}
