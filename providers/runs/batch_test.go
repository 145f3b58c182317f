package runs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// predict writes a line for each row, notes every row that it saw, and takes its time while the file `slow` is there.
const predict = `
sed 1d "$ML_INPUT_DATA" >> seen.log
if [ -e slow ]; then sleep 0.2; fi
{ echo prediction; sed -e 1d -e 's/,.*//' "$ML_INPUT_DATA"; } > "$ML_OUTPUT"
`

func (p *project) batchSpec(rows int, script string) config.BatchInference {
	p.T.Helper()
	in := p.dataInput("b.csv", tableOf(rows))
	p.Write("predict.sh", script)
	p.connect()
	return config.BatchInference{
		Exec:  config.Exec{Command: []string{"sh", "predict.sh"}},
		Model: p.model(4, "m"), Output: "out/predictions.csv", BatchSize: 10,
		Input: &config.Data{Address: "dataset.x", Digest: in["digest"].(string), Path: in["path"].(string), Rows: in["rows"].(int64)},
	}
}

func wantPredictions(t *testing.T, got string, rows int) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
	if lines[0] != "prediction" || len(lines) != rows+1 {
		t.Fatalf("%d lines, the first %q; want a header and %d rows", len(lines), lines[0], rows)
	}
	for i, l := range lines[1:] {
		if l != fmt.Sprint(i) {
			t.Fatalf("row %d is %q", i, l)
		}
	}
}

func TestABatchInferencePredictsEveryRowOnceInOrder(t *testing.T) {
	p := newProject(t, nil)
	spec := p.batchSpec(25, predict)
	spec.Parallel = 3
	var out config.BatchInferenceOutputs
	for range 2 {
		r := p.MustApply("batch_inference", "op1", spec)
		out = r.Outputs.(config.BatchInferenceOutputs)
	}
	got := p.Read("out/predictions.csv")
	wantPredictions(t, got, 25)
	if out.Rows != 25 || out.Version != 4 || out.Digest != string(resource.DigestOf([]byte(got))) || out.Path != "out/predictions.csv" {
		t.Errorf("outputs %+v", out)
	}
	if n := lineCount(p.Read("seen.log")); n != 25 {
		t.Errorf("the command saw %d rows, want 25", n)
	}
	if !p.Logged("25 of 25 rows predicted") {
		t.Error("no progress was told")
	}
	if ok, err := exists(p.Path(".ml/parts/batch-inference.x")); ok || err != nil {
		t.Errorf("finished parts are left: %v, %v", ok, err)
	}
}

func TestABatchThatFailsIsNamedAndTheOthersAreKept(t *testing.T) {
	p := newProject(t, nil)
	spec := p.batchSpec(25, predict+`if grep -q '^10,' "$ML_INPUT_DATA" && [ ! -e mended ]; then echo broken; exit 1; fi`)
	_, err := p.Apply("batch_inference", "op1", spec)
	providertest.WantRunError(t, err, "batch_inference.x: batch 1 failed: exit code 1")
	p.Write("mended", "")
	p.MustApply("batch_inference", "op2", spec)
	wantPredictions(t, p.Read("out/predictions.csv"), 25)
	seen := strings.Split(strings.TrimSpace(p.Read("seen.log")), "\n")
	if n := len(slices.DeleteFunc(seen, func(l string) bool { return !strings.HasPrefix(l, "0,") })); n != 1 {
		t.Errorf("the first row, of a finished batch, was predicted %d times", n)
	}
}

func TestABatchMustAnswerEveryRow(t *testing.T) {
	p := newProject(t, nil)
	_, err := p.Apply("batch_inference", "op1", p.batchSpec(5, `head -3 "$ML_INPUT_DATA" > "$ML_OUTPUT"`))
	providertest.WantRunError(t, err, "batch 0: it wrote 2 rows for 5")
	_, err = p.Apply("batch_inference", "op2", p.batchSpec(5, `true`))
	providertest.WantRunError(t, err, "batch 0: it wrote nothing to ML_OUTPUT")
	if p.Read("out/predictions.csv") != "" {
		t.Error("a failed inference wrote its output")
	}
}

// applyAndDie applies the batch inference of a project until it is killed.
func applyAndDie(root, digests string) int {
	d := strings.Split(digests, ",")
	w, err := NewWorkspace(providertest.Env(root), 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	spec := config.BatchInference{
		Exec: config.Exec{Command: []string{"sh", "predict.sh"}}, Output: "out/predictions.csv", BatchSize: 10,
		Model: &config.Model{Name: "x", Version: 4, Digest: d[0], Address: "training.x"},
		Input: &config.Data{Address: "dataset.x", Digest: d[1], Path: d[2], Rows: 60},
	}
	v, err := resource.Encode(spec)
	if err == nil {
		_, err = Drivers(w, Processes{w})["batch_inference"].Apply(context.Background(), providers.ApplyRequest{
			OpID: "op1", Address: providertest.AddressOf("batch_inference"), Spec: v, State: &state.Snapshot{},
			Inputs: resource.DigestOf([]byte("inputs")), Emit: func(resource.Event) {},
		})
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func TestAKilledBatchInferenceGoesOnAndPredictsEachRowOnce(t *testing.T) {
	p := newProject(t, map[string]string{"slow": ""})
	spec := p.batchSpec(60, predict)
	var said bytes.Buffer
	cmd := exec.Command(os.Args[0], "apply-and-die", p.Root, strings.Join([]string{spec.Model.Digest, spec.Input.Digest, spec.Input.Path}, ","))
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a second batch runs", func() bool { return lineCount(p.Read("seen.log")) >= 15 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) {
		t.Fatalf("killed: %v", err)
	}
	if got := lineCount(p.Read("seen.log")); got >= 60 || said.Len() > 0 {
		t.Fatalf("it was over before it was killed: %d rows, %s", got, said.String())
	}
	if err := os.Remove(p.Path("slow")); err != nil {
		t.Fatal(err)
	}
	req := p.Request("batch_inference", "op1", spec)
	req.Adopt = true
	if _, err := p.Drivers["batch_inference"].Apply(providertest.Within(t), req); err != nil {
		t.Fatal(err)
	}
	wantPredictions(t, p.Read("out/predictions.csv"), 60)
	seen := strings.Split(strings.TrimSpace(p.Read("seen.log")), "\n")
	slices.Sort(seen)
	if n := len(seen); n != 60 || len(slices.Compact(seen)) != 60 {
		t.Errorf("the command saw %d rows, want each of 60 once", n)
	}
}

func TestRowsKeepTheirSpellingInEveryFormat(t *testing.T) {
	p := newProject(t, nil)
	csv := "\ufeffa,b\r\n1,\"x, \"\"y\"\"\nz\"\r\n\r\n2,5\" pipe\n3,end"
	p.Write("q.csv", csv)
	n, err := cutFile(p.Path("q.csv"), p.Path("cut/q.csv"), formatCSV, 2)
	if err != nil || n != 2 {
		t.Fatalf("%d rows, %v", n, err)
	}
	if got, want := p.Read("cut/q.csv"), "\ufeffa,b\r\n1,\"x, \"\"y\"\"\nz\"\r\n2,5\" pipe\n"; got != want {
		t.Errorf("cut to %q, want %q", got, want)
	}
	if rows, err := countRows(p.Path("q.csv"), formatCSV); err != nil || rows != 3 {
		t.Errorf("%d rows, %v; want 3", rows, err)
	}
	p.Write("l.jsonl", "{\"a\": 1}\n\n{\"a\": 2}\n{\"a\": 3}")
	for _, name := range []string{"l.jsonl.gz", "l.jsonl.zst"} {
		if n, err := cutFile(p.Path("l.jsonl"), p.Path("z/"+name), formatJSONL, 2); err != nil || n != 2 {
			t.Fatalf("%d rows, %v", n, err)
		}
		if n, err := countRows(p.Path("z/"+name), formatJSONL); err != nil || n != 2 {
			t.Errorf("%s: %d rows, %v", name, n, err)
		}
	}
}
