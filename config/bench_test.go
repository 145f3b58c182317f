package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// chains is a project of n blocks in chains of dataset, check, training and
// validation, five lines a block.
func chains(n int) string {
	var b strings.Builder
	for i := range n / 4 {
		fmt.Fprintf(&b, `dataset "d%[1]d" {
  source = "data/part-%[1]d.csv"
  target = "diagnosis"
  id     = "row"
}

check "c%[1]d" {
  command = ["python3", "-m", "unittest", "-q"]
  sources = ["*.py", "tests/**"]
  inputs  = { data = dataset.d%[1]d }
}

training "t%[1]d" {
  depends_on = [check.c%[1]d]
  command    = ["python3", "train.py"]
  inputs     = { train = dataset.d%[1]d }
  params     = { epochs = 300, learning_rate = 0.1 }
}

validation "v%[1]d" {
  model  = training.t%[1]d.model
  inputs = { test = dataset.d%[1]d }
  threshold "recall" { min = 0.9 }
}
`, i)
	}
	return b.String()
}

// forEach is a chain of three blocks with for_each over n elements.
func forEach(n int) string {
	return fmt.Sprintf(`locals { parts = toset([for a in range(%d) : "p${a}"]) }`, min(n, 1000)) + fmt.Sprintf(`
locals { all = toset(flatten([for a in range(%[1]d) : [for b in range(1000) : "p${a}-${b}"]])) }
dataset "d" {
  for_each = local.all
  source   = "data/${each.key}.csv"
}
training "t" {
  for_each = local.all
  command  = ["python3", "train.py"]
  inputs   = { train = dataset.d[each.key] }
}
`, n/1000)
}

func project(t testing.TB, text string) Options {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.ml.hcl"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Options{Dir: dir, ToolVersion: "0.1.0"}
}

func mustLoad(t testing.TB, opts Options) *Project {
	t.Helper()
	p, diags := Load(t.Context(), opts)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return p
}

func BenchmarkLoad10000(b *testing.B) {
	for name, text := range map[string]string{"blocks": chains(10_000), "for_each": forEach(10_000)} {
		b.Run(name, func(b *testing.B) {
			opts := project(b, text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				mustLoad(b, opts)
			}
		})
	}
}

// knownScope gives every block the same known outputs.
type knownScope struct{ outputs map[string]cty.Value }

func (s knownScope) Outputs(a resource.Address) cty.Value { return s.outputs[a.Kind] }
func (s knownScope) Signal(resource.SignalRef) Signal     { return Signal{} }

func BenchmarkEval10000(b *testing.B) {
	data, err := resource.Encode(DatasetOutputs{Data: Data{Address: "dataset.d", Digest: "sha256:1", Path: "data/d.csv", Rows: 10}})
	if err != nil {
		b.Fatal(err)
	}
	model, err := resource.Encode(TrainingOutputs{Address: "training.t", Version: 1, Model: &Model{Name: "t", Version: 1, Digest: "sha256:2", Metrics: map[string]float64{"recall": 1}}})
	if err != nil {
		b.Fatal(err)
	}
	scope := knownScope{map[string]cty.Value{"dataset": data, "training": model}}
	for name, text := range map[string]string{"blocks": chains(10_000), "for_each": forEach(10_000)} {
		b.Run(name, func(b *testing.B) {
			p := mustLoad(b, project(b, text))
			b.ReportAllocs()
			for b.Loop() {
				for _, blk := range p.Blocks {
					if _, diags := p.Eval(blk, scope); diags.HasErrors() {
						b.Fatal(diags)
					}
				}
			}
		})
	}
}
