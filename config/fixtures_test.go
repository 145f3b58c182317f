package config

import (
	"bufio"
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/continuo-ml/continuo/resource"
)

const fixtures = "../testdata/config"

// localExtra and clusterExtra are what two providers understand besides.
type localExtra struct {
	Nice int `ml:"nice,policy,min=0,max=19" doc:"Scheduling priority."`
}

type clusterExtra struct {
	Namespace string       `ml:"namespace,immutable" doc:"Namespace."`
	Pools     []clusterNet `ml:"pool,block" doc:"Node pool."`
}

type clusterNet struct {
	Name string `ml:"name,label"`
	Size int    `ml:"size,required,min=1" doc:"Nodes."`
}

type clusterConfig struct {
	Context string `ml:"context,required" doc:"Context of the kubeconfig."`
	QPS     int    `ml:"qps,default=50,min=1" doc:"Requests a second."`
}

func mustSchema(v any) *resource.Schema {
	s, err := resource.SchemaOf(v)
	if err != nil {
		panic(err)
	}
	return s
}

// testProviders are a local provider that serves every kind, a cluster that
// serves some, and a registry that serves none of those in the fixtures.
func testProviders() map[string]ProviderSchema {
	all, err := AllKinds()
	if err != nil {
		panic(err)
	}
	return map[string]ProviderSchema{
		"local":      {Name: "local", Kinds: all.Names(), Nested: map[string]*resource.Schema{"training": mustSchema(localExtra{})}},
		"kubernetes": {Name: "kubernetes", Kinds: []string{"check", "deployment", "training"}, Config: mustSchema(clusterConfig{}), Nested: map[string]*resource.Schema{"training": mustSchema(clusterExtra{}), "deployment": mustSchema(clusterExtra{})}},
		"kserve":     {Name: "kserve", Kinds: []string{"deployment"}},
		"kubeflow":   {Name: "kubeflow", Kinds: []string{"training"}},
		"oci":        {Name: "oci"},
	}
}

// fixtureOptions reads vars.txt of a fixture: NAME=VALUE lines, as given by -var.
func fixtureOptions(t *testing.T, dir string) Options {
	t.Helper()
	opts := Options{Dir: dir, Providers: testProviders(), ToolVersion: "0.1.0", Elsewhere: []string{"prometheus", "sagemaker"}}
	raw, err := os.ReadFile(filepath.Join(dir, "vars.txt"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, line := range strings.Fields(string(raw)) {
		name, value, _ := strings.Cut(line, "=")
		opts.Vars = append(opts.Vars, VarInput{Name: name, Source: "-var", Text: &value})
	}
	return opts
}

// found are the diagnostics of loading and validating a folder, as "file:line: summary".
func found(t *testing.T, dir string) ([]string, hcl.Diagnostics) {
	t.Helper()
	p, diags := Load(t.Context(), fixtureOptions(t, dir))
	if !diags.HasErrors() {
		diags = append(diags, p.Validate()...)
	}
	var out []string
	for _, d := range diags {
		where := ""
		if d.Subject != nil {
			where = fmt.Sprintf("%s:%d", d.Subject.Filename, d.Subject.Start.Line)
		}
		if d.Detail == "" || strings.Contains(d.Summary, "\n") {
			t.Errorf("%s: %q has no detail that says what to do, or a summary of several lines", where, d.Summary)
		}
		sev := ""
		if d.Severity == hcl.DiagWarning {
			sev = "warning: "
		}
		out = append(out, where+": "+sev+d.Summary)
	}
	slices.Sort(out)
	return out, diags
}

// expected reads `# ERROR: summary` at line ends, and expected.txt.
func expected(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		sc := bufio.NewScanner(bytes.NewReader(data))
		for line := 1; sc.Scan(); line++ {
			switch {
			case e.Name() == "expected.txt":
				out = append(out, sc.Text())
			default:
				_, rest, ok := strings.Cut(sc.Text(), "# ERROR: ")
				for ok {
					var one string
					one, rest, ok = strings.Cut(rest, " # ERROR: ")
					out = append(out, fmt.Sprintf("%s:%d: %s", filepath.ToSlash(rel), line, one))
				}
			}
		}
		return sc.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func folders(t *testing.T, kind string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(fixtures, kind, "*"))
	if err != nil || len(list) == 0 {
		t.Fatalf("no %s fixtures: %v", kind, err)
	}
	return list
}

func TestValidFixturesLoadWithoutADiagnostic(t *testing.T) {
	for _, dir := range folders(t, "valid") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			if got, diags := found(t, dir); len(got) > 0 {
				t.Error(diags)
			}
		})
	}
}

func TestErrorFixturesGiveTheDiagnosticsWrittenInThem(t *testing.T) {
	for _, dir := range folders(t, "error") {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			want := expected(t, dir)
			if len(want) == 0 {
				t.Fatal("the fixture expects nothing")
			}
			got, diags := found(t, dir)
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("diagnostics (-want +got):\n%s", d)
				for _, d := range diags {
					t.Log(d)
				}
			}
		})
	}
}

// notInFixtures are summaries that no fixture can show, each with its test.
var notInFixtures = map[string]string{
	"A kind cannot be read":             "a defect of this program",
	"The blocks cannot be ordered":      "a defect of this program",
	"Loading was interrupted":           "TestLoadStopsWhenTheContextEnds",
	"The project folder cannot be read": "TestLoadNamesAFolderThatIsNotThere",
	"A folder cannot be read":           "TestLoadNamesAFolderThatIsNotThere",
	"A variables file cannot be read":   "TestVariablesFiles",
	"File too large":                    "TestH18",
	"Too many tokens":                   "TestH18",
	"Project too large":                 "TestH18",
	"Too many instances":                "TestH18",
	"And more":                          "TestAnEndlessListOfErrorsIsCut",
	"Value too large":                   "TestH9",
	"Too many objects":                  "TestAManifestIsTakenApart",
	"Invalid character":                 "TestH12",
	"Expression too long":               "TestH4",
	"Too many operators in a row":       "TestH3",
	"File names differ only by case":    "TestH21",
	"Chain of references too long":      "TestALongChainOfLocalsIsRefused",
	"A file cannot be read":             "TestALinkOutOfTheProjectIsNotFollowed",
	"Modules nested too deeply":         "TestModulesNestedTooDeeply",
	"Evaluation needs limits":           "TestH6",
	"Evaluation stopped":                "TestH6",
	"A module cannot be fetched":        "TestFetchModules",
	"A tag moved":                       "TestFetchModules",
	"The module lock file is damaged":   "TestFetchModules",
}

// summaries are the first lines of every diagnostic in this package's code.
func summaries(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		add := func(e ast.Expr) {
			if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil && s != "" {
					out[s] = set.Position(lit.Pos()).String()
				}
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.CallExpr:
				switch fn := x.Fun.(type) {
				case *ast.Ident:
					if i := map[string]int{"errAt": 1, "warnAt": 1, "fail": 0, "limit": 2}[fn.Name]; i > 0 || fn.Name == "fail" && len(x.Args) > 1 {
						add(x.Args[i])
					}
				case *ast.SelectorExpr:
					if i, ok := map[string]int{"err": 1, "refuse": 0}[fn.Sel.Name]; ok && len(x.Args) > 1 {
						add(x.Args[i])
					}
				}
			case *ast.KeyValueExpr:
				if k, ok := x.Key.(*ast.Ident); ok && k.Name == "Summary" {
					add(x.Value)
				}
			case *ast.CompositeLit:
				if id, ok := x.Type.(*ast.Ident); ok && id.Name == "Problem" && len(x.Elts) == 3 {
					add(x.Elts[1])
				}
				if at, ok := x.Type.(*ast.ArrayType); ok {
					if id, ok := at.Elt.(*ast.Ident); ok && id.Name == "Problem" {
						for _, e := range x.Elts {
							if c, ok := e.(*ast.CompositeLit); ok && len(c.Elts) == 3 {
								add(c.Elts[1])
							}
						}
					}
				}
			}
			return true
		})
	}
	return out
}

func TestEveryDiagnosticHasAFixture(t *testing.T) {
	shown := map[string]bool{}
	for _, dir := range folders(t, "error") {
		for _, line := range expected(t, dir) {
			_, summary, _ := strings.Cut(line, ": ")
			shown[strings.TrimPrefix(summary, "warning: ")] = true
		}
	}
	for _, dir := range []string{".", "internal/syntax"} {
		all := summaries(t, dir)
		if len(all) == 0 {
			t.Fatalf("found no diagnostics in %s", dir)
		}
		for _, s := range sortedKeys(all) {
			if !shown[s] && notInFixtures[s] == "" {
				t.Errorf("%s: %q is in no fixture", all[s], s)
			}
		}
	}
}

func TestEveryKindHasAValidAndAnErrorFixture(t *testing.T) {
	kinds, err := AllKinds()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range kinds.Names() {
		for _, group := range []string{"valid", "error"} {
			dir := filepath.Join(fixtures, group, "kind_"+name)
			files, err := configFiles(dir)
			if err != nil || len(files) == 0 {
				t.Errorf("kind %s has no %s fixture in %s", name, group, dir)
				continue
			}
			var text strings.Builder
			for _, f := range files {
				data, err := os.ReadFile(filepath.Join(dir, f))
				if err != nil {
					t.Fatal(err)
				}
				text.Write(data)
			}
			if !strings.Contains(text.String(), name+` "`) {
				t.Errorf("%s declares no %s", dir, name)
			}
		}
	}
}
