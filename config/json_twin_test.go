package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// twin writes a native body in HCL's JSON syntax.
type twin struct{ src []byte }

// asIs are the attributes whose value JSON writes as the text of an expression.
var asIs = map[string]bool{"type": true, "depends_on": true, "replace_triggered_by": true, "ignore_changes": true, "on": true, "from": true, "to": true, "iterator": true}

func (w twin) body(b *hclsyntax.Body) map[string]any {
	out := map[string]any{}
	for name, a := range b.Attributes {
		out[name] = w.expr(a.Expr, asIs[name])
	}
	for _, blk := range b.Blocks {
		var inner any = w.body(blk.Body)
		for i := len(blk.Labels) - 1; i >= 0; i-- {
			inner = map[string]any{blk.Labels[i]: inner}
		}
		list, _ := out[blk.Type].([]any)
		out[blk.Type] = append(list, inner)
	}
	return out
}

func (w twin) text(e hclsyntax.Expression) string { return string(e.Range().SliceBytes(w.src)) }

func (w twin) expr(e hclsyntax.Expression, plain bool) any {
	switch x := e.(type) {
	case *hclsyntax.TupleConsExpr:
		out := []any{}
		for _, e := range x.Exprs {
			out = append(out, w.expr(e, plain))
		}
		return out
	case *hclsyntax.ObjectConsExpr:
		out := map[string]any{}
		for _, it := range x.Items {
			if k, diags := it.KeyExpr.Value(nil); !diags.HasErrors() {
				out[escaped(k.AsString())] = w.expr(it.ValueExpr, false)
				continue
			}
			out["${"+strings.Trim(w.text(it.KeyExpr), "()")+"}"] = w.expr(it.ValueExpr, false)
		}
		return out
	}
	if v, diags := e.Value(nil); !diags.HasErrors() && v.IsWhollyKnown() && (v.IsNull() || v.Type().IsPrimitiveType()) && !plain {
		if !v.IsNull() && v.Type() == cty.String {
			return escaped(v.AsString())
		}
		raw, err := ctyjson.Marshal(v, v.Type())
		if err != nil {
			panic(err)
		}
		return json.RawMessage(raw)
	}
	if plain {
		return strings.Trim(w.text(e), `"`)
	}
	return "${" + w.text(e) + "}"
}

func escaped(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "${", "$${"), "%{", "%%{")
}

// writeTwin copies a project with its native files in JSON syntax.
func writeTwin(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(to, "*.ml.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob(filepath.Join(to, "*", "*.ml.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(files, deeper...) {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		raw, err := json.MarshalIndent(twin{src}.body(f.Body.(*hclsyntax.Body)), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(strings.TrimSuffix(name, ".ml.hcl")+".ml.json", raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// meaning is all that a project says, as text.
func meaning(t *testing.T, p *Project) map[string]any {
	t.Helper()
	out := map[string]any{"settings": p.Settings, "sensitive": p.Sensitive}
	for _, b := range p.Blocks {
		e, diags := p.Eval(b, unknownScope{})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		var feedback []string
		for _, f := range b.Feedback {
			feedback = append(feedback, f.String())
		}
		out[b.Addr.String()] = map[string]any{
			"value": e.Value.GoString(), "sources": e.Sources, "secret": e.Sensitive, "provider": b.Provider, "deps": b.Deps,
			"explicit": b.Explicit, "feedback": feedback, "lifecycle": b.Lifecycle,
			"pre": len(p.Conditions(b, unknownScope{}, cty.NilVal, false)), "post": len(p.Conditions(b, unknownScope{}, cty.NilVal, true)),
		}
	}
	for _, o := range p.Outputs {
		v, diags := p.EvalOutput(o, unknownScope{})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		out["output."+o.Name] = []any{v.GoString(), o.Description, o.Sensitive, o.Deps}
	}
	for _, m := range p.Moved {
		out["moved "+m.From.String()] = m.To
	}
	for _, r := range p.Removed {
		out["removed "+r.From.String()] = r.Destroy
	}
	for _, i := range p.Imports {
		out["import "+i.To.String()] = i.ID
	}
	for name, c := range p.Providers {
		out["provider."+name] = c.Value.GoString()
	}
	return out
}

// exampleProviders are the clusters' as the examples configure them; what they really take is the providers' own affair.
func exampleProviders() map[string]ProviderSchema {
	type settings struct {
		Namespace string `ml:"namespace" doc:"Namespace."`
		Image     string `ml:"image" doc:"Image."`
		Base      string `ml:"modelcar_base" doc:"Base."`
	}
	out := testProviders()
	for _, name := range []string{"kserve", "kubeflow", "kubernetes"} {
		p := out[name]
		p.Config = mustSchema(settings{})
		out[name] = p
	}
	return out
}

// TestJSONSyntaxMeansTheSame writes every valid fixture and example in JSON
// syntax too, which any block, nested block and expression must survive.
func TestJSONSyntaxMeansTheSame(t *testing.T) {
	examples, err := filepath.Glob("../examples/*/*.ml.hcl")
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	dirs := folders(t, "valid")
	for _, e := range examples {
		dirs = append(dirs, filepath.Dir(e))
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "twin")
			writeTwin(t, dir, to)
			var means [2]map[string]any
			for i, d := range []string{dir, to} {
				opts := fixtureOptions(t, d)
				if strings.HasPrefix(dir, "../examples") {
					opts.Providers = exampleProviders()
				}
				p, diags := Load(t.Context(), opts)
				if diags.HasErrors() {
					t.Fatal(d, diags)
				}
				means[i] = meaning(t, p)
			}
			if d := cmp.Diff(means[0], means[1]); d != "" {
				t.Errorf("native (-) and JSON (+) differ:\n%s", d)
			}
		})
	}
}
