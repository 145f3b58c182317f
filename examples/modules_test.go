//go:build examples

package examples_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestModulesKeepOneModelPerRegion(t *testing.T) {
	const north, south = `module.region["north"].`, `module.region["south"].`
	p := open(t, "modules")
	p.ml(0, "apply", "-auto-approve")
	p.ml(0, "plan", "-detailed-exitcode")
	var out struct {
		Errors    map[string]float64
		Endpoints map[string]string
	}
	p.json(&out, "output")
	if len(out.Errors) != 2 || out.Errors["north"] <= 0 || out.Errors["north"] > 3 || out.Errors["south"] <= 0 || out.Errors["south"] > 4 {
		t.Errorf("errors by region: %v", out.Errors)
	}
	if len(out.Endpoints) != 1 || !strings.HasPrefix(out.Endpoints["north"], "http://") {
		t.Errorf("endpoints: %v, want that of north alone", out.Endpoints)
	}

	file := filepath.Join(p.dir, "data", "north.csv")
	rows := p.read("data/north.csv")
	more := strings.SplitAfterN(rows, "\n", 42) // the header and 40 rows, which come again
	if err := os.WriteFile(file, []byte(rows+strings.Join(more[1:41], "")), 0o644); err != nil {
		t.Fatal(err)
	}
	for address := range p.plan() {
		if strings.HasPrefix(address, south) {
			t.Errorf("new data of north moves %s", address)
		}
	}
	p.ml(0, "apply", "-auto-approve")
	if n, s := len(p.versions(north+"training.demand")), len(p.versions(south+"training.demand")); n != 2 || s != 1 {
		t.Errorf("versions: north %d, south %d; want 2 and 1", n, s)
	}

	p.env = append(p.env, `ML_VAR_regions={ north = { max_error = 3, serve = true } }`)
	steps := p.plan()
	if steps[south+"training.demand"] != "delete removed" || len(steps) != 3 {
		t.Errorf("plan without south: %v", steps)
	}
	p.ml(0, "apply", "-auto-approve")
	p.ml(0, "plan", "-detailed-exitcode")
}
