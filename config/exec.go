package config

import (
	"fmt"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// execProblems finds what is wrong with a command, its environment and its
// inputs. A kind that has none of them passes.
func execProblems(v cty.Value) []Problem {
	var ps []Problem
	if c, ok := known(v, "command"); ok {
		ps = append(ps, commandProblems(c)...)
	}
	if env, ok := known(v, "env"); ok {
		ps = append(ps, envProblems(env)...)
	}
	if in, ok := known(v, "inputs"); ok {
		ps = append(ps, inputProblems(in)...)
	}
	return ps
}

func commandProblems(c cty.Value) []Problem {
	if c.LengthInt() == 0 {
		return []Problem{{"command", "The command is empty", "Give at least the program: command = [\"python3\", \"train.py\"]."}}
	}
	for _, a := range c.AsValueSlice() {
		if a.IsNull() || a.IsKnown() && strings.ContainsRune(a.AsString(), 0) {
			return []Problem{{"command", "The command cannot be run", "An argument is null or holds a NUL byte."}}
		}
	}
	return nil
}

// envProblems refuses names that no process can be given, and those that
// belong to the runner contract.
func envProblems(env cty.Value) []Problem {
	for it := env.ElementIterator(); it.Next(); {
		k, e := it.Element()
		name := k.AsString()
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00\n"):
			return []Problem{{"env", "Invalid environment variable", fmt.Sprintf("%q cannot be the name of an environment variable: it is empty or holds =, NUL or a line end.", name)}}
		case strings.HasPrefix(name, "ML_"):
			return []Problem{{"env", "Invalid environment variable", fmt.Sprintf("%s belongs to the runner contract, whose variables start with ML_; choose another name.", name)}}
		case e.IsKnown() && !e.IsNull() && strings.ContainsRune(e.AsString(), 0):
			return []Problem{{"env", "Invalid environment variable", fmt.Sprintf("The value of %s holds a NUL byte, which no process can be given.", name)}}
		}
	}
	return nil
}

// inputProblems checks that each input is something with a version: a dataset,
// a split, a model. A path would run on whatever bytes are there.
func inputProblems(in cty.Value) []Problem {
	const form = "Inputs are datasets, splits or models by name: inputs = { train = dataset.NAME.split.train }."
	if t := in.Type(); !t.IsObjectType() && !t.IsMapType() {
		return []Problem{{"inputs", "Not an input", form}}
	}
	for it := in.ElementIterator(); it.Next(); {
		k, e := it.Element()
		t := e.Type()
		if t == cty.DynamicPseudoType && !e.IsNull() {
			continue
		}
		if e.IsNull() || !t.IsObjectType() || !t.HasAttribute("digest") {
			return []Problem{{"inputs", "Not an input", fmt.Sprintf("%s is not something with a version. %s", k.AsString(), form)}}
		}
	}
	return nil
}
