package config

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestABackendIsReadInBothSyntaxes(t *testing.T) {
	want := map[string]string{"bucket": "ml-state", "prefix": "team/tumors", "endpoint": "http://127.0.0.1:9000"}
	for name, text := range map[string]string{
		"main.ml.hcl":  "ml {\n  parallelism = 3\n  backend \"s3\" {\n    bucket   = \"ml-state\"\n    prefix   = \"team/tumors\"\n    endpoint = \"http://127.0.0.1:9000\"\n  }\n}\n",
		"main.ml.json": `{"ml": {"parallelism": 3, "backend": {"s3": {"bucket": "ml-state", "prefix": "team/tumors", "endpoint": "http://127.0.0.1:9000"}}}}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, diags := Load(context.Background(), Options{Dir: dir})
		if diags.HasErrors() || p.Settings.Backend == nil {
			t.Errorf("%s: %v", name, diags)
			continue
		}
		if diff := cmp.Diff(want, p.Settings.Backend.Attrs); diff != "" || p.Settings.Backend.Type != "s3" || p.Settings.Parallelism != 3 {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestTwoBackendsAreOneWhenTheyNameOnePlace(t *testing.T) {
	a := &Backend{Type: "s3", Attrs: map[string]string{"bucket": "x"}}
	b := &Backend{Type: "s3", Attrs: map[string]string{"bucket": "x"}}
	c := &Backend{Type: "s3", Attrs: map[string]string{"bucket": "x", "prefix": "y"}}
	var none *Backend
	if !a.Same(b) || a.Same(c) || a.Same(nil) || none.Same(a) || !none.Same(nil) {
		t.Error("wrong")
	}
}
