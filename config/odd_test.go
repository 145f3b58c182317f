package config

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// oddValues are what an attribute may turn out to be against all expectation.
var oddValues = []string{
	"null", "dataset.odd.rows", "[dataset.odd.rows, null]", "{ a = dataset.odd.digest }", "toset([dataset.odd.digest])", "toset([null])",
	"sensitive(\"x\")", "sensitive([dataset.odd.path])", "[]", "{}", "-1", "dataset.odd", "toset([{ a = [] }])", "tomap({ a = null })",
}

// TestNoValueOfAnAttributeEndsTheProgram puts odd values, unknown ones above all,
// in place of each attribute of every valid fixture. Whatever is said of them,
// nothing may panic.
func TestNoValueOfAnAttributeEndsTheProgram(t *testing.T) {
	tried := 0
	for _, dir := range folders(t, "valid") {
		files, err := filepath.Glob(filepath.Join(dir, "*.ml.hcl"))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), filepath.Base(dir))
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, "odd.ml.hcl"), "dataset \"odd\" { source = \"odd.csv\" }\n")
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f, diags := hclsyntax.ParseConfig(src, file, hcl.InitialPos)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			for _, rng := range values(f.Body.(*hclsyntax.Body)) {
				for _, odd := range oddValues {
					text := string(src[:rng.Start.Byte]) + odd + string(src[rng.End.Byte:])
					write(t, filepath.Join(to, filepath.Base(file)), text)
					evaluate(t, to, fmt.Sprintf("%s: %s", rng, odd))
					tried++
				}
			}
			write(t, filepath.Join(to, filepath.Base(file)), string(src))
		}
	}
	if tried < 1000 {
		t.Fatalf("only %d values were tried", tried)
	}
}

// values are the places of all attributes' values in a body.
func values(b *hclsyntax.Body) []hcl.Range {
	var out []hcl.Range
	for _, name := range sortedKeys(b.Attributes) {
		out = append(out, b.Attributes[name].Expr.Range())
	}
	for _, blk := range b.Blocks {
		out = append(out, values(blk.Body)...)
	}
	return out
}

func evaluate(t *testing.T, dir, what string) {
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%s: panic: %v", what, p)
		}
	}()
	p, diags := Load(t.Context(), fixtureOptions(t, dir))
	if diags.HasErrors() {
		return
	}
	_ = p.Validate()
	for _, b := range p.Blocks {
		e, _ := p.Eval(b, unknownScope{})
		_ = p.Conditions(b, unknownScope{}, cty.NilVal, true)
		if b.Kind.Gate != nil {
			_ = b.Kind.Gate(e.Value)
		}
		if b.Kind.Plan != nil {
			_ = b.Kind.Plan(e.Value, map[string]string{"content": "sha256:1"}, cty.NilVal)
		}
	}
	for _, o := range p.Outputs {
		_, _ = p.EvalOutput(o, unknownScope{})
	}
}
