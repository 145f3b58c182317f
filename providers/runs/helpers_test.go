package runs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/continuo-ml/continuo/providers/providertest"

	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
)

// TestMain lets this test binary be the detached runner, and an `ml` that a test kills.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == runner.Subcommand {
		os.Exit(runner.Main(os.Args[2]))
	}
	if len(os.Args) == 4 && os.Args[1] == "apply-and-die" {
		os.Exit(applyAndDie(os.Args[2], os.Args[3]))
	}
	// Who started a detached runner reaps it, which may take a moment longer than the last test.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/continuo-ml/continuo/internal/runner.folder.launch.func3"))
}

// project is a project folder with a connected provider.
type project struct {
	*providertest.Project
	provider *providers.Provider
}

func newProject(t *testing.T, contents map[string]string) *project {
	t.Helper()
	p := &project{Project: providertest.NewProject(t, contents)}
	p.connect()
	t.Cleanup(p.cancelAll)
	return p
}

// connect makes the provider anew, as another `ml` would.
func (p *project) connect() {
	p.T.Helper()
	p.provider = connectAt(p.T, p.Root)
	p.Drivers = p.provider.Drivers
}

func connectAt(t *testing.T, root string) *providers.Provider {
	t.Helper()
	pr := open(t, providertest.Env(root), 0)
	t.Cleanup(func() {
		if err := pr.Close(); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	return pr
}

// open makes a provider of the package's drivers with processes of this machine.
func open(t testing.TB, env providers.Env, maxParallel int) *providers.Provider {
	t.Helper()
	w, err := NewWorkspace(env, maxParallel)
	if err != nil {
		t.Fatal(err)
	}
	return &providers.Provider{Name: "processes", Drivers: Drivers(w, Processes{w}), Close: w.Close, Prune: w.Prune}
}

// cancelAll leaves no process of a failed test behind.
func (p *project) cancelAll() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ops, err := filepath.Glob(filepath.Join(p.Root, ".ml", "runs", "*"))
	if err != nil {
		p.T.Error(err)
	}
	for _, op := range ops {
		stages, err := stagesOf(ctx, Processes{}, op)
		if err != nil {
			p.T.Error(err)
		}
		for _, s := range stages {
			if err := runner.Cancel(ctx, s.dir, time.Second); err != nil {
				p.T.Error(err)
			}
		}
	}
}

// lineCount counts the lines of a file that scripts append to.
func lineCount(text string) int { return strings.Count(text, "\n") }
