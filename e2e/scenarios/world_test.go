//go:build e2e

package scenarios

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// limit ends a command that hangs; the slowest trains, builds an image and rolls it out.
const limit = 6 * time.Minute

// place is the cluster that the scenarios run on.
type place struct {
	bin        string // the program, built once
	kubeconfig string
	registry   string // host:port that this machine and the pods reach
	image      string // Python with scikit-learn
}

var here place

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run refuses to do nothing: without a cluster the scenarios have failed.
func run(m *testing.M) int {
	here = place{kubeconfig: os.Getenv("ML_E2E_KUBECONFIG"), registry: os.Getenv("ML_E2E_REGISTRY"), image: os.Getenv("ML_E2E_IMAGE")}
	if here.kubeconfig == "" || here.registry == "" {
		fmt.Fprintln(os.Stderr, "set ML_E2E_KUBECONFIG and ML_E2E_REGISTRY, or run `make e2e`, which starts a cluster and sets them")
		return 1
	}
	if here.image == "" {
		here.image = here.registry + "/python-sklearn:12"
	}
	dir, err := os.MkdirTemp("", "ml-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	here.bin = filepath.Join(dir, "ml")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", here.bin, "github.com/continuo-ml/continuo/cmd/ml")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "[build failed] ml: %v\n%s", err, out) // as go test says it
		return 1
	}
	return m.Run()
}

// world is a project in a folder of its own, and a namespace of its own for what it makes.
type world struct {
	*testing.T
	dir       string
	namespace string
	cluster   cluster
	env       []string
}

// worlds counts them: two that begin in one millisecond have two namespaces.
var worlds atomic.Int64

// lacks ends a test for which the cluster has not what it needs: as a failure where all of it has to be there.
func lacks(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// newWorld copies an example of the repository. At the end of a test that failed it destroys what was applied; a test that
// passes has done so itself, and found nothing left.
func newWorld(t *testing.T, example, where string) *world {
	t.Helper()
	return newWorldOf(t, os.DirFS(filepath.Join("..", "..", "examples", example)), where)
}

func newWorldOf(t *testing.T, files fs.FS, where string) *world {
	t.Helper()
	w := &world{T: t, dir: t.TempDir(), namespace: fmt.Sprintf("e2e-%s-%d-%d", strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))[:1], time.Now().UnixMilli()%1e8, worlds.Add(1))}
	if err := os.CopyFS(w.dir, files); err != nil {
		t.Fatal(err)
	}
	w.cluster = connect(t)
	w.cluster.makeNamespace(t, w.namespace)
	w.env = append(os.Environ(), "NO_COLOR=1", "KUBECONFIG="+w.cluster.rights(t, w.namespace),
		"ML_VAR_where="+where, "ML_VAR_registry="+here.registry+"/"+w.namespace, "ML_VAR_namespace="+w.namespace, "ML_VAR_image="+here.image)
	t.Cleanup(func() {
		if t.Failed() {
			out, err := w.run(context.Background(), "status")
			t.Logf("ml status: %v\n%s", err, out)
			w.cluster.describe(t, w.namespace)
			if out, err := w.run(context.Background(), "destroy", "-auto-approve"); err != nil {
				t.Logf("ml destroy: %v\n%s", err, out)
			}
		}
	})
	return w
}

// command runs a program in the project and returns all that it said.
func (w *world) command(ctx context.Context, name string, args ...string) (string, error) {
	w.Helper()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil && err != nil {
		err = fmt.Errorf("%w (%w)", err, ctx.Err())
	}
	return string(out), err
}

func (w *world) run(ctx context.Context, args ...string) (string, error) {
	w.Helper()
	return w.command(ctx, here.bin, args...)
}

// ml runs a command that ends well.
func (w *world) ml(args ...string) string {
	w.Helper()
	began := time.Now()
	out, err := w.run(w.Context(), args...)
	if err != nil {
		w.Fatalf("ml %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	w.Logf("ml %s: %.1f s", strings.Join(args, " "), time.Since(began).Seconds())
	return out
}

// exits runs a command and wants its exit code.
func (w *world) exits(code int, args ...string) string {
	w.Helper()
	out, err := w.run(w.Context(), args...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		w.Fatalf("ml %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	if got != code {
		w.Fatalf("ml %s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
	}
	return out
}

// read runs a command with -json and decodes its document.
func (w *world) read(into any, args ...string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, here.bin, append(args, "-json")...)
	cmd.Dir, cmd.Env = w.dir, w.env
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		w.Fatalf("ml %s -json: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	if err := json.Unmarshal(out, into); err != nil {
		w.Fatalf("ml %s -json: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// plan maps each step's address to its action and the sorted codes of its reasons.
func (w *world) plan() map[string]string {
	w.Helper()
	var p struct {
		Steps []struct {
			Address, Action string
			Reasons         []struct{ Code string }
		}
	}
	w.read(&p, "plan")
	out := map[string]string{}
	for _, s := range p.Steps {
		text := s.Action
		seen := map[string]bool{}
		for _, r := range s.Reasons {
			if !seen[r.Code] {
				text += " " + r.Code
			}
			seen[r.Code] = true
		}
		out[s.Address] = text
	}
	return out
}

// unchanged wants a plan with nothing to do.
func (w *world) unchanged() {
	w.Helper()
	w.exits(0, "plan", "-detailed-exitcode")
}

// state is what `ml status` says of one address.
type state struct {
	Address, Phase, Message, Endpoint string
	Version                           int
	Signal                            map[string]string
}

func (w *world) status(address string) state {
	w.Helper()
	var all []state
	w.read(&all, "status")
	for _, s := range all {
		if s.Address == address {
			return s
		}
	}
	w.Fatalf("ml status knows no %s", address)
	return state{}
}

func (w *world) serves(version int) {
	w.Helper()
	if s := w.status("deployment.tumors"); s.Version != version {
		w.Fatalf("version %d serves (%s, %s), want %d", s.Version, s.Phase, s.Message, version)
	}
}

// endpoint is where the deployment answers, as this machine reaches it: by the address of its Service.
func (w *world) endpoint() string {
	w.Helper()
	return w.cluster.reach(w.T, w.status("deployment.tumors").Endpoint)
}

// traffic asks the service, and fails the test if a request failed.
func (w *world) traffic(args ...string) string {
	w.Helper()
	script, err := filepath.Abs(filepath.Join("..", "..", "examples", "traffic.py"))
	if err != nil {
		w.Fatal(err)
	}
	out, err := w.command(w.Context(), "python3", append([]string{script}, args...)...)
	if err != nil {
		w.Fatalf("traffic %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}
