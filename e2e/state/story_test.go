//go:build e2e

package state

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// project is a folder with the program in it.
type project struct {
	*testing.T
	dir, ml string
	env     []string
}

func buildProgram(t *testing.T) string {
	t.Helper()
	ml := filepath.Join(t.TempDir(), "ml")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", ml, "../../cmd/ml").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return ml
}

func (p *project) write(name, text string) {
	p.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
		p.Fatal(err)
	}
}

// run runs ml and wants its exit code and texts in what it says.
func (p *project) run(code int, args []string, texts ...string) string {
	p.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.Context()), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.ml, args...)
	cmd.Dir, cmd.Env = p.dir, append(append(os.Environ(), "NO_COLOR=1"), p.env...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		p.Fatalf("ml %s: %v, want exit code %d:\n%s", strings.Join(args, " "), err, code, out)
	}
	for _, text := range texts {
		if !bytes.Contains(out, []byte(text)) {
			p.Errorf("ml %s does not say %q:\n%s", strings.Join(args, " "), text, out)
		}
	}
	return string(out)
}

func ml(args ...string) []string { return args }

const (
	files = `
variable "secret" {
  type      = string
  sensitive = true
  default   = "s3cr3t"
}
dataset "d" { source = "d.csv" }
training "t" {
  command = ["sh", "-c", "echo x > $ML_MODEL_DIR/m; echo '{\"f1\": 0.9}' > $ML_METRICS"]
  inputs  = { d = dataset.d }
  env     = { TOKEN = var.secret }
}
`
	serving = `
deployment "s" {
  model   = training.t.model
  command = ["python3", "serve.py"]
}
`
	serve = `
import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    def log_message(self, *a): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), H).serve_forever()
`
	inBucket = `ml {
  backend "s3" {
    bucket = "ml-state"
    prefix = "story"
  }
}
`
)

// TestAProjectMovesItsStateToABucketAndBack is the way of a project: alone, then
// shared with a CI job and a second machine, then alone again.
func TestAProjectMovesItsStateToABucketAndBack(t *testing.T) {
	newServer(t)
	program := buildProgram(t)
	at := func() *project {
		p := &project{T: t, dir: t.TempDir(), ml: program}
		p.write("main.ml.hcl", files)
		p.write("d.csv", "a,b\n1,2\n3,4\n")
		p.write("serve.py", serve)
		return p
	}
	p := at()
	p.run(0, ml("apply", "-auto-approve"), "version 1")
	p.write("backend.ml.hcl", inBucket)
	p.run(1, ml("plan"), "-migrate-state", "-reconfigure", ".ml/state.db", "s3://ml-state/story")
	p.run(0, ml("init", "-migrate-state"), "moved from .ml/state.db to s3://ml-state/story")
	p.run(0, ml("init", "-migrate-state"), "where the files keep it")
	p.run(0, ml("plan"), "No changes")
	p.run(0, ml("state", "verify"), "The state is sound")
	p.run(0, ml("apply", "-auto-approve"), "0 run")
	if left, err := filepath.Glob(filepath.Join(p.dir, ".ml", "state.db.moved-*")); err != nil || len(left) != 1 {
		t.Errorf("the copy that stays behind: %v, %v", left, err)
	}

	key, err := os.ReadFile(filepath.Join(p.dir, ".ml", "key"))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("a CI job plans on a fresh checkout, with the project's key", func(t *testing.T) {
		ci := at()
		ci.T = t
		ci.write("backend.ml.hcl", inBucket)
		ci.run(1, ml("plan"), "not the key of the state", "ML_PROJECT_KEY")
		ci.env = []string{"ML_PROJECT_KEY=" + strings.TrimSpace(string(key))}
		ci.run(0, ml("plan", "-detailed-exitcode"), "No changes", "Shown as recorded", p.dir)
		ci.write("d.csv", "a,b\n1,2\n3,5\n")
		ci.run(2, ml("plan", "-detailed-exitcode"), "training.t", "data")
	})

	p.write("server.ml.hcl", serving)
	p.run(0, ml("apply", "-auto-approve"), "deployment.s")
	t.Cleanup(func() { p.run(0, ml("destroy", "-auto-approve")) })
	t.Run("another machine does not start a second server", func(t *testing.T) {
		other := at()
		other.T = t
		other.write("backend.ml.hcl", inBucket)
		other.write("server.ml.hcl", serving)
		other.env = []string{"ML_PROJECT_KEY=" + strings.TrimSpace(string(key))}
		other.run(1, ml("apply", "-auto-approve"), "deployment.s runs on the machine of", p.dir, "-adopt-local")
	})

	if err := os.Remove(filepath.Join(p.dir, "backend.ml.hcl")); err != nil {
		t.Fatal(err)
	}
	p.run(1, ml("plan"), "-migrate-state")
	p.run(0, ml("init", "-migrate-state"), "moved from s3://ml-state/story to .ml/state.db")
	p.run(0, ml("plan"), "No changes")
	p.run(0, ml("state", "verify"), "The state is sound")
	stays := at()
	stays.write("backend.ml.hcl", inBucket)
	stays.run(1, ml("plan"), "the state was moved", ".ml/state.db")
}
