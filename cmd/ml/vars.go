package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/engine"
)

// varFlags keeps -var and -var-file in the order in which they stand: the later wins.
type varFlags struct {
	given []givenVar
	flag  varFlag
	file  varFlag
}

// givenVar is NAME=VALUE, a file, or a value that a saved plan was made with.
type givenVar struct {
	file  bool
	text  string
	saved *config.VarInput
}

// varFlag is one of the two flags; both write into the same list.
type varFlag struct {
	all  *[]givenVar
	file bool
}

// String implements pflag.Value.
func (f *varFlag) String() string { return "" }

// Type implements pflag.Value.
func (f *varFlag) Type() string {
	if f.file {
		return "FILE"
	}
	return "NAME=VALUE"
}

// Set implements pflag.Value.
func (f *varFlag) Set(s string) error {
	if !f.file && !strings.Contains(s, "=") {
		return fmt.Errorf("write it as NAME=VALUE")
	}
	*f.all = append(*f.all, givenVar{file: f.file, text: s})
	return nil
}

func (v *varFlags) bind() {
	v.flag = varFlag{all: &v.given}
	v.file = varFlag{all: &v.given, file: true}
}

// inputs lists the variables from outside: environment first, then flags in order.
func (v *varFlags) inputs(environ []string) ([]config.VarInput, error) {
	out := config.EnvVars(environ)
	for _, g := range v.given {
		if g.saved != nil {
			out = append(out, *g.saved)
			continue
		}
		if g.file {
			list, diags := config.ReadVarFile(g.text)
			if diags.HasErrors() {
				return nil, diagError{diags: diags}
			}
			out = append(out, list...)
			continue
		}
		name, val, _ := strings.Cut(g.text, "=")
		out = append(out, config.VarInput{Name: name, Source: "-var", Text: &val})
	}
	return out, nil
}

// keptVars are the variables that were given from outside, for a plan that is
// applied as it is. A secret stands in no file: it is given again, and the
// project's digest tells whether it is the same.
func (p *project) keptVars() ([]engine.SavedVar, error) {
	var out []engine.SavedVar
	for _, v := range p.vars {
		if p.conf.SensitiveVar(v.Name) {
			continue
		}
		kept := engine.SavedVar{Name: v.Name, Source: v.Source, Text: v.Text}
		if v.Text == nil {
			var err error
			if kept.Value, err = ctyjson.Marshal(v.Value, cty.DynamicPseudoType); err != nil {
				return nil, fmt.Errorf("save variable %s: %w", v.Name, err)
			}
		}
		out = append(out, kept)
	}
	return out, nil
}

// adopt makes the variables of a saved plan those of this command.
func (v *varFlags) adopt(saved *engine.SavedPlan) error {
	for _, kept := range saved.Vars {
		in := config.VarInput{Name: kept.Name, Source: kept.Source, Text: kept.Text}
		if kept.Text == nil {
			var err error
			if in.Value, err = ctyjson.Unmarshal(kept.Value, cty.DynamicPseudoType); err != nil {
				return fmt.Errorf("variable %s of the saved plan: %w; make a new plan", kept.Name, err)
			}
		}
		v.given = append(v.given, givenVar{saved: &in})
	}
	return nil
}

// environ is the process's environment; a seam for tests.
var environ = os.Environ
