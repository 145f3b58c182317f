package config

import (
	"os"
	"path/filepath"
	"testing"
)

// The key in .ml would let a stranger's file sign plans and look secrets up.
func TestNoExpressionReadsTheProjectsKey(t *testing.T) {
	for _, path := range []string{".ml/key", "./.ml/key", "x/../.ml/key", ".ml/modules/../key", ".ML/key", ".ml/modules.json", "in"} {
		opts := projectFiles(t, map[string]string{"main.ml.hcl": `output "o" { value = file("` + path + `") }`, ".ml/key": "0123", ".ml/modules.json": "{}", ".ML/key": "0123", "x/y": ""})
		if err := os.Symlink(filepath.Join(".ml", "key"), filepath.Join(opts.Dir, "in")); err != nil {
			t.Fatal(err)
		}
		_ = refused(t, opts, "Error in function call", "no expression can read it")
	}
	mustLoad(t, projectFiles(t, map[string]string{"main.ml.hcl": `output "o" { value = file(".ml/modules/a/x.txt") }`, ".ml/modules/a/x.txt": "ok"}))
}

func TestWhatFunctionsOfFilesSay(t *testing.T) {
	for expr, words := range map[string][]string{
		`file("nope.txt")`:                    {"nope.txt", "${path.module}/NAME"},
		`templatefile("a.tpl", { b = 1 })`:    {`a.tpl:2 uses "name", which it is not given`, "{ name = … }"},
		`templatefile("self.tpl", {})`:        {"self.tpl:1", `no function named "templatefile"`},
		`templatefile("broken.tpl", {})`:      {"broken.tpl:1", "Missing expression"},
		`jsondecode("{")`:                     {"the text is not JSON"},
		`yamldecode("a: [")`:                  {"the text is not YAML"},
		`templatefile("a.tpl", { nane = 1 })`: {`uses "name"`},
	} {
		files := map[string]string{"a.tpl": "one\n${name}", "self.tpl": `${templatefile("self.tpl", {})}`, "broken.tpl": "x ${"}
		files["main.ml.hcl"] = `output "o" { value = ` + expr + " }\n"
		_ = refused(t, projectFiles(t, files), append([]string{"Error in function call"}, words...)...)
	}
}
