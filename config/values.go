package config

import (
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// Exec is what every kind with a command takes.
type Exec struct {
	Command []string          `ml:"command,input,probe" doc:"Argument list, run in the project folder without a shell."`
	Sources []string          `ml:"sources,policy,probe" doc:"Globs of the code that the command depends on; their content is digested. Default: every file with the named script's extension under its folder, and requirements and lock files."`
	Env     map[string]string `ml:"env,input" doc:"Environment variables for the command, besides PATH, HOME and LANG."`
	PassEnv []string          `ml:"pass_env,policy" doc:"Names or globs of variables forwarded from the caller. Their values are neither stored nor digested."`
	Timeout time.Duration     `ml:"timeout,policy" doc:"How long the command may take; then it gets SIGTERM and, after the grace period, SIGKILL."`
	Grace   time.Duration     `ml:"grace,policy,default=10s" doc:"Time between SIGTERM and SIGKILL."`
}

// Resources are what a run or a server may use. The local provider takes them
// as a note; cluster providers request them.
type Resources struct {
	CPU    string `ml:"cpu,policy" doc:"CPU cores, such as \"2\" or \"500m\"."`
	Memory string `ml:"memory,policy" doc:"Memory, such as \"4Gi\"."`
	GPU    int    `ml:"gpu,policy,min=0" doc:"Number of GPUs."`
}

// Model is the value of `training.x.model` and `validation.x.model`: one version.
type Model struct {
	Name    string             `ml:"name" doc:"Name of the training."`
	Version int                `ml:"version" doc:"Number of the version, from 1."`
	Digest  string             `ml:"digest" doc:"Digest of the model's files."`
	URI     string             `ml:"uri" doc:"Where the model's files are."`
	Metrics map[string]float64 `ml:"metrics" doc:"Metrics that the training wrote."`
	Params  any                `ml:"params" doc:"Parameters that it was trained with."`
	Address string             `ml:"address" doc:"Address of the training."`
}

// ModelOf is the value that refers to a version by its parts.
func ModelOf(training resource.Address, number int, digest resource.Digest, uri string, metrics map[string]float64, params map[string]any) Model {
	m := Model{Name: training.Name, Version: number, Digest: string(digest), URI: uri, Metrics: metrics, Address: training.String()}
	if params != nil {
		m.Params = params
	}
	return m
}

// Data is the value of a dataset or of one of its splits, as inputs take it.
type Data struct {
	Address string `ml:"address" doc:"Address of the dataset."`
	Name    string `ml:"name" doc:"Name of the split, or \"\" for the whole."`
	Digest  string `ml:"digest" doc:"Version of the data."`
	Path    string `ml:"path" doc:"File, or folder of several files, frozen at that version."`
	Rows    int64  `ml:"rows" doc:"Number of rows."`
}

// Signal is the value of `monitor.x.drift` and its like.
type Signal struct {
	Address string `ml:"address" doc:"Address of the monitor."`
	Name    string `ml:"name" doc:"drift, performance or latency."`
	State   string `ml:"state" doc:"too_few, good, bad, no_data or error."`
	Epoch   int64  `ml:"epoch" doc:"Rises by one each time the state turns bad."`
}

// Range is an inclusive interval; an absent end is open.
type Range struct {
	Min *float64 `ml:"min" doc:"Least allowed value."`
	Max *float64 `ml:"max" doc:"Greatest allowed value."`
}

// codeProbe is the probe of every kind with a command.
var codeProbe = map[string]resource.Code{"code": resource.ReasonCodeChanged}

// known returns v's attribute when it is known and not null.
func known(v cty.Value, name string) (cty.Value, bool) {
	if v.IsNull() || !v.IsKnown() || !v.Type().IsObjectType() || !v.Type().HasAttribute(name) {
		return cty.NilVal, false
	}
	a := v.GetAttr(name)
	return a, a.IsKnown() && !a.IsNull()
}

// blocks returns the elements of a repeated nested block that are known.
func blocks(v cty.Value, name string) []cty.Value {
	a, ok := known(v, name)
	if !ok || !a.CanIterateElements() {
		return nil
	}
	return a.AsValueSlice()
}

// set says whether the attribute was written: known and not null, or unknown.
func set(v cty.Value, name string) bool {
	if v.IsNull() || !v.IsKnown() || !v.Type().HasAttribute(name) {
		return false
	}
	a := v.GetAttr(name)
	return !a.IsKnown() || !a.IsNull()
}
