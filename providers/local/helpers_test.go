package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"
	"go.uber.org/goleak"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// TestMain lets this test binary be the detached runner, the gateway, and an `ml` that a test kills.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "__gateway" {
		os.Exit(gateway.Main(os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == runner.Subcommand {
		os.Exit(runner.Main(os.Args[2]))
	}
	if len(os.Args) == 4 && os.Args[1] == "apply-and-die" {
		os.Exit(applyAndDie(os.Args[2], os.Args[3]))
	}
	goleak.VerifyTestMain(m)
}

// project is a project folder with a connected provider.
type project struct {
	t        *testing.T
	root     string
	drivers  map[string]providers.Driver
	provider *providers.Provider
	snapshot *state.Snapshot
	runs     []*state.Run

	mu     sync.Mutex
	events []resource.Event
}

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newProject(t *testing.T, contents map[string]string) *project {
	t.Helper()
	p := &project{t: t, root: t.TempDir(), snapshot: &state.Snapshot{}}
	for name, text := range contents {
		p.write(name, text)
	}
	p.connect()
	t.Cleanup(p.cancelAll)
	return p
}

// connect makes the provider anew, as another `ml` would.
func (p *project) connect() {
	p.t.Helper()
	p.provider = connectAt(p.t, p.root)
	p.drivers = p.provider.Drivers
}

func connectAt(t *testing.T, root string) *providers.Provider {
	t.Helper()
	pr, err := New().Connect(t.Context(), testEnv(root), cty.NilVal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pr.Close(); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	return pr
}

func testEnv(root string) providers.Env {
	return providers.Env{
		Root: root, Dir: filepath.Join(root, ".ml"),
		Now: func() time.Time { return testNow }, LookupEnv: os.LookupEnv, Environ: os.Environ,
	}
}

// cancelAll leaves no process of a failed test behind.
func (p *project) cancelAll() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ops, err := filepath.Glob(filepath.Join(p.root, ".ml", "runs", "*"))
	if err != nil {
		p.t.Error(err)
	}
	for _, op := range ops {
		stages, err := stagesOf(op)
		if err != nil {
			p.t.Error(err)
		}
		for _, s := range stages {
			if err := runner.Cancel(ctx, s.dir, time.Second); err != nil {
				p.t.Error(err)
			}
		}
	}
}

func (p *project) path(name string) string { return filepath.Join(p.root, filepath.FromSlash(name)) }

func (p *project) write(name, text string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(name)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(p.path(name), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// read returns a file's text, "" if it is not there.
func (p *project) read(name string) string {
	p.t.Helper()
	at := name
	if !filepath.IsAbs(at) {
		at = p.path(name)
	}
	b, err := os.ReadFile(at)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	return string(b)
}

func encoded(t *testing.T, spec any) cty.Value {
	t.Helper()
	v, err := resource.Encode(spec)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (p *project) probe(kind string, spec any) (map[string]string, error) {
	p.t.Helper()
	pr, ok := providers.As[providers.Prober](p.drivers[kind])
	if !ok {
		p.t.Fatalf("%s has no Probe", kind)
	}
	return pr.Probe(p.t.Context(), providers.ProbeRequest{Address: address(kind), Spec: encoded(p.t, spec)})
}

func address(kind string) resource.Address { return resource.Address{Kind: kind, Name: "x"} }

// request is that of a step whose sources were probed just now.
func (p *project) request(kind, opID string, spec any) providers.ApplyRequest {
	p.t.Helper()
	req := providers.ApplyRequest{
		OpID: opID, Address: address(kind), Action: resource.RunIt, Spec: encoded(p.t, spec),
		State: p.snapshot, Inputs: resource.DigestOf([]byte("inputs")),
		Emit: func(e resource.Event) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.events = append(p.events, e)
		},
		Runs: func(resource.Address) ([]*state.Run, error) { return p.runs, nil },
	}
	if _, ok := providers.As[providers.Prober](p.drivers[kind]); ok {
		probed, err := p.probe(kind, spec)
		if err != nil {
			p.t.Fatal(err)
		}
		req.Probed = probed
	}
	return req
}

func (p *project) apply(kind, opID string, spec any) (providers.Result, error) {
	p.t.Helper()
	return p.drivers[kind].Apply(within(p.t), p.request(kind, opID, spec))
}

func (p *project) mustApply(kind, opID string, spec any) providers.Result {
	p.t.Helper()
	r, err := p.apply(kind, opID, spec)
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// logged reports whether an event's message holds text.
func (p *project) logged(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if strings.Contains(e.Message, text) {
			return true
		}
	}
	return false
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("error %v, want one with %q", err, text)
	}
}

func wantRunError(t *testing.T, err error, text string) *providers.RunError {
	t.Helper()
	wantError(t, err, text)
	var run *providers.RunError
	if !errors.As(err, &run) {
		t.Fatalf("%T is no RunError: %v", err, err)
	}
	return run
}

func ptr[T any](v T) *T { return &v }

// lineCount counts the lines of a file that scripts append to.
func lineCount(text string) int { return strings.Count(text, "\n") }
