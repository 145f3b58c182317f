package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBothToolsGetAsManyBlocksAsAskedFor(t *testing.T) {
	head := regexp.MustCompile(`(?m)^[a-z]+ "[^{]*\{$`)
	for _, tool := range []string{"ml", "tofu"} {
		files, err := project(tool, "chains", 40)
		if err != nil {
			t.Fatal(err)
		}
		blocks := 0
		for p, text := range files {
			if strings.HasSuffix(p, ".hcl") || strings.HasSuffix(p, ".tf") {
				blocks += len(head.FindAllString(text, -1))
			}
			if strings.Contains(text, "%") {
				t.Errorf("%s of %s still holds a placeholder", p, tool)
			}
		}
		if blocks != 40 {
			t.Errorf("%s: %d blocks, want 40", tool, blocks)
		}
	}
}

func TestEveryDatasetHasItsFile(t *testing.T) {
	files, err := project("ml", "chains", 12)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`source = "([^"]*)"`).FindAllStringSubmatch(files["main.ml.hcl"], -1) {
		if files[m[1]] == "" {
			t.Errorf("%s is declared and not written", m[1])
		}
	}
	if len(files) != 4 {
		t.Errorf("%d files, want the three sources and the project file", len(files))
	}
}

func TestOneBlockHasAsManyKeysAsAskedFor(t *testing.T) {
	for tool, main := range map[string]string{"ml": "main.ml.hcl", "tofu": "main.tf"} {
		files, err := project(tool, "for_each", 2000)
		if err != nil {
			t.Fatal(err)
		}
		text := files[main]
		if got := len(regexp.MustCompile(`"\d+"`).FindAllString(text, -1)); got != 2000 || strings.Contains(text, "%") {
			t.Errorf("%s: %d keys, want 2000, in\n%.200s", tool, got, text)
		}
		if tool == "ml" && files["data/1999.csv"] == "" {
			t.Error("the last source is not written")
		}
	}
}

func TestTheSameArgumentsWriteTheSameBytes(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		if err := run([]string{"-n", "8", dir}); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"main.ml.hcl", "data/0.csv", "data/1.csv"} {
		x, err := os.ReadFile(filepath.Join(a, p))
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.ReadFile(filepath.Join(b, p))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(x), string(y)); diff != "" {
			t.Errorf("%s (-first +second):\n%s", p, diff)
		}
	}
}

func TestASizeOrShapeThatCannotBeIsRefused(t *testing.T) {
	for _, c := range []struct {
		tool, shape string
		n           int
		want        string
	}{
		{"ml", "chains", 10, "multiple"},
		{"ml", "for_each", 0, "at least 1"},
		{"ml", "ring", 4, `shape "ring"`},
		{"make", "chains", 4, `tool "make"`},
	} {
		if _, err := project(c.tool, c.shape, c.n); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("project(%s, %s, %d): %v, want %q in it", c.tool, c.shape, c.n, err, c.want)
		}
	}
}
