package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"
)

// each.value of a chain comes from one block, so an instance waits for that one
// and not for its siblings; keys need nothing to have run.
func TestForEachOverBlocksNeedsOnlyTheBlockThatItsValueComesFrom(t *testing.T) {
	p := mustLoad(t, fixtureOptions(t, fixtures+"/valid/for_each_blocks"))
	got := map[string][]string{}
	for _, b := range p.Blocks {
		got[b.Addr.String()] = texts(b.Deps)
	}
	want := map[string][]string{
		`dataset.d["de"]`: {}, `dataset.d["fr"]`: {}, "notifier.team": {},
		`training.chain["de"]`:   {`dataset.d["de"]`},
		`training.chain["fr"]`:   {`dataset.d["fr"]`},
		`training.renamed["DE"]`: {`dataset.d["de"]`},
		`training.renamed["FR"]`: {`dataset.d["fr"]`},
		`training.pair["a"]`:     {`training.chain["de"]`},
		`training.pair["b"]`:     {`training.chain["fr"]`},
		`check.split["test"]`:    {}, `check.split["train"]`: {},
		"check.count[0]": {}, "check.count[1]": {}, "check.count[2]": {}, "check.count[3]": {},
		`module.region["de"].training.t`: {`dataset.d["de"]`},
		`module.region["fr"].training.t`: {`dataset.d["fr"]`},
		`module.static["de"].training.t`: {`dataset.d["de"]`},
		`module.static["fr"].training.t`: {`dataset.d["fr"]`},
		`check.outputs["de"]`:            {}, `check.outputs["fr"]`: {},
		`check.calls["de"]`: {}, `check.calls["fr"]`: {},
		`check.notifier["log"]`: {}, `check.notifier["notifier.team"]`: {},
	}
	// A module as a whole is all that its outputs come from.
	want[`check.calls["de"]`] = []string{`module.region["de"].training.t`}
	want[`check.calls["fr"]`] = []string{`module.region["fr"].training.t`}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestEachValueOfAChainIsTheBlockAsItIsNow(t *testing.T) {
	p := mustLoad(t, fixtureOptions(t, fixtures+"/valid/for_each_blocks"))
	scope := knownScope{map[string]cty.Value{"dataset": cty.ObjectVal(map[string]cty.Value{
		"split": cty.ObjectVal(map[string]cty.Value{"train": cty.ObjectVal(map[string]cty.Value{"digest": cty.StringVal("sha256:1")})}),
	})}}
	for _, a := range []string{`training.chain["de"]`, `training.renamed["FR"]`, `module.region["de"].training.t`} {
		v, diags := p.Eval(p.Block(addr(t, a)), scope)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		if got := v.Value.GetAttr("inputs").GetAttr("train").GetAttr("digest"); !got.RawEquals(cty.StringVal("sha256:1")) {
			t.Errorf("%s: %#v", a, got)
		}
	}
	// A chain asks for its own block only: 10,000 instances would ask 10,000² times otherwise.
	r := &recorder{}
	if _, diags := p.Eval(p.Block(addr(t, `training.chain["de"]`)), r); diags.HasErrors() || !slices.Equal(texts(r.asked), []string{`dataset.d["de"]`}) {
		t.Error(texts(r.asked), diags)
	}
}

func TestWhatIsNotKnownAtPlanTimeNamesPlaceCauseAndRemedy(t *testing.T) {
	const head = "dataset \"d\" {\n source = \"d.csv\"\n}\nlocals { rows = dataset.d.rows }\nmodule \"m\" {\n source = \"./m\"\n in = dataset.d.columns\n}\n"
	for text, want := range map[string][]string{
		"check \"c\" {\n for_each = toset(dataset.d.columns)\n command = [\"x\"]\n}\n": {"for_each must be known", "dataset.d.columns is known only after dataset.d", "split names"},
		"check \"c\" {\n for_each = toset(module.m.out)\n command = [\"x\"]\n}\n":      {"module.m.out is known only after dataset.d"},
		"check \"c\" {\n count = local.rows\n command = [\"x\"]\n}\n":                  {"count must be known", "local.rows is known only after dataset.d", "Use variables"},
		"check \"c\" {\n provider = dataset.d.path\n command = [\"x\"]\n}\n":           {"provider must be known", "dataset.d.path is known only after"},
		"ml {\n artifacts = dataset.d.path\n}\n":                                       {"artifacts must be known"},
	} {
		opts := projectFiles(t, map[string]string{"main.ml.hcl": head + text, "m/main.ml.hcl": "variable \"in\" {}\noutput \"out\" { value = var.in }\n"})
		_, diags := Load(t.Context(), opts)
		if !diags.HasErrors() || diags[0].Subject.Start.Line < 10 {
			t.Fatalf("%s: %s", text, diags)
		}
		for _, w := range want {
			if !strings.Contains(diags[0].Detail, w) {
				t.Errorf("%s: no %q in %s", text, w, diags[0].Detail)
			}
		}
	}
}

// A circle through what a block's body says would never end.
func TestACircleThroughForEachIsShown(t *testing.T) {
	opts := projectFiles(t, map[string]string{"main.ml.hcl": `
dataset "a" {
  for_each = dataset.b.split
  source   = "a.csv"
}
dataset "b" {
  command = ["x"]
  inputs  = { for k, d in dataset.a : k => d }
  split "one" { fraction = 1 }
}
`})
	refused(t, opts, "Reference cycle", "dataset.a (main.ml.hcl:2) → dataset.b (main.ml.hcl:6) → dataset.a")
}

// Instances multiply as the elements of any list do.
func TestLoopsOverInstancesCountTowardsTheLimits(t *testing.T) {
	opts := projectFiles(t, map[string]string{"main.ml.hcl": "dataset \"d\" {\n count = 1000\n source = \"d.csv\"\n}\ncheck \"c\" {\n command = [for a in dataset.d : [for b in dataset.d : [for c in dataset.d : a.address]]]\n}\n"})
	opts.Exe = nil
	refused(t, opts, "Evaluation needs limits")
}
