package config

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// oddValues are what an attribute may turn out to be against all expectation.
var oddValues = []string{
	"null", "dataset.odd.rows", "[dataset.odd.rows, null]", "toset([dataset.odd.digest])", "toset([null])",
	"sensitive([dataset.odd.path])", "{}", "toset([{ a = [] }])",
}

// TestNoValueOfAnAttributeEndsTheProgram puts odd values, unknown ones above all,
// in place of each attribute that a valid fixture shows, once. Whatever is said of
// them, nothing may panic.
func TestNoValueOfAnAttributeEndsTheProgram(t *testing.T) {
	tried, seen, odds := 0, map[string]bool{}, oddValues
	if raceEnabled { // each load takes ten times as long there
		odds = oddValues[1:4]
	}
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
			for _, a := range attributes(f.Body.(*hclsyntax.Body), "") {
				if seen[a.path] {
					continue
				}
				seen[a.path] = true
				rng := a.rng
				for _, odd := range odds {
					text := string(src[:rng.Start.Byte]) + odd + string(src[rng.End.Byte:])
					write(t, filepath.Join(to, filepath.Base(file)), text)
					evaluate(t, to, fmt.Sprintf("%s: %s", rng, odd))
					tried++
				}
			}
			write(t, filepath.Join(to, filepath.Base(file)), string(src))
		}
	}
	if tried < 100*len(odds)/2 {
		t.Fatalf("only %d values were tried", tried)
	}
}

type attribute struct {
	path string // "training.retrain.cooldown"
	rng  hcl.Range
}

// attributes are those of a body and of the blocks in it.
func attributes(b *hclsyntax.Body, path string) []attribute {
	var out []attribute
	for _, name := range sortedKeys(b.Attributes) {
		out = append(out, attribute{join(path, name), b.Attributes[name].Expr.Range()})
	}
	for _, blk := range b.Blocks {
		out = append(out, attributes(blk.Body, join(path, blk.Type))...)
	}
	return out
}

func evaluate(t *testing.T, dir, what string) {
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("%s: panic: %v\n%s", what, p, debug.Stack())
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
