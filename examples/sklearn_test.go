//go:build examples

package examples_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// interpreter finds a python with scikit-learn. Without one the test is skipped
// on a developer's machine and fails in CI, which installs it.
func interpreter(t *testing.T) string {
	t.Helper()
	var tried []string
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		out, err := exec.CommandContext(t.Context(), name, "-c", "import sklearn; print(sklearn.__version__)").CombinedOutput()
		if err == nil {
			t.Logf("%s has scikit-learn %s", name, strings.TrimSpace(string(out)))
			return name
		}
		tried = append(tried, name)
	}
	why := "no scikit-learn for " + strings.Join(tried, " or ") + ": apt-get install python3-sklearn, or pip install scikit-learn"
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip("SKIPPED: " + why)
	return ""
}

func TestSklearnTunesJudgesByGroupAndScoresEachRowOnce(t *testing.T) {
	p := open(t, "sklearn", "ML_VAR_python="+interpreter(t))
	out := p.ml(0, "apply", "-auto-approve")
	for _, part := range []string{"trial 1 ", "trial 8 ", "is best"} {
		if !strings.Contains(out, part) {
			t.Errorf("apply does not tell of %q:\n%s", part, out)
		}
	}
	vs := p.versions("training.wine")
	if len(vs) != 1 || !vs[0].Passed || vs[0].Metrics["accuracy"] < 0.9 {
		t.Fatalf("versions: %+v", vs)
	}

	// A split keeps its share by a hash, so its size is fixed by the data.
	lines := strings.Split(strings.TrimSpace(p.read("out/predictions.csv")), "\n")
	if lines[0] != "cultivar,probability" || len(lines)-1 < 40 || len(lines)-1 > 70 {
		t.Errorf("%d lines under the header %q", len(lines)-1, lines[0])
	}
	for _, l := range lines[1:] {
		if !strings.HasPrefix(l, "cultivar_") {
			t.Errorf("predicted %q", l)
		}
	}
	p.ml(0, "plan", "-detailed-exitcode")

	// A stricter bound for each group judges the recorded metrics; nothing runs.
	p.replace("wine.ml.hcl", `threshold "accuracy" { min = 0.85 }`, `threshold "accuracy" { min = 1.01 }`)
	out = p.ml(3, "apply", "-auto-approve")
	if !strings.Contains(out, "strength") {
		t.Errorf("apply does not name the group that is below its bound:\n%s", out)
	}
	if vs := p.versions("training.wine"); len(vs) != 1 {
		t.Errorf("a moved threshold trained again: %+v", vs)
	}
}
