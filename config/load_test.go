package config

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

func addr(t testing.TB, s string) resource.Address {
	t.Helper()
	a, err := resource.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func texts[T fmt.Stringer](list []T) []string {
	out := []string{}
	for _, x := range list {
		out = append(out, x.String())
	}
	return out
}

func TestBlocksComeInDependencyOrderWithTheirDependencies(t *testing.T) {
	p := mustLoad(t, fixtureOptions(t, fixtures+"/valid/sample"))
	want := map[string][]string{
		"check.unit": {}, "dataset.outcomes": {}, "dataset.tumors": {}, "notifier.team": {},
		"training.tumors":   {"check.unit", "dataset.tumors"},
		"validation.tumors": {"dataset.tumors", "training.tumors"},
		"deployment.tumors": {"validation.tumors"},
		"monitor.tumors":    {"dataset.outcomes", "dataset.tumors", "deployment.tumors", "notifier.team"},
	}
	got := map[string][]string{}
	for _, b := range p.Blocks {
		got[b.Addr.String()] = texts(b.Deps)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	tr := p.Block(addr(t, "training.tumors"))
	if d := cmp.Diff([]string{"monitor.tumors.drift", "monitor.tumors.performance"}, texts(tr.Feedback)); d != "" {
		t.Error(d)
	}
	if tr.Feedback[0].Range.Start.Line == 0 || !slices.Equal(texts(tr.Explicit), []string{"check.unit"}) {
		t.Error(tr.Feedback[0].Range, tr.Explicit)
	}
	v, diags := p.Eval(tr, unknownScope{})
	if on := v.Value.GetAttr("retrain").GetAttr("on"); diags.HasErrors() || !on.RawEquals(cty.TupleVal([]cty.Value{cty.StringVal("monitor.tumors.drift"), cty.StringVal("monitor.tumors.performance")})) {
		t.Errorf("%#v %s", on, diags)
	}
}

func TestSourcesNameTheBlockThatAnAttributeComesFrom(t *testing.T) {
	p := mustLoad(t, projectFiles(t, map[string]string{"main.ml.hcl": `
locals { data = dataset.a }
variable "unused" { default = 1 }
dataset "a" { source = "a.csv" }
dataset "b" {
  for_each = toset(["x"])
  source   = "b.csv"
}
training "t" {
  command = ["x"]
  inputs  = { one = local.data, two = dataset.b["x"], three = dataset.a.split.train, four = module.m.out }
}
module "m" {
  source = "./m"
  in     = dataset.a
}
validation "v" {
  model = training.t.model
  threshold "x" { min = 1 }
}
`, "m/main.ml.hcl": "variable \"in\" {}\noutput \"out\" { value = var.in }\n"}))
	want := map[string]string{"inputs.one": "dataset.a", "inputs.two": `dataset.b["x"]`, "inputs.three": "dataset.a", "inputs.four": "dataset.a"}
	v, _ := p.Eval(p.Block(addr(t, "training.t")), unknownScope{})
	got := map[string]string{}
	for k, a := range v.Sources {
		got[k] = a.String()
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if deps := texts(p.Block(addr(t, "training.t")).Deps); !slices.Equal(deps, []string{"dataset.a", `dataset.b["x"]`}) {
		t.Error(deps)
	}
}

// recorder notes what a scope was asked for.
type recorder struct{ asked []resource.Address }

func (r *recorder) Outputs(a resource.Address) cty.Value {
	r.asked = append(r.asked, a)
	return cty.NilVal
}
func (r *recorder) Signal(resource.SignalRef) Signal { return Signal{} }

func TestAnInstanceSeesTheOneInstanceThatItsKeyNames(t *testing.T) {
	p := mustLoad(t, project(t, forEach(10_000)))
	if len(p.Blocks) != 20_000 {
		t.Fatal(len(p.Blocks))
	}
	b := p.Block(addr(t, `training.t["p3-77"]`))
	if d := cmp.Diff([]string{`dataset.d["p3-77"]`}, texts(b.Deps)); d != "" {
		t.Error(d)
	}
	r := &recorder{}
	if _, diags := p.Eval(b, r); diags.HasErrors() || !slices.Equal(texts(r.asked), []string{`dataset.d["p3-77"]`}) {
		t.Error(r.asked, diags)
	}
}

func TestKeyedReferencesDependOnOneInstanceWhereTheKeyIsStatic(t *testing.T) {
	const head = "locals { k = \"a\" }\ndataset \"d\" {\n for_each = toset([\"a\", \"b\"])\n source = \"x\"\n}\n"
	for expr, want := range map[string][]string{
		`dataset.d["a"].digest`:                                {`dataset.d["a"]`},
		`dataset.d[local.k].digest`:                            {`dataset.d["a"]`},
		`dataset.d["${local.k}"].digest`:                       {`dataset.d["a"]`},
		`dataset.d[lower("B")].digest`:                         {`dataset.d["b"]`},
		`[for k in ["a"] : dataset.d[k].digest]`:               {`dataset.d["a"]`, `dataset.d["b"]`},
		`[for k, d in dataset.d : d.digest]`:                   {`dataset.d["a"]`, `dataset.d["b"]`},
		`dataset.d[check.key.passed ? "a" : "b"].digest`:       {"check.key", `dataset.d["a"]`, `dataset.d["b"]`},
		`values(dataset.d)[*].digest`:                          {`dataset.d["a"]`, `dataset.d["b"]`},
		`{ a = dataset.d["a"].digest, n = length(dataset.d) }`: {`dataset.d["a"]`, `dataset.d["b"]`},
	} {
		p := mustLoad(t, projectFiles(t, map[string]string{"main.ml.hcl": head + "check \"key\" { command = [\"x\"] }\ntraining \"t\" {\n command = [\"x\"]\n params = " + expr + "\n}\n"}))
		b := p.Block(addr(t, "training.t"))
		if d := cmp.Diff(want, texts(b.Deps)); d != "" {
			t.Errorf("%s: %s", expr, d)
		}
		if _, diags := p.Eval(b, unknownScope{}); diags.HasErrors() {
			t.Errorf("%s: %s", expr, diags)
		}
	}
}

func TestUnknownOutputsStayUnknownAndKnownOnesArrive(t *testing.T) {
	p := mustLoad(t, fixtureOptions(t, fixtures+"/valid/sample"))
	b := p.Block(addr(t, "deployment.tumors"))
	v, diags := p.Eval(b, unknownScope{})
	if diags.HasErrors() || v.Value.GetAttr("model").IsKnown() || !v.Value.GetAttr("replicas").IsKnown() {
		t.Errorf("%#v %s", v.Value.GetAttr("model"), diags)
	}
	out, err := resource.Encode(ValidationOutputs{Address: "validation.tumors", Passed: true, Model: &Model{Name: "tumors", Version: 3, Digest: "sha256:1"}})
	if err != nil {
		t.Fatal(err)
	}
	v, diags = p.Eval(b, knownScope{map[string]cty.Value{"validation": out}})
	var d Deployment
	if err := resource.Decode(v.Value, &d); err != nil || diags.HasErrors() || d.Model.Version != 3 || d.Rollout.Abort.MinRequests != 20 {
		t.Errorf("%+v %v %s", d, err, diags)
	}
	// A scope may leave attributes out: they are unknown.
	v, diags = p.Eval(b, knownScope{map[string]cty.Value{"validation": cty.ObjectVal(map[string]cty.Value{"passed": cty.True})}})
	if diags.HasErrors() || v.Value.GetAttr("model").IsKnown() {
		t.Errorf("%#v %s", v.Value, diags)
	}
}

func TestEveryKindsFixtureDecodesIntoItsStruct(t *testing.T) {
	kinds, err := AllKinds()
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range kinds {
		if !k.body.Type().IsObjectType() || !k.unknown.Type().Equals(k.outputsType) {
			t.Errorf("%s: %#v", name, k.unknown)
		}
	}
	p := mustLoad(t, fixtureOptions(t, fixtures+"/valid/kind_training"))
	b := p.Block(addr(t, "training.t"))
	v, _ := p.Eval(b, knownScope{map[string]cty.Value{"dataset": cty.ObjectVal(map[string]cty.Value{
		"address": cty.StringVal("dataset.d"), "name": cty.StringVal(""), "digest": cty.StringVal("sha256:1"), "path": cty.StringVal("d.csv"),
		"rows": cty.NumberIntVal(1), "columns": cty.ListValEmpty(cty.String), "split": cty.EmptyObjectVal,
	})}})
	var tr Training
	if err := resource.Decode(v.Value, &tr); err != nil {
		t.Fatal(err)
	}
	if tr.Nodes != 1 || tr.Tuning == nil || len(tr.Tuning.Parameters) != 2 || tr.Tuning.Parameters[1].Name != "kernel" || tr.Retrain.Budget.Runs != 3 || tr.Resources.CPU != "2" {
		t.Errorf("%+v", tr)
	}
	if nice := v.Value.GetAttr("local").GetAttr("nice"); !nice.RawEquals(cty.NumberIntVal(5)) || v.Value.Type().HasAttribute("kubernetes") {
		t.Errorf("%#v", v.Value)
	}
}

func TestTheNestedBlockOfTheServingProviderIsPartOfTheValue(t *testing.T) {
	text := "training \"t\" {\n command = [\"x\"]\n provider = \"kubernetes\"\n kubernetes {\n namespace = \"ml\"\n pool \"a\" { size = 1 }\n }\n local { nice = 1 }\n}\ntraining \"u\" {\n command = [\"x\"]\n provider = \"kubernetes\"\n}\nprovider \"kubernetes\" { context = \"c\" }\n"
	opts := projectFiles(t, map[string]string{"main.ml.hcl": text})
	opts.Providers = testProviders()
	p := mustLoad(t, opts)
	v, diags := p.Eval(p.Block(addr(t, "training.t")), unknownScope{})
	if diags.HasErrors() || v.Value.GetAttr("kubernetes").GetAttr("pool").LengthInt() != 1 || v.Value.Type().HasAttribute("local") {
		t.Errorf("%#v %s", v.Value, diags)
	}
	u, diags := p.Eval(p.Block(addr(t, "training.u")), unknownScope{})
	if diags.HasErrors() || !u.Value.GetAttr("kubernetes").IsNull() {
		t.Errorf("%#v %s", u.Value, diags)
	}
	if c := p.Providers["kubernetes"].Value; c.GetAttr("context").AsString() != "c" || !c.GetAttr("qps").RawEquals(cty.NumberIntVal(50)) {
		t.Errorf("%#v", c)
	}
}

func TestDefaultProvidersServeWhatTheyCan(t *testing.T) {
	opts := fixtureOptions(t, fixtures+"/valid/sample")
	where := "kserve"
	opts.Vars = append(opts.Vars, VarInput{Name: "where", Source: "-var", Text: &where})
	opts.Providers["kubernetes"] = ProviderSchema{Name: "kubernetes", Kinds: append(opts.Providers["kubernetes"].Kinds, "dataset"), Named: []string{"dataset"}}
	p := mustLoad(t, opts)
	got := map[string]string{}
	for _, b := range p.Blocks {
		got[b.Kind.Name] = b.Provider
	}
	// The cluster serves datasets, too, but only for a block that names it.
	want := map[string]string{"check": "kubernetes", "dataset": "local", "deployment": "kserve", "monitor": "local", "notifier": "local", "training": "kubeflow", "validation": "local"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if p.Settings.Artifacts != "oci://registry.example.com/ml" {
		t.Error(p.Settings)
	}
}

func TestModulesHaveAddressesAndInstances(t *testing.T) {
	p := mustLoad(t, fixtureOptions(t, fixtures+"/valid/modules"))
	var got []string
	for _, b := range p.Blocks {
		got = append(got, b.Addr.String())
	}
	want := []string{
		"check.unit",
		"module.pair[0].dataset.d", "module.pair[0].training.t", "module.pair[1].dataset.d", "module.pair[1].training.t",
		`module.region["de"].dataset.d`, `module.region["de"].training.t`, "deployment.de",
		`module.region["fr"].dataset.d`, `module.region["fr"].training.t`,
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if deps := texts(p.Block(addr(t, `module.region["de"].training.t`)).Deps); !slices.Equal(deps, []string{"check.unit", `module.region["de"].dataset.d`}) {
		t.Error(deps)
	}
	if m := p.Moved[0]; m.To.String() != `module.region["de"].training.t` || p.Imports[0].ID != "endpoint-2" || p.Removed[0].Destroy {
		t.Error(p.Moved, p.Imports, p.Removed)
	}
	v, diags := p.Eval(p.Block(addr(t, "module.pair[1].dataset.d")), unknownScope{})
	if diags.HasErrors() || v.Value.GetAttr("source").AsString() != "region/pair1.csv" {
		t.Errorf("%#v %s", v.Value, diags)
	}
	if len(p.Outputs) != 2 || !slices.Contains(texts(p.Outputs[0].Deps), `module.region["fr"].training.t`) {
		t.Error(p.Outputs)
	}
}

func TestSignalsComeFromTheScope(t *testing.T) {
	p := mustLoad(t, fixtureOptions(t, fixtures+"/valid/kind_monitor"))
	v, diags := p.EvalOutput(p.Outputs[0], signals{State: "bad", Epoch: 3})
	if diags.HasErrors() || !v.RawEquals(cty.True) {
		t.Errorf("%#v %s", v, diags)
	}
	v, diags = p.EvalOutput(p.Outputs[0], unknownScope{})
	if diags.HasErrors() || !v.RawEquals(cty.False) {
		t.Errorf("without a record: %#v %s", v, diags)
	}
}

type signals Signal

func (signals) Outputs(resource.Address) cty.Value { return cty.NilVal }
func (s signals) Signal(resource.SignalRef) Signal { return Signal(s) }

func TestPostconditionsSeeTheBlocksOutputs(t *testing.T) {
	p := mustLoad(t, fixtureOptions(t, fixtures+"/valid/kind_deployment"))
	b := p.Block(addr(t, "deployment.d"))
	for version, bad := range map[int]bool{0: true, 1: false} {
		self, err := resource.Encode(DeploymentOutputs{Version: version})
		if err != nil {
			t.Fatal(err)
		}
		if diags := p.Conditions(b, unknownScope{}, self, true); diags.HasErrors() != bad || bad && !strings.Contains(diags.Error(), "No version serves.") {
			t.Errorf("version %d: %s", version, diags)
		}
	}
	if diags := p.Conditions(b, unknownScope{}, cty.NilVal, true); diags.HasErrors() {
		t.Errorf("unknown: %s", diags)
	}
	if l := b.Lifecycle; !l.PreventDestroy || !slices.Equal(l.IgnoreChanges, []string{"replicas", "env.A", "rollout.interval"}) || !slices.Equal(texts(l.ReplaceOn), []string{"training.t"}) {
		t.Errorf("%+v", l)
	}
}

func TestTheDigestCoversFilesModulesAndVariables(t *testing.T) {
	files := map[string]string{"main.ml.hcl": "variable \"a\" { default = 1 }\nvariable \"s\" {\n default = \"x\"\n sensitive = true\n}\nmodule \"m\" { source = \"./m\" }\n", "m/main.ml.hcl": "check \"c\" { command = [\"x\"] }\n"}
	digest := func(change func(o *Options)) resource.Digest {
		o := projectFiles(t, files)
		o.Hash = func(s string) string { return "h" + fmt.Sprint(len(s)) }
		change(&o)
		return mustLoad(t, o).Digest
	}
	base := digest(func(*Options) {})
	if again := digest(func(*Options) {}); again != base {
		t.Error("the same project has two digests")
	}
	two, longer := "2", "xx"
	for name, change := range map[string]func(o *Options){
		"variable":  func(o *Options) { o.Vars = []VarInput{{Name: "a", Source: "-var", Text: &two}} },
		"sensitive": func(o *Options) { o.Vars = []VarInput{{Name: "s", Source: "-var", Text: &longer}} },
		"module": func(o *Options) {
			if err := os.WriteFile(filepath.Join(o.Dir, "m", "main.ml.hcl"), []byte("check \"c\" { command = [\"y\"] }\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"file name": func(o *Options) {
			if err := os.Rename(filepath.Join(o.Dir, "main.ml.hcl"), filepath.Join(o.Dir, "other.ml.hcl")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		if digest(change) == base {
			t.Errorf("%s: the digest did not move", name)
		}
	}
}

func TestVariablesComeFromEnvironmentFilesAndFlagsInThatOrder(t *testing.T) {
	opts := projectFiles(t, map[string]string{
		"main.ml.hcl":     "variable \"a\" {}\nvariable \"b\" {}\nvariable \"c\" {}\nvariable \"n\" {\n type = list(number)\n default = []\n}\ncheck \"c\" { command = [var.a, var.b, var.c, tostring(length(var.n))] }\n",
		"x.auto.vars.hcl": "a = \"auto\"\nb = \"auto\"\n",
		"more.hcl":        "a = \"file\"\n",
		"more.json":       `{"n": [1, 2]}`,
	})
	opts.Vars = EnvVars([]string{"ML_VAR_a=env", "ML_VAR_b=env", "ML_VAR_c=env", "ML_VAR_unused=x", "HOME=/", "ML_VAR_=x"})
	for _, f := range []string{"more.hcl", "more.json"} {
		in, diags := ReadVarFile(filepath.Join(opts.Dir, f))
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		opts.Vars = append(opts.Vars, in...)
	}
	p := mustLoad(t, opts)
	v, diags := p.Eval(p.Blocks[0], unknownScope{})
	var c Check
	if err := resource.Decode(v.Value, &c); err != nil || diags.HasErrors() || !slices.Equal(c.Command, []string{"file", "auto", "env", "2"}) {
		t.Error(c.Command, err, diags)
	}
}

func TestVariablesFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for name, p := range map[string]string{
		"missing": filepath.Join(dir, "none"), "a folder": dir, "broken": write("a.hcl", "a = \n"), "a block": write("b.hcl", "a {}\n"),
		"a reference": write("c.hcl", "a = var.b\n"), "deep": write("d.hcl", "a = "+strings.Repeat("[", 1000)), "json": write("e.json", "[1"), "large": write("f.hcl", strings.Repeat(" ", MaxFileBytes+1)),
	} {
		if _, diags := ReadVarFile(p); !diags.HasErrors() {
			t.Errorf("%s: accepted", name)
		}
	}
	if in, diags := ReadVarFile(write("empty.hcl", "")); len(in) > 0 || diags.HasErrors() {
		t.Error(in, diags)
	}
}

func TestLoadNamesAFolderThatIsNotThere(t *testing.T) {
	_, diags := Load(t.Context(), Options{Dir: filepath.Join(t.TempDir(), "none")})
	if !diags.HasErrors() || !strings.Contains(diags.Error(), "none") {
		t.Error(diags)
	}
}

func TestLoadStopsWhenTheContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, diags := Load(ctx, project(t, "check \"c\" { command = [\"x\"] }\n"))
	if !diags.HasErrors() || diags[0].Summary != "Loading was interrupted" {
		t.Error(diags)
	}
}

func TestALongChainOfLocalsIsRefused(t *testing.T) {
	var b strings.Builder
	b.WriteString("locals {\n")
	for i := range 50_000 {
		fmt.Fprintf(&b, " a%06d = local.a%06d\n", i, i+1)
	}
	hostile(t, b.String()+" a050000 = 1\n}\n", "Chain of references too long")
}

func TestALinkOutOfTheProjectIsNotFollowed(t *testing.T) {
	opts := project(t, "check \"c\" { command = [\"x\"] }\n")
	secret := filepath.Join(t.TempDir(), "x.ml.hcl")
	if err := os.WriteFile(secret, []byte("check \"d\" { command = [\"x\"] }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(opts.Dir, "b.ml.hcl")); err != nil {
		t.Fatal(err)
	}
	refused(t, opts, "A file cannot be read", "b.ml.hcl")
}

func TestModulesNestedTooDeeply(t *testing.T) {
	files := map[string]string{"main.ml.hcl": "module \"m\" { source = \"./m0\" }\n"}
	for i := range MaxModuleDepth + 2 {
		files[fmt.Sprintf("m%d/main.ml.hcl", i)] = fmt.Sprintf("module \"m\" { source = \"../m%d\" }\n", i+1)
	}
	files[fmt.Sprintf("m%d/main.ml.hcl", MaxModuleDepth+2)] = "check \"c\" { command = [\"x\"] }\n"
	refused(t, projectFiles(t, files), "Modules nested too deeply")
}

func TestModuleInstancesCountToo(t *testing.T) {
	files := map[string]string{"main.ml.hcl": "module \"m\" {\n source = \"./m0\"\n count = 10\n}\n"}
	for i := range 6 {
		files[fmt.Sprintf("m%d/main.ml.hcl", i)] = fmt.Sprintf("module \"m\" {\n source = \"../m%d\"\n count = 10\n}\n", i+1)
	}
	files["m6/main.ml.hcl"] = "check \"c\" { command = [\"x\"] }\n"
	opts := projectFiles(t, files)
	opts.evalTime = time.Minute // it is the count that must end it, however slow the machine
	refused(t, opts, "Too many instances")
}

func TestVersionConstraints(t *testing.T) {
	for c, want := range map[string]bool{
		">= 0.1": true, "= 0.3.1": true, "0.3.1": true, "!= 0.3.1": false, "> 0.3.1": false, "< 0.4, >= 0.3": true, "~> 0.3": true, "~> 0.3.0": true,
		"~> 0.2.0": false, "~> 1": false, "<= 0.3": false, "<= 0.3.1": true, ">=1": false,
	} {
		got, err := meets("0.3.1", c)
		if err != nil || got != want {
			t.Errorf("%s: %v %v", c, got, err)
		}
	}
	for _, c := range []string{"", "x", ">> 1", "=>1", "> -1"} {
		if _, err := meets("0.3.1", c); err == nil {
			t.Errorf("%q: accepted", c)
		}
	}
	if ok, err := meets("dev", ">= 9"); !ok || err != nil {
		t.Error("an unreleased version meets everything")
	}
}

func TestFormat(t *testing.T) {
	got, diags := Format([]byte("check \"c\" {\ncommand=[\"x\"]\n  retries   = 2\n}\n"), "x")
	if want := "check \"c\" {\n  command = [\"x\"]\n  retries = 2\n}\n"; diags.HasErrors() || string(got) != want {
		t.Errorf("%s %s", got, diags)
	}
	if got, diags := Format([]byte("check {"), "x"); !diags.HasErrors() || string(got) != "check {" {
		t.Error("broken text was changed")
	}
}

func TestProbeKeysAreKnownOnceTheirAttributesAre(t *testing.T) {
	p := mustLoad(t, projectFiles(t, map[string]string{"main.ml.hcl": "check \"a\" { command = [\"x\"] }\ncheck \"b\" { command = [\"x\", tostring(check.a.passed)] }\n"}))
	for name, want := range map[string]bool{"check.a": true, "check.b": false} {
		b := p.Block(addr(t, name))
		v, _ := p.Eval(b, unknownScope{})
		if key, known := p.ProbeKey(b, v.Value); known != want || known && !strings.Contains(key, `["x"]`) {
			t.Errorf("%s: %q %v", name, key, known)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"/*/*/*.ml.hcl", "/*/*/*.ml.json"} {
		names, err := filepath.Glob(fixtures + pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, n := range names {
			data, err := os.ReadFile(n)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, strings.HasSuffix(n, ".json"))
		}
	}
	providers := testProviders()
	f.Fuzz(func(t *testing.T, data []byte, json bool) {
		dir := t.TempDir()
		name := "main.ml.hcl"
		if json {
			name = "main.ml.json"
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		p, diags := Load(t.Context(), Options{Dir: dir, Providers: providers, ToolVersion: "0.1.0"})
		if (p == nil) != diags.HasErrors() {
			t.Fatalf("a project %v, and errors %v", p != nil, diags)
		}
		if p != nil {
			_ = p.Validate() // it must end, whatever it says
		}
	})
}
