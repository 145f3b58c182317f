package config

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// objectsOf evaluates one manifest and gives its objects and what of them is secret.
func objectsOf(t *testing.T, files map[string]string) (map[string]cty.Value, []string) {
	t.Helper()
	p := mustLoad(t, projectFiles(t, files))
	v, diags := p.Eval(p.Blocks[0], unknownScope{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if !v.Value.GetAttr("yaml").IsNull() {
		t.Error("the YAML stands beside what it was taken apart into")
	}
	return v.Value.GetAttr("objects").AsValueMap(), slices.Sorted(maps.Keys(v.Sensitive))
}

func TestAManifestIsTakenApart(t *testing.T) {
	t.Run("documents, lists and namespaces", func(t *testing.T) {
		objects, secret := objectsOf(t, map[string]string{"main.ml.hcl": `manifest "m" { yaml = file("m.yaml") }`, "m.yaml": strings.Join([]string{
			"apiVersion: v1", "kind: List", "items:", "- {apiVersion: v1, kind: Secret, metadata: {name: a.b, namespace: \"n\"}, data: {tls.crt: eA==}}",
			"- {apiVersion: bitnami.com/v1, kind: Secret, metadata: {name: other}}",
			"--- # a comment", "apiVersion: apps/v1", "kind: Deployment", "metadata: {name: web}", "spec: {mode: 0644, on: yes}", "---", "",
		}, "\n")})
		want := []string{"Deployment.apps/web", "Secret.bitnami.com/other", "Secret/n/a.b"}
		if d := cmp.Diff(want, slices.Sorted(maps.Keys(objects))); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"objects.Secret/n/a.b.data", "objects.Secret/n/a.b.stringData"}, secret); d != "" {
			t.Error(d)
		}
		// Kubernetes reads YAML 1.1: an octal number, and words for truths, also as keys.
		spec := objects["Deployment.apps/web"].GetAttr("spec")
		if got := spec.GetAttr("mode"); !got.RawEquals(cty.NumberIntVal(420)) {
			t.Errorf("0644 is %#v", got)
		}
		if got := spec.GetAttr("true"); !got.RawEquals(cty.True) {
			t.Errorf("yes is %#v", got)
		}
	})
	t.Run("a driver gets it as a map", func(t *testing.T) {
		p := mustLoad(t, projectFiles(t, map[string]string{"main.ml.hcl": `manifest "m" { yaml = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {num: '1'}, list: [1, a]}" }`}))
		v, diags := p.Eval(p.Blocks[0], unknownScope{})
		var m Manifest
		if err := resource.Decode(v.Value, &m); err != nil || diags.HasErrors() {
			t.Fatal(err, diags)
		}
		want := map[string]any{"ConfigMap/c": map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "c"}, "data": map[string]any{"num": "1"}, "list": []any{int64(1), "a"},
		}}
		if d := cmp.Diff(any(want), m.Objects); d != "" || !m.Prune {
			t.Errorf("%s\nprune %v", d, m.Prune)
		}
	})
	t.Run("a secret variable makes all of it secret", func(t *testing.T) {
		_, secret := objectsOf(t, map[string]string{"main.ml.hcl": "variable \"s\" {\n default = \"x\"\n sensitive = true\n}\nmanifest \"m\" { yaml = \"{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {k: ${var.s}}}\" }"})
		if !slices.Contains(secret, "objects") {
			t.Errorf("secret are %v", secret)
		}
	})
	t.Run("a line is counted in the whole file", func(t *testing.T) {
		diags := refused(t, projectFiles(t, map[string]string{"main.ml.hcl": `manifest "m" { yaml = "a: 1\n---\nb: 1\nc: d: e\n" }`}))
		if got := diags.Error(); !strings.Contains(got, "Line 4: mapping values are not allowed") {
			t.Error(got)
		}
	})
	t.Run("too many objects", func(t *testing.T) {
		diags := refused(t, projectFiles(t, map[string]string{"main.ml.hcl": `manifest "m" { yaml = file("m.yaml") }`, "m.yaml": strings.Repeat("---\na: 1\n", maxDocuments+1)}))
		if got := diags.Error(); !strings.Contains(got, "Too many objects") {
			t.Error(got)
		}
	})
	t.Run("a bomb of aliases is refused", func(t *testing.T) {
		bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
		for c := 'b'; c < 'z'; c++ {
			bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ",") + "]\n"
		}
		diags := refused(t, projectFiles(t, map[string]string{"main.ml.hcl": `manifest "m" { yaml = file("m.yaml") }`, "m.yaml": bomb}))
		if got := diags.Error(); !strings.Contains(got, "anchors and aliases") {
			t.Error(got)
		}
	})
}

func FuzzManifestYAML(f *testing.F) {
	for _, s := range []string{"a: 1\n---\n- b\n", "--- {a: b}\n...\n", "a: &x [1]\nb: *x\n", "apiVersion: v1\nkind: List\nitems: [{}]\n", "\"\\u0000\": ~\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, p := readYAML(text)
		if (p != nil) != (list == nil) && p != nil {
			t.Fatal("a problem and a list")
		}
		v := cty.ObjectVal(map[string]cty.Value{"yaml": cty.NullVal(cty.String), "objects": cty.NullVal(cty.DynamicPseudoType)})
		if got, _, problems := byName(v, "yaml", list); len(problems) == 0 && !got.GetAttr("objects").CanIterateElements() {
			t.Fatal("no objects and no problem")
		}
	})
}
