package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/config"
)

const root = "../.."

// constants lists the constants of a file whose type or name is wanted, by
// their value for strings and by their name otherwise.
func constants(t *testing.T, file string, want func(name, typ string) bool) []string {
	t.Helper()
	src, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, d := range src.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			typ := ""
			if id, ok := v.Type.(*ast.Ident); ok {
				typ = id.Name
			}
			for i, n := range v.Names {
				if !want(n.Name, typ) {
					continue
				}
				if lit, ok := v.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
					text, err := strconv.Unquote(lit.Value)
					if err != nil {
						t.Fatal(err)
					}
					found = append(found, text)
					continue
				}
				found = append(found, n.Name)
			}
		}
	}
	return found
}

func TestEveryActionAndReasonCodeHasASentence(t *testing.T) {
	page := planPage()
	for typ, least := range map[string]int{"Action": 10, "Code": 22} {
		all := constants(t, "resource/words.go", func(_, got string) bool { return got == typ })
		if len(all) < least {
			t.Errorf("found %d constants of type %s, want at least %d", len(all), typ, least)
		}
		for _, c := range all {
			if !strings.Contains(page, "\n| `"+c+"` |") {
				t.Errorf("plan.md has no row for the %s %q", typ, c)
			}
		}
	}
}

func TestEveryLimitOfTheLanguageIsListed(t *testing.T) {
	listed := map[string]bool{}
	for _, l := range languageLimits() {
		listed[l.constant] = true
	}
	files, err := filepath.Glob(filepath.Join(root, "config", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		rel, err := filepath.Rel(root, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range constants(t, rel, func(name, _ string) bool { return strings.HasPrefix(name, "Max") }) {
			n++
			if !listed[c] {
				t.Errorf("limits.md does not list config.%s", c)
			}
		}
	}
	if n < 10 {
		t.Fatalf("found %d limits only", n)
	}
}

func TestEveryAttributeOfEveryKindHasARowThatSaysSomething(t *testing.T) {
	kinds, err := config.AllKinds()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range kinds.Names() {
		page := kindPage(kinds[name])
		for _, a := range kinds[name].Body().Attrs {
			if a.Doc == "" {
				t.Errorf("%s.%s has no doc", name, a.Name)
			}
			if !strings.Contains(page, "\n| `"+a.Name+"` | ") {
				t.Errorf("%s.md has no row for %s", name, a.Name)
			}
		}
		for _, b := range kinds[name].Body().Blocks {
			if b.Doc == "" || !strings.Contains(page, "\n### `"+b.Name) {
				t.Errorf("%s.md does not describe the block %s", name, b.Name)
			}
		}
		if strings.Contains(page, "| any | any |") {
			t.Errorf("%s.md has an attribute whose type was not found", name)
		}
	}
}

func TestSubcommandsAndTopicsAreReadFromAHelpText(t *testing.T) {
	text := "ml does things.\n\nAvailable Commands:\n  apply       Do it\n  help        Help\n  state       Look\n\nFlags:\n  -h, --help\n\nAdditional help topics:\n  ml exit-codes What they mean\n"
	if got := strings.Join(subcommands(text), " "); got != "apply state exit-codes" {
		t.Errorf("got %q", got)
	}
}

func TestCheckNamesWhatIsStaleMissingOrGoneAndSparesPagesByHand(t *testing.T) {
	dir := t.TempDir()
	pages := map[string]string{"a.md": mark + "a\n", "b.md": mark + "b\n"}
	for name, text := range map[string]string{"a.md": mark + "old\n", "gone.md": mark + "x\n", "hand.md": "by hand\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	if err := compare(dir, pages, &out); err == nil {
		t.Error("stale pages pass the check")
	}
	if want := "a.md differs\nb.md is missing\ngone.md is of a kind or provider that is gone\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	if err := write(dir, pages); err != nil {
		t.Fatal(err)
	}
	if err := compare(dir, pages, io.Discard); err != nil {
		t.Errorf("after writing: %v", err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "hand.md")); err != nil || string(raw) != "by hand\n" {
		t.Errorf("the page by hand is %q, %v", raw, err)
	}
	if err := write(dir, map[string]string{"hand.md": mark}); err == nil {
		t.Error("a page by hand was overwritten")
	}
}
