package config

import (
	"testing"
)

func TestTheSampleLoads(t *testing.T) {
	p, diags := Load(t.Context(), Options{Dir: "../testdata/config/valid/sample"})
	for _, d := range diags {
		t.Log(d)
	}
	if diags.HasErrors() {
		t.FailNow()
	}
	for _, b := range p.Blocks {
		v, diags := p.Eval(b, unknownScope{})
		t.Log(b.Addr, b.Deps, b.Explicit, b.Feedback, v.Sources)
		for _, d := range diags {
			t.Error(d)
		}
		t.Logf("%#v", v.Value)
	}
}
