package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// These tests hold the pages that are written by hand to what they speak of.

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// testNames lists the test functions of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(raw, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestEveryBadInputIsListedWithATestThatExists(t *testing.T) {
	tests := testNames(t)
	page := read(t, "docs/reference/bad-inputs.md")
	rows := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z]\d+) \| .+ \| (.+) \|$`).FindAllStringSubmatch(page, -1) {
		if rows[m[1]] != "" {
			t.Errorf("%s is listed twice", m[1])
		}
		rows[m[1]] = m[2]
	}
	for group, n := range map[string]int{"H": 23, "P": 9, "Z": 15, "D": 20, "M": 8, "N": 18, "W": 14, "R": 18} {
		for i := 1; i <= n; i++ {
			if rows[fmt.Sprint(group, i)] == "" {
				t.Errorf("%s%d is not listed", group, i)
			}
		}
	}
	named := regexp.MustCompile("`(Test\\w+)`")
	for id, cell := range rows {
		found := named.FindAllStringSubmatch(cell, -1)
		if len(found) == 0 && len(strings.Fields(cell)) < 5 {
			t.Errorf("%s has neither a test nor a reason: %q", id, cell)
		}
		for _, f := range found {
			if !tests[f[1]] {
				t.Errorf("%s names %s, which no package has", id, f[1])
			}
		}
	}
	byID := regexp.MustCompile(`^Test([HPZDMNWR]\d+)(?:And([HPZDMNWR]\d+))?`)
	for name := range tests {
		for _, id := range byID.FindStringSubmatch(name)[min(1, len(byID.FindStringSubmatch(name))):] {
			if id != "" && !strings.Contains(rows[id], "`"+name+"`") {
				t.Errorf("%s is not listed under %s", name, id)
			}
		}
	}
}

func TestTheLanguagePageNamesEveryFunction(t *testing.T) {
	listed := map[string]bool{}
	for _, span := range regexp.MustCompile("(?s)`([^`]+)`").FindAllStringSubmatch(read(t, "docs/reference/language.md"), -1) {
		for _, word := range strings.Fields(span[1]) {
			listed[word] = true
		}
	}
	n := 0
	for _, file := range []string{"table.go", "files.go"} {
		src := read(t, "config/internal/funcs/"+file)
		for _, m := range regexp.MustCompile(`(?m)^\t(?:\t|t\[)"(\w+)"(?::|\] =)`).FindAllStringSubmatch(src, -1) {
			n++
			if !listed[m[1]] {
				t.Errorf("docs/reference/language.md does not name the function %s", m[1])
			}
		}
	}
	if n < 80 {
		t.Fatalf("found %d functions only", n)
	}
}

// TestTheFloorsOfTheArchitectureAreThoseOfItsTest compares the page's table with
// the patterns that internal/arch_test.go enforces.
func TestTheFloorsOfTheArchitectureAreThoseOfItsTest(t *testing.T) {
	floorOf := func(pkg string) string {
		for _, m := range regexp.MustCompile("(?m)^\\t\\{`([^`]+)`, (\\d)\\},").FindAllStringSubmatch(read(t, "internal/arch_test.go"), -1) {
			if regexp.MustCompile(m[1]).MatchString(pkg) {
				return m[2]
			}
		}
		return "none"
	}
	n := 0
	for _, row := range regexp.MustCompile(`(?m)^\| (\d) \| ([^|]+) \|`).FindAllStringSubmatch(read(t, "docs/architecture.md"), -1) {
		for _, pkg := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[2], -1) {
			n++
			if got := floorOf(pkg[1]); got != row[1] {
				t.Errorf("docs/architecture.md has %s on floor %s, the test on floor %s", pkg[1], row[1], got)
			}
		}
	}
	if n < 20 {
		t.Fatalf("found %d packages in the table only", n)
	}
}

func TestEveryDirectDependencyHasALineInItsRecord(t *testing.T) {
	cmd := exec.Command("go", "mod", "edit", "-json")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	record := read(t, "docs/adr/0002-dependencies.md")
	direct, known := map[string]bool{}, map[string]bool{}
	for _, r := range mod.Require {
		known[r.Path] = true
		if r.Indirect {
			continue
		}
		direct[r.Path] = true
		if !strings.Contains(record, "| `"+r.Path+"` |") {
			t.Errorf("%s has no line in docs/adr/0002-dependencies.md", r.Path)
		}
	}
	if len(direct) < 20 {
		t.Fatalf("go.mod has %d direct dependencies only", len(direct))
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(record, -1) {
		if !known[m[1]] {
			t.Errorf("docs/adr/0002-dependencies.md speaks of %s, which go.mod does not require", m[1])
		}
	}
}

func TestEveryPackageIsInTheArchitecture(t *testing.T) {
	cmd := exec.Command("go", "list", "-f", "{{.ImportPath}} {{len .GoFiles}}", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, "docs/architecture.md")
	n := 0
	for line := range strings.Lines(string(out)) {
		path, files, _ := strings.Cut(strings.TrimSpace(line), " ")
		rel := strings.TrimPrefix(strings.TrimPrefix(path, "github.com/continuo-ml/continuo"), "/")
		if files == "0" || rel == "" {
			continue // tests alone
		}
		n++
		if !strings.Contains(text, "`"+rel+"`") {
			t.Errorf("docs/architecture.md does not name `%s`", rel)
		}
	}
	if n < 20 {
		t.Fatalf("go list found %d packages only", n)
	}
}

// TestLinksBetweenPagesLeadSomewhere follows every relative link of every page,
// with its heading where it names one.
func TestLinksBetweenPagesLeadSomewhere(t *testing.T) {
	pages := []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md", "examples/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			rel, err := filepath.Rel(root, f)
			if err != nil {
				t.Fatal(err)
			}
			pages = append(pages, rel)
		}
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	links := 0
	for _, page := range pages {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			file, heading, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			raw, err := os.ReadFile(filepath.Join(root, target))
			if info, serr := os.Stat(filepath.Join(root, target)); serr == nil && info.IsDir() {
				continue
			}
			if err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
				continue
			}
			if heading != "" && !slices.Contains(anchors(raw), heading) {
				t.Errorf("%s links to %s: no such heading", page, m[1])
			}
		}
	}
	if links < 40 {
		t.Fatalf("found %d links only", links)
	}
}

// anchors are the names of a page's headings, as forges make them.
func anchors(page []byte) []string {
	var names []string
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for line := range bytes.Lines(page) {
		if h := bytes.TrimLeft(line, "#"); len(h) < len(line) {
			text := strings.ToLower(strings.TrimSpace(string(h)))
			names = append(names, strings.ReplaceAll(drop.ReplaceAllString(text, ""), " ", "-"))
		}
	}
	return names
}
