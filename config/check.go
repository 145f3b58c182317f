package config

import (
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// Check is a command whose success others wait for: unit tests, a linter.
type Check struct {
	Exec
	Inputs  map[string]any `ml:"inputs,input=data" doc:"Datasets or splits that the command reads, by name."`
	JUnit   string         `ml:"junit,input" doc:"File that the command writes its JUnit XML report to. A declared report without a single test is a failure."`
	Retries int            `ml:"retries,policy,min=0,max=10" doc:"Further attempts when the command could not be run or timed out."`
}

// CheckOutputs is what other blocks may use of a check.
type CheckOutputs struct {
	Address  string `ml:"address" doc:"Address of the check."`
	Passed   bool   `ml:"passed" doc:"Whether the last run passed."`
	Tests    int    `ml:"tests" doc:"Number of tests in the report."`
	Failures int    `ml:"failures" doc:"Number of tests that failed or errored."`
}

func checkKind() Kind {
	return Kind{
		Name: "check", Class: resource.Run,
		Doc:  "A command that must succeed before what depends on it runs. It runs when its command, code or inputs moved.",
		Spec: Check{}, Outputs: CheckOutputs{},
		Probes: []string{"code"}, ProbeCodes: codeProbe,
		Check: needsCommand, Retries: retries,
	}
}

func needsCommand(v cty.Value) []Problem {
	if !set(v, "command") {
		return []Problem{{"", "A command is needed", "Add command = [\"PROGRAM\", \"ARGUMENT\"]: an argument list, not a shell line."}}
	}
	return execProblems(v)
}

// retries reads the retries attribute of a known spec.
func retries(v cty.Value) int {
	r, ok := known(v, "retries")
	if !ok {
		return 0
	}
	n, _ := r.AsBigFloat().Int64()
	return int(n)
}
