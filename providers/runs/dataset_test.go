package runs

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

const table = "id,age,region\n1,34,north\n2,51,south\n3,28,north\n4,77,west\n"

// tableOf has n rows.
func tableOf(n int) string {
	var b strings.Builder
	b.WriteString("id,value\n")
	for i := range n {
		fmt.Fprintf(&b, "%d,%d\n", i, i*i)
	}
	return b.String()
}

func TestADatasetIsFrozenUnderTheDigestThatWasPlanned(t *testing.T) {
	p := newProject(t, map[string]string{"data/x.csv": table})
	spec := config.Dataset{Source: "data/x.csv"}
	r := p.MustApply("dataset", "op1", spec)
	out := r.Outputs.(config.DatasetOutputs)
	want := config.DatasetOutputs{
		Data: config.Data{
			Address: "dataset.x", Digest: string(resource.DigestOf([]byte(table))), Rows: 4,
			Path: ".ml/data/" + resource.DigestOf([]byte(table)).Hex() + "/x.csv",
		},
		Columns: []string{"id", "age", "region"}, Split: map[string]any{},
	}
	if d := cmp.Diff(want, out); d != "" {
		t.Error(d)
	}
	if r.Verdict != nil {
		t.Errorf("a dataset without rules has the verdict %+v", r.Verdict)
	}
	p.Write("data/x.csv", "id\n9\n")
	if got := p.Read(out.Path); got != table {
		t.Errorf("the frozen copy moved with its source: %q", got)
	}
}

func TestASourceThatMovedBetweenPlanAndApplyIsAnError(t *testing.T) {
	p := newProject(t, map[string]string{"data/x.csv": table})
	req := p.Request("dataset", "op1", config.Dataset{Source: "data/x.csv"})
	p.Write("data/x.csv", table+"5,40,east\n")
	p.connect() // The plan may have been made by another process.
	_, err := p.Drivers["dataset"].Apply(providertest.Within(t), req)
	providertest.WantError(t, err, "dataset.x: the source moved since the plan")
	if !errors.Is(err, files.ErrMoved) {
		t.Errorf("%v does not match ErrMoved", err)
	}
}

func TestSplitsStandUnderTheDigestsThatThePlanNamed(t *testing.T) {
	p := newProject(t, map[string]string{"x.csv": tableOf(400)})
	spec := config.Dataset{Source: "x.csv", Splits: []config.SplitDef{{Name: "train", Fraction: 0.75}, {Name: "test", Fraction: 0.25}}}
	out := p.MustApply("dataset", "op1", spec).Outputs.(config.DatasetOutputs)
	var rows int64
	start := 0.0
	seen := map[string]bool{}
	for _, def := range spec.Splits {
		s := out.Split[def.Name].(map[string]any)
		if want := string(def.Digest(resource.Digest(out.Digest), start)); s["digest"] != want {
			t.Errorf("split %s has digest %v, the plan says %s", def.Name, s["digest"], want)
		}
		start += def.Fraction
		rows += s["rows"].(int64)
		lines := strings.Split(strings.TrimSpace(p.Read(s["path"].(string))), "\n")
		if lines[0] != "id,value" || int64(len(lines)-1) != s["rows"] {
			t.Errorf("split %s: header %q and %d rows, recorded are %v", def.Name, lines[0], len(lines)-1, s["rows"])
		}
		for _, l := range lines[1:] {
			if seen[l] {
				t.Errorf("row %s is on both sides", l)
			}
			seen[l] = true
		}
	}
	if rows != 400 || len(seen) != 400 {
		t.Errorf("%d rows in the splits, want 400", rows)
	}
}

func TestAFailingExpectationClosesTheGateAndAWarningDoesNot(t *testing.T) {
	p := newProject(t, map[string]string{"x.csv": table})
	spec := config.Dataset{
		Source:  "x.csv",
		Columns: []config.Column{{Name: "age", Type: "integer", Range: []float64{0, 70}}},
		Expect:  []config.Expectation{{Name: "enough", Severity: "warn", RowCount: &config.Range{Min: new(500.0)}}},
	}
	v := p.MustApply("dataset", "op1", spec).Verdict
	if v == nil || v.Passed || len(v.Findings) != 2 {
		t.Fatalf("verdict %+v", v)
	}
	f := v.Findings[0]
	if f.Path != "age" || f.Rule != "range" || f.Count != 1 || f.OK || len(f.Samples) != 1 || f.Samples[0] != "row 4: 77" {
		t.Errorf("finding %+v", f)
	}
	if v.Subject != resource.DigestOf([]byte(table)) || !v.Time.Equal(providertest.Now) {
		t.Errorf("verdict is about %s at %s", v.Subject, v.Time)
	}
	spec.Columns[0].Range = []float64{0, 80}
	v = p.MustApply("dataset", "op2", spec).Verdict
	if !v.Passed || !v.Findings[0].OK || v.Findings[0].Severity != "warn" || v.Findings[0].Count != 0 {
		t.Errorf("a warning closed the gate: %+v", v)
	}
}

func TestAFolderThatIsNoTableIsFrozenWithoutRows(t *testing.T) {
	p := newProject(t, map[string]string{"img/a.png": "1", "img/b/c.png": "2"})
	out := p.MustApply("dataset", "op1", config.Dataset{Source: "img"}).Outputs.(config.DatasetOutputs)
	if out.Rows != 0 || out.Columns != nil || p.Read(out.Path+"/b/c.png") != "2" {
		t.Errorf("outputs %+v", out)
	}
	_, err := p.Apply("dataset", "op2", config.Dataset{Source: "img", Columns: []config.Column{{Name: "a"}}})
	providertest.WantError(t, err, "not a supported format")
}

func TestADatasetWhoseFrozenCopyIsGoneIsMissing(t *testing.T) {
	p := newProject(t, map[string]string{"x.csv": table})
	r := p.MustApply("dataset", "op1", config.Dataset{Source: "x.csv", Splits: []config.SplitDef{{Name: "a", Fraction: 0.5}}})
	rec := record(t, r)
	read := func() resource.Phase {
		t.Helper()
		o, err := p.Drivers["dataset"].Read(providertest.Within(t), providers.ReadRequest{Address: providertest.AddressOf("dataset"), Record: rec})
		if err != nil {
			t.Fatal(err)
		}
		return o.Phase
	}
	if got := read(); got != resource.PhaseReady {
		t.Fatalf("phase %s", got)
	}
	split := r.Outputs.(config.DatasetOutputs).Split["a"].(map[string]any)["path"].(string)
	if err := os.Remove(p.Path(split)); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != resource.PhaseMissing {
		t.Errorf("a lost split leaves the phase %s", got)
	}
}

func record(t *testing.T, r providers.Result) *state.Record {
	t.Helper()
	raw, err := json.Marshal(r.Ref)
	if err != nil {
		t.Fatal(err)
	}
	return &state.Record{Ref: raw}
}

func TestACommandMakesADatasetOfWhatItWrites(t *testing.T) {
	p := newProject(t, map[string]string{"raw.csv": table, "prep.sh": "echo run >> count\nhead -3 $ML_INPUT_RAW > $ML_OUTPUT/clean.csv\n"})
	raw := p.MustApply("dataset", "raw", config.Dataset{Source: "raw.csv"}).Outputs.(config.DatasetOutputs)
	spec := config.Dataset{
		Exec:   config.Exec{Command: []string{"sh", "prep.sh"}},
		Inputs: map[string]any{"raw": map[string]any{"path": raw.Path, "digest": raw.Digest}},
	}
	probed, err := p.Probe("dataset", spec)
	if err != nil || probed["content"] != "" || probed["code"] == "" {
		t.Fatalf("a command's data is known before it ran: %v, %v", probed, err)
	}
	want := "id,age,region\n1,34,north\n2,51,south\n"
	for range 2 {
		out := p.MustApply("dataset", "op1", spec).Outputs.(config.DatasetOutputs)
		if out.Digest != string(resource.DigestOf([]byte(want))) || out.Rows != 2 || p.Read(out.Path) != want || filepath.Base(out.Path) != "clean.csv" {
			t.Errorf("outputs %+v", out)
		}
	}
	if n := lineCount(p.Read("count")); n != 1 {
		t.Errorf("the command ran %d times for one operation", n)
	}
	spec.Command = []string{"true"}
	_, err = p.Apply("dataset", "op2", spec)
	providertest.WantRunError(t, err, "wrote no data")
}

func TestAProbeSeesOneVersionUntilTheProviderIsClosed(t *testing.T) {
	p := newProject(t, map[string]string{"x.csv": table})
	spec := config.Dataset{Source: "x.csv"}
	first, err := p.Probe("dataset", spec)
	if err != nil {
		t.Fatal(err)
	}
	p.Write("x.csv", table+"5,1,east\n")
	again, err := p.Probe("dataset", spec)
	if err != nil {
		t.Fatal(err)
	}
	if first["content"] != again["content"] {
		t.Error("one plan saw two versions of a file")
	}
	if err := p.provider.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := p.Probe("dataset", spec)
	if err != nil {
		t.Fatal(err)
	}
	if after["content"] == first["content"] {
		t.Error("the next plan does not see the new bytes")
	}
}

func TestSourcesThatNobodyReadsAreRefused(t *testing.T) {
	p := newProject(t, nil)
	for source, text := range map[string]string{
		"ftp://b/x.csv": "known are s3://", "http://example.com/x.csv": "plain http", "https://a:b@example.com/x.csv": "no user and password", "../x.csv": "outside", "missing.csv": "no such file",
	} {
		_, err := p.Probe("dataset", config.Dataset{Source: source})
		providertest.WantError(t, err, text)
	}
}

func TestTheCodeOfACommandIsWhatItsScriptNames(t *testing.T) {
	p := newProject(t, map[string]string{
		"src/train.py": "1", "src/lib/model.py": "2", "src/data.csv": "3", "other.py": "4",
		"requirements.txt": "5", "src/uv.lock": "6", "tool.sh": "7", ".ml/x.py": "8",
	})
	digest := func(spec config.Exec) string {
		t.Helper()
		d, err := p.Probe("check", config.Check{Exec: spec})
		if err != nil {
			t.Fatal(err)
		}
		return d["code"]
	}
	base := config.Exec{Command: []string{"python3", "src/train.py"}}
	cases := map[string]bool{"src/train.py": true, "src/lib/model.py": true, "requirements.txt": true, "src/uv.lock": true, "src/data.csv": false, "other.py": false, "tool.sh": false, ".ml/x.py": false}
	for name, counts := range cases {
		before := digest(base)
		p.Write(name, "changed")
		p.connect()
		if moved := digest(base) != before; moved != counts {
			t.Errorf("a change of %s moves the code: %v, want %v", name, moved, counts)
		}
	}
	same := map[string]config.Exec{"-m of a module": {Command: []string{"python3", "-m", "src.train"}}}
	for what, spec := range same {
		if digest(spec) != digest(base) {
			t.Errorf("%s has other code than its file", what)
		}
	}
	none := digest(config.Exec{Command: []string{"true"}})
	if none != string(resource.DigestOf(nil)) || none == digest(base) {
		t.Errorf("a command without a script has the code %s", none)
	}
	if digest(config.Exec{Command: []string{"python3", "-m", "unittest"}}) == none {
		t.Error("tests run by a foreign module depend on no code")
	}
}

func TestCodeThatMovedSinceThePlanIsNotRun(t *testing.T) {
	p := newProject(t, map[string]string{"c.sh": "echo run >> count\n"})
	req := p.Request("check", "op1", config.Check{Exec: config.Exec{Command: []string{"sh", "c.sh"}}})
	p.Write("c.sh", "echo other >> count\n")
	_, err := p.Drivers["check"].Apply(providertest.Within(t), req)
	providertest.WantRunError(t, err, "check.x: the source moved since the plan")
	if got := p.Read("count"); got != "" {
		t.Errorf("it ran: %q", got)
	}
	if st, err := runner.Read(p.Path(".ml/runs/op1")); err != nil || st.Phase != runner.Absent {
		t.Errorf("run folder: %+v, %v", st, err)
	}
}

func TestDataThatACommandChangedIsFrozenAnew(t *testing.T) {
	p := newProject(t, map[string]string{"x.csv": table})
	data := config.Dataset{Source: "x.csv", Splits: []config.SplitDef{{Name: "a", Fraction: 0.5}}}
	r := p.MustApply("dataset", "op1", data)
	split := r.Outputs.(config.DatasetOutputs).Split["a"].(map[string]any)
	want := p.Read(split["path"].(string))
	train := config.Training{Exec: sh(`cp $ML_INPUT_A $ML_MODEL_DIR/model; rm -f $ML_INPUT_A; echo 1,2 > $ML_INPUT_A`), Inputs: map[string]any{"a": split}}
	_, err := p.Apply("training", "op2", train)
	providertest.WantRunError(t, err, `the command changed the input "a"`)
	o, err := p.Drivers["dataset"].Read(providertest.Within(t), providers.ReadRequest{Address: providertest.AddressOf("dataset"), Record: record(t, r)})
	if err != nil || o.Phase != resource.PhaseMissing {
		t.Fatalf("the changed copy counts as the data: %+v, %v", o, err)
	}
	p.MustApply("dataset", "op3", data)
	if got := p.Read(split["path"].(string)); got != want {
		t.Errorf("the split holds %q, want %q", got, want)
	}
	train.Command = sh(`cp $ML_INPUT_A $ML_MODEL_DIR/model`).Command
	p.MustApply("training", "op4", train)
}

func TestDealingOutTheSameSplitsAgainTouchesNoFile(t *testing.T) {
	p := newProject(t, map[string]string{"x.csv": table})
	spec := config.Dataset{Source: "x.csv", Splits: []config.SplitDef{{Name: "a", Fraction: 0.5}}}
	stat := func(op string) os.FileInfo {
		t.Helper()
		out := p.MustApply("dataset", op, spec).Outputs.(config.DatasetOutputs)
		info, err := os.Stat(p.Path(out.Split["a"].(map[string]any)["path"].(string)))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	before := stat("op1")
	spec.Expect = []config.Expectation{{Name: "any", RowCount: &config.Range{Min: new(1.0)}}}
	if after := stat("op2"); !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Error("a split that a command may be reading was replaced by itself")
	}
}
