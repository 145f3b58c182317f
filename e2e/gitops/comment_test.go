//go:build e2e && linux

package gitops

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/e2e/gitops/gitea"
	"github.com/continuo-ml/continuo/internal/forge"
)

// program builds ml once for all tests.
func program(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "ml")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "github.com/continuo-ml/continuo/cmd/ml").CombinedOutput(); err != nil {
		t.Fatalf("build ml: %v\n%s", err, out)
	}
	return bin
}

const project = `dataset "d" { source = "d.csv" }
training "t" {
  command = ["sh", "t.sh"]
  inputs  = { d = dataset.d }
}
validation "t" {
  model = training.t.model
  threshold "recall" { min = 0.9 }
}
`

// A job of a CI: a clean environment with what the CI sets, no terminal, and the state beside it.
func TestMlCommentInAJobOnARealForge(t *testing.T) {
	ml := program(t)
	w := newTeam(t, map[string]string{
		"models/churn/main.ml.hcl": project, "models/churn/d.csv": "a\n1\n", "models/churn/.gitignore": ".ml/\n",
		"models/churn/t.sh": "echo m > \"$ML_MODEL_DIR/m\"\necho '{\"recall\": 0.95}' > \"$ML_METRICS\"\n",
	})
	ctx := t.Context()
	run := func(c gitea.Checkout, env []string, args ...string) (string, error) {
		cmd := exec.CommandContext(context.WithoutCancel(ctx), ml, args...)
		cmd.Dir = filepath.Join(c.Dir, "models", "churn")
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "CI=true", "GITEA_TOKEN=" + w.owner.Token}, env...)
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), w.owner.Token) {
			t.Errorf("the token is in the log of ml %v", args)
		}
		return string(out), err
	}
	must[string](t)(run(w.checkout, nil, "apply", "-auto-approve"))
	head := must[string](t)(w.checkout.Push(ctx, "data", map[string]string{"models/churn/d.csv": "a\n1\n2\n"}, "more data"))
	n := must[int](t)(w.owner.Pull(ctx, w.repo, "data", "main", "more data"))
	jenkins := []string{"CHANGE_ID=1", "CHANGE_URL=" + server.URL + "/" + w.repo + "/pulls/1", "BUILD_URL=https://ci.example.com/job/1"}

	must[string](t)(run(w.checkout, nil, "plan", "-input=false", "-out=plan.bin"))
	out := must[string](t)(run(w.checkout, jenkins, "comment", "-input=false", "plan.bin"))
	if !strings.Contains(out, "Pull request 1 of "+w.repo+": 1 to change, 2 to run") {
		t.Errorf("%s", out)
	}
	said := must[[]gitea.Said](t)(w.owner.Comments(ctx, w.repo, n))
	if len(said) != 1 {
		t.Fatalf("%+v", said)
	}
	for _, want := range []string{"<!-- continuo plan models/churn -->", "for `models/churn`", "`dataset.d`", "data changed", "gate: `recall ≥ 0.9`", head[:12], "```mermaid"} {
		if !strings.Contains(said[0].Body, want) {
			t.Errorf("the comment lacks %q:\n%s", want, said[0].Body)
		}
	}
	status := must[[]gitea.Status](t)(w.owner.Statuses(ctx, w.repo, head))
	if len(status) != 1 || status[0] != (gitea.Status{Status: "success", Context: "ml plan models/churn", Description: "1 to change, 2 to run", TargetURL: "https://ci.example.com/job/1"}) {
		t.Errorf("%+v", status)
	}

	// The next push breaks it: the same comment says so, and the status is that of the new head.
	second := must[string](t)(w.checkout.Push(ctx, "data", map[string]string{"models/churn/main.ml.hcl": "tarining \"t\" {}\n"}, "oops"))
	client := w.client(t, w.owner)
	ok(t, gitea.Until(ctx, func() bool { return must[forge.Pull](t)(client.Pull(ctx, n)).Head == second }))
	if out, err := run(w.checkout, jenkins, "comment"); err == nil || !strings.Contains(out, "tarining") {
		t.Errorf("%v\n%s", err, out)
	}
	again := must[[]gitea.Said](t)(w.owner.Comments(ctx, w.repo, n))
	if len(again) != 1 || again[0].ID != said[0].ID || !strings.Contains(again[0].Body, "mend the errors above") {
		t.Errorf("%+v", again)
	}
	if status := must[[]gitea.Status](t)(w.owner.Statuses(ctx, w.repo, second)); len(status) != 1 || status[0].Status != "failure" {
		t.Errorf("%+v", status)
	}

	// A fork's pull request is told by the forge, whatever the job says.
	fork := must[string](t)(w.stranger.Fork(ctx, w.repo))
	theirs := must[gitea.Checkout](t)(w.stranger.Clone(ctx, fork, filepath.Join(t.TempDir(), "fork")))
	must[string](t)(theirs.Push(ctx, "main", map[string]string{"models/churn/d.csv": "a\n31337\n"}, "please"))
	f := must[int](t)(w.stranger.Pull(ctx, w.repo, w.stranger.Name+":main", "main", "please"))
	must[string](t)(run(theirs, nil, "comment", "-forge", "gitea", "-url", server.URL, "-repo", w.repo, "-pull", "2"))
	foreign := must[[]gitea.Said](t)(w.owner.Comments(ctx, w.repo, f))
	if len(foreign) != 1 || !strings.Contains(foreign[0].Body, "comes from a fork") || strings.Contains(foreign[0].Body, "d.csv") {
		t.Errorf("%+v", foreign)
	}
}
