// Package internal holds the test that keeps the house plan true.
package internal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"sort"
	"strings"
	"testing"
)

const module = "github.com/continuo-ml/continuo"

// floors is the house plan of docs/architecture.md: a package imports only from
// lower floors, or from packages of its own folder.
var floors = []struct {
	pattern string
	floor   float64 // files and tables stand on a half floor: they write durably
}{
	{`^resource$`, 0},
	{`^internal/(dag|durable|fault|fence|modelformat|proc|proc/proctest)$`, 0},
	{`^internal/(files|leader|tabular)$`, 0.5},
	{`^internal/(drift|runner|gateway|gateway/capture|kube|oci|oci/ocitest)$`, 1},
	{`^config(/internal/\w+)?$`, 1},
	{`^state$`, 1},
	{`^state/group$`, 1.5},
	{`^state/(bolt|remote|statetest)$`, 2},
	{`^state/remote/(s3|kube|remotetest)$`, 2.1},
	{`^providers$`, 2},
	{`^planner$`, 2},
	{`^internal/(pod|source|windows)$`, 2},
	{`^(providers/all|internal/daemonclient)$`, 4},
	{`^providers/(runs|serving)$`, 2.5}, // what several providers have in common: how commands run, how rollouts end
	{`^providers/(watch|pods)$`, 2.7},   // monitors; runs in the pods of a cluster
	{`^providers/rollout$`, 2.8},        // how rollouts in a cluster are driven, whatever runs the servers
	{`^providers/\w+(/internal/\w+)?$`, 3},
	{`^(engine|report|internal/forge)$`, 3},
	{`^internal/workspace$`, 4.2},
	{`^daemon/internal/(mirror|outbox|picture|reply|signed|status)$`, 4.3},
	{`^daemon/internal/site$`, 4.4},
	{`^daemon$`, 4.5},
	{`^(cmd/ml|internal/docgen|internal/mutate|internal)$`, 5},
	{`^e2e/(cluster/)?internal/\w+$`, 5.5},
	{`^(e2e|bench|examples)(/.*)?$`, 6},
}

// onlyIn says which of our packages may import a third-party one.
var onlyIn = map[string]string{
	"go.etcd.io/bbolt":         `^state/bolt$`,
	"github.com/Azure":         `^(internal/source|e2e(/.*)?)$`,
	"github.com/aws":           `^(internal/source|state/remote/s3|e2e(/.*)?)$`,
	"github.com/kserve/kserve": `^providers/kserve/internal/api$`,
	"k8s.io/client-go":         `^(internal/kube|providers/(kubernetes|kubeflow|kserve)|e2e(/.*)?)$`,
}

type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", module+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < 15 {
		t.Fatalf("go list found %d packages only", len(pkgs))
	}
	return pkgs
}

func floorOf(path string) (float64, bool) {
	rel := strings.TrimPrefix(path, module+"/")
	for _, f := range floors {
		if regexp.MustCompile(f.pattern).MatchString(rel) {
			return f.floor, true
		}
	}
	return 0, false
}

func TestPackagesImportOnlyFromLowerFloors(t *testing.T) {
	edges := 0
	for _, p := range list(t) {
		floor, known := floorOf(p.ImportPath)
		if !known {
			t.Errorf("%s is not in the house plan: add it to docs/architecture.md and to this test", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module+"/") {
				continue
			}
			edges++
			below, _ := floorOf(imp)
			if below > floor || below == floor && !strings.HasPrefix(imp, p.ImportPath+"/") {
				t.Errorf("%s (floor %g) imports %s (floor %g)", p.ImportPath, floor, imp, below)
			}
		}
	}
	if edges < 40 {
		t.Fatalf("only %d imports were checked", edges)
	}
}

func TestSystemsAreSeenOnlyWhereTheyBelong(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range list(t) {
		rel := strings.TrimPrefix(p.ImportPath, module+"/")
		for _, imp := range p.Imports {
			for system, where := range onlyIn {
				if imp != system && !strings.HasPrefix(imp, system+"/") {
					continue
				}
				seen[system] = true
				if !regexp.MustCompile(where).MatchString(rel) {
					t.Errorf("%s imports %s, which belongs to %s", rel, imp, where)
				}
			}
		}
	}
	if !seen["go.etcd.io/bbolt"] {
		t.Error("nobody imports bbolt: this test looks at the wrong packages")
	}
}

func TestThePlannerIsPure(t *testing.T) {
	forbidden := regexp.MustCompile(`\btime\.(Now|Since|Until|After|Tick|Sleep)\b|\bcontext\.|\bos\.|\bhttp\.|\brand\.`)
	files := 0
	for _, p := range list(t) {
		if p.ImportPath != module+"/planner" {
			continue
		}
		for _, f := range p.GoFiles {
			files++
			src, err := os.ReadFile(p.Dir + "/" + f)
			if err != nil {
				t.Fatal(err)
			}
			if m := forbidden.Find(src); m != nil {
				t.Errorf("planner/%s uses %s", f, m)
			}
		}
	}
	if files == 0 {
		t.Fatal("the planner has no files")
	}
}

func TestNoInitRegistriesAndNoPanics(t *testing.T) {
	initFunc := regexp.MustCompile(`(?m)^func init\(\)`)
	// panic(http.ErrAbortHandler) is how net/http wants a handler to cut an answer short.
	panics := regexp.MustCompile(`(?m)^\s*panic\((?:[^h]|h[^t])`)
	var found []string
	for _, p := range list(t) {
		for _, f := range p.GoFiles {
			src, err := os.ReadFile(p.Dir + "/" + f)
			if err != nil {
				t.Fatal(err)
			}
			if initFunc.Match(src) || panics.Match(src) {
				found = append(found, p.ImportPath+"/"+f)
			}
		}
	}
	sort.Strings(found)
	if len(found) > 0 {
		t.Errorf("init functions or panics in: %s", strings.Join(found, ", "))
	}
}
