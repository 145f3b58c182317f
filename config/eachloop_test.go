package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// digests offers each dataset under its own address, and writes down who was asked.
type digests struct{ recorder }

func (d *digests) Outputs(a resource.Address) cty.Value {
	d.recorder.Outputs(a)
	return cty.ObjectVal(map[string]cty.Value{"digest": cty.StringVal(a.String())})
}

// An instance of a loop over blocks is evaluated by itself, whatever the form
// of the loop, and to the same value as the whole; else a for_each over
// n blocks would be evaluated n times for all n.
func TestALoopOverBlocksIsEvaluatedForOneInstance(t *testing.T) {
	for form, alone := range map[string]bool{
		"{ for k, d in dataset.d : upper(k) => d.digest }":                                       true,
		"{ for k, d in dataset.d : upper(k) => d.digest if k != \"x\" }":                         true,
		"{ for k in local.keys : upper(k) => dataset.d[k].digest }":                              true,
		"{ for k in toset([for k in local.keys : lower(k)]) : upper(k) => dataset.d[k].digest }": true,
		"{ for k in keys(dataset.d) : upper(k) => dataset.d[k].digest }":                         true,
		"{ for i, k in local.keys : upper(k) => dataset.d[local.keys[i]].digest }":               true,
		"{ for k, e in local.map : upper(k) => dataset.d[e.name].digest }":                       true,
		"local.loop": true,
		"{ for k, d in dataset.d : upper(k) => one([for k in local.keys : dataset.d[k].digest if dataset.d[k].digest == d.digest]) }": false, // names k again
		"{ for k, d in { for k, d in dataset.d : k => d } : upper(k) => d.digest }":                                                   false, // of unknown values
		"{ for k, d in dataset.d : upper(k) => join(\"\", [for j, e in dataset.d : e.digest if j == k]) }":                            false, // needs all
	} {
		text := `locals {
  keys = ["a", "b", "c"]
  map  = { a = { name = "a" }, b = { name = "b" }, c = { name = "c" } }
  loop = { for k, d in dataset.d : upper(k) => d.digest }
}
dataset "d" {
  for_each = toset(local.keys)
  source   = "d.csv"
}
check "c" {
  for_each = ` + form + `
  command  = ["true", each.value]
}
`
		p := mustLoad(t, projectFiles(t, map[string]string{"main.ml.hcl": text}))
		for _, key := range []string{"A", "B", "C"} {
			s := &digests{}
			e, diags := p.Eval(p.Block(addr(t, `check.c["`+key+`"]`)), s)
			if diags.HasErrors() {
				t.Fatal(form, diags)
			}
			own := `dataset.d["` + strings.ToLower(key) + `"]`
			if got := e.Value.GetAttr("command").AsValueSlice()[1].AsString(); got != own {
				t.Errorf("%s: %s has the value of %s", form, key, got)
			}
			asked := texts(s.asked)
			slices.Sort(asked)
			if asked = slices.Compact(asked); alone && cmp.Diff([]string{own}, asked) != "" {
				t.Errorf("%s: %s asked for %v", form, key, asked)
			}
		}
	}
}
