package binaries

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func source(t *testing.T) (Builder, Module) {
	t.Helper()
	b := Builder{Source: t.TempDir(), Cache: t.TempDir(), Log: io.Discard}
	m := Module{Name: "m", Path: "example.com/m", Tools: []string{"a", "b"}}
	put(t, filepath.Join(b.Source, "m", "go.mod"), "module m\n")
	put(t, filepath.Join(b.Source, "m", "go.sum"), "x\n")
	return b, m
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func key(t *testing.T, b Builder, m Module) string {
	t.Helper()
	k, err := b.Key(m)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTheKeyFollowsWhateverDecidesTheBytes(t *testing.T) {
	b, m := source(t)
	first := key(t, b, m)
	if again := key(t, b, m); again != first {
		t.Errorf("the same files give %s and %s", first, again)
	}
	seen := map[string]string{first: "nothing"}
	for _, c := range []struct {
		name   string
		change func()
	}{
		{"go.mod", func() { put(t, filepath.Join(b.Source, "m", "go.mod"), "module m // \n") }},
		{"go.sum", func() { put(t, filepath.Join(b.Source, "m", "go.sum"), "y\n") }},
		{"a line that moves from one to the other", func() {
			put(t, filepath.Join(b.Source, "m", "go.mod"), "module m // \ny\n")
			put(t, filepath.Join(b.Source, "m", "go.sum"), "")
		}},
		{"flags of the linker", func() { m.LDFlags = "-X a=b" }},
		{"tags", func() { m.Tags = "a" }},
		{"cgo", func() { m.Cgo = true }},
		{"what it lacks", func() { m.Adds = map[string]string{"a": "b"} }},
		{"the text of what it lacks", func() { m.Adds = map[string]string{"a": "c"} }},
		{"the name", func() {
			m.Name = "n"
			put(t, filepath.Join(b.Source, "n", "go.mod"), "")
			put(t, filepath.Join(b.Source, "n", "go.sum"), "")
		}},
	} {
		c.change()
		k := key(t, b, m)
		if before, ok := seen[k]; ok {
			t.Errorf("after a change of %s the key is that of %s", c.name, before)
		}
		seen[k] = c.name
	}
}

func TestAModuleIsBuiltOnlyWhenAllItsProgramsAreThere(t *testing.T) {
	b, m := source(t)
	dir, err := b.Dir(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range m.Tools {
		if built, err := b.Built(m); built || err != nil {
			t.Fatalf("without %s: built %v, %v", tool, built, err)
		}
		put(t, filepath.Join(dir, tool), "")
	}
	if built, err := b.Built(m); !built || err != nil {
		t.Fatalf("built %v, %v", built, err)
	}
	if got, err := b.Build(context.Background(), m); got != dir || err != nil {
		t.Fatalf("Build returned %q, %v; what is there is not built again", got, err)
	}
}

func TestAMissingModuleIsNamed(t *testing.T) {
	b, _ := source(t)
	if _, err := b.Key(Module{Name: "other"}); err == nil {
		t.Fatal("no error")
	}
}

// TestTheCommittedModulesNameTheirPrograms holds the folders build to what the tests start.
func TestTheCommittedModulesNameTheirPrograms(t *testing.T) {
	for _, name := range []string{"cluster/build/kubernetes", "cluster/build/coredns", "cluster/build/kserve", "cluster/build/jobset", "cluster/build/trainer", "cluster/build/katib", "gitops/build/gitea"} {
		for _, file := range []string{"go.mod", "go.sum"} {
			if _, err := os.Stat(filepath.Join("..", "..", filepath.FromSlash(name), file)); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestTheToolsOfAModuleAreBuilt(t *testing.T) {
	b, m := source(t)
	m.LDFlags = "-X main.version=v7"
	put(t, filepath.Join(b.Source, "m", "go.mod"), "module example.com/m\n\ngo 1.25\n\ntool (\n\texample.com/m/a\n\texample.com/m/b\n)\n")
	put(t, filepath.Join(b.Source, "m", "go.sum"), "")
	for _, name := range m.Tools {
		put(t, filepath.Join(b.Source, "m", name, "main.go"), "package main\n\nvar version string\n\nfunc main() { print(\""+name+" \" + version) }\n")
	}
	dir, err := b.Build(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range m.Tools {
		if out, err := exec.Command(filepath.Join(dir, name)).CombinedOutput(); err != nil || string(out) != name+" v7" {
			t.Errorf("%s says %q, %v", name, out, err)
		}
	}
	put(t, filepath.Join(b.Source, "m", "a", "main.go"), "package main\n\nfunc main() { nonsense }\n")
	put(t, filepath.Join(b.Source, "m", "go.sum"), "\n")
	if _, err := b.Build(t.Context(), m); err == nil || !strings.Contains(err.Error(), "nonsense") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a build that fails: %v", err)
	}
	if built, err := b.Built(m); built || err != nil {
		t.Errorf("after it: built %v, %v", built, err)
	}
}

func TestAProgramIsNamedOtherwiseThanItsPath(t *testing.T) {
	b, m := source(t)
	before, err := b.Key(m)
	if err != nil {
		t.Fatal(err)
	}
	m.Path, m.From = "m", map[string]string{"a": "cmd/first/v1beta1", "b": "cmd/second/v1beta1"}
	if after, err := b.Key(m); err != nil || after == before {
		t.Errorf("the packages are no part of the key %s: %v", after, err)
	}
	put(t, filepath.Join(b.Source, "m", "go.mod"), "module m\n\ngo 1.25\n")
	put(t, filepath.Join(b.Source, "m", "go.sum"), "")
	for name, from := range m.From {
		put(t, filepath.Join(b.Source, "m", filepath.FromSlash(from), "main.go"), "package main\n\nfunc main() { print(\""+name+"\") }\n")
	}
	dir, err := b.Build(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range m.Tools {
		if out, err := exec.Command(filepath.Join(dir, name)).CombinedOutput(); err != nil || string(out) != name {
			t.Errorf("%s says %q, %v", name, out, err)
		}
	}
}

func TestWhatAModuleLacksIsAddedToACopy(t *testing.T) {
	b, m := source(t)
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "src")
	put(t, filepath.Join(from, "web", "embed.go"), "package web\n")
	m.Adds = map[string]string{"web/static/index.html": "nothing\n"}
	modfile, err := b.completed(m, from, to)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(modfile)
	if err != nil || !strings.HasPrefix(string(text), "module m\n") {
		t.Fatalf("%s %v", text, err)
	}
	_, copied, found := strings.Cut(strings.TrimSpace(string(text)), "replace example.com/m => ")
	if !found {
		t.Fatalf("the module is not replaced: %s", text)
	}
	for name, want := range map[string]string{"web/embed.go": "package web\n", "web/static/index.html": "nothing\n"} {
		if got, err := os.ReadFile(filepath.Join(copied, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(from, "web", "static")); err == nil {
		t.Error("the source itself was changed")
	}
}
