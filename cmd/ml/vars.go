package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/workspace"
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
				return nil, diagError{Diags: diags}
			}
			out = append(out, list...)
			continue
		}
		name, val, _ := strings.Cut(g.text, "=")
		out = append(out, config.VarInput{Name: name, Source: "-var", Text: &val})
	}
	return out, nil
}

// adopt makes the variables of a saved plan those of this command.
func (v *varFlags) adopt(saved *engine.SavedPlan) error {
	list, err := workspace.SavedVars(saved)
	for _, in := range list {
		v.given = append(v.given, givenVar{saved: &in})
	}
	return err
}

// environ is the process's environment; a seam for tests.
var environ = os.Environ
