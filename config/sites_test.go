package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// notShown are diagnostics that no fixture can show, each with its reason.
var notShown = map[string]string{
	"%s. Run ml init in the project folder.": "only where the working folder is gone",
	"%s at %s has no folder %q.%s":           "TestFetchModules",
	"Neither default_provider nor the local provider serves a %s.%s Set provider = \"NAME\".": "only in a build whose local provider lacks a kind",
}

// TestEveryPlaceThatSaysSomethingHasAFixture holds not only each summary, but
// each place in the code with its own detail, to a fixture that shows it.
func TestEveryPlaceThatSaysSomethingHasAFixture(t *testing.T) {
	var shown []string
	for _, dir := range folders(t, "error") {
		_, diags := found(t, dir)
		for _, d := range diags {
			shown = append(shown, d.Summary+"\x00"+d.Detail)
		}
	}
	sites := diagnosticSites(t)
	if len(sites) < 100 {
		t.Fatalf("found only %d places", len(sites))
	}
	for _, s := range sites {
		if notInFixtures[s.summary] != "" || notShown[s.detail] != "" || slices.ContainsFunc(shown, s.shows.MatchString) {
			continue
		}
		t.Errorf("%s: no fixture shows %q: %s", s.at, s.summary, s.detail)
	}
}

// site is a call that makes a diagnostic of constant texts.
type site struct {
	at, summary, detail string
	shows               *regexp.Regexp // matches what it says
}

var verb = regexp.MustCompile(`%[a-z]`)

func diagnosticSites(t *testing.T) []site {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var out []site
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && len(c.Args) >= 3 && slices.Contains([]string{"errAt", "warnAt", "err"}, called(c.Fun)) {
				summary, detail := constant(c.Args[1]), constant(c.Args[2])
				if summary != "" && detail != "" {
					parts := verb.Split(detail, -1)
					for i := range parts {
						parts[i] = regexp.QuoteMeta(parts[i])
					}
					out = append(out, site{set.Position(c.Pos()).String(), summary, detail, regexp.MustCompile("(?s)^" + regexp.QuoteMeta(summary) + "\x00" + strings.Join(parts, ".*"))})
				}
			}
			return true
		})
	}
	return out
}

func called(fun ast.Expr) string {
	switch x := fun.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return x.Sel.Name
	}
	return ""
}

func constant(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return s
}
