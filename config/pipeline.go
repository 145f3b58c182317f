package config

import (
	"path"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// Pipeline is one run of a compiled pipeline.
type Pipeline struct {
	Package    string        `ml:"package,required,probe" doc:"Compiled pipeline inside the project: the YAML that the compiler of the Kubeflow Pipelines SDK writes, version 2 or later. A change of its content asks for a run."`
	Params     any           `ml:"params,input=params" doc:"Parameters of the pipeline. What it does not declare, and what it needs and does not get, is an error before anything runs."`
	Experiment string        `ml:"experiment,policy,default=Default" doc:"Experiment that the run is filed under; it is made when there is none of that name."`
	Root       string        `ml:"root,policy" doc:"Where the pipeline's artifacts go, such as s3://bucket/path. Default: what the installation says."`
	Cache      bool          `ml:"cache,policy,default=true" doc:"Whether a step may take the outputs of an earlier run with the same inputs. Set it to false when a step reads what changes behind the same address."`
	Timeout    time.Duration `ml:"timeout,policy" doc:"How long the run may take; it is then terminated."`
	Retries    int           `ml:"retries,policy,min=0,max=10" doc:"Further attempts after a run that failed."`
}

// PipelineOutputs is what other blocks may use of a pipeline.
type PipelineOutputs struct {
	Address string `ml:"address" doc:"Address of the pipeline."`
	Run     string `ml:"run" doc:"Identifier of the last run that succeeded, as the installation knows it."`
	Tasks   int    `ml:"tasks" doc:"Number of its tasks."`
}

func pipelineKind() Kind {
	return Kind{
		Name: "pipeline", Class: resource.Run,
		Doc:  "Runs a compiled pipeline of Kubeflow Pipelines, and waits for its end. It runs when the package or its parameters moved.",
		Spec: Pipeline{}, Outputs: PipelineOutputs{},
		Probes: []string{"code"}, ProbeCodes: codeProbe,
		Check: checkPipeline, Retries: retries,
	}
}

func checkPipeline(v cty.Value) []Problem {
	p, ok := known(v, "package")
	if !ok {
		return nil
	}
	switch name := p.AsString(); {
	case strings.ContainsAny(name, "*?[{\\"):
		return []Problem{{"package", "A pipeline is one file", "Write its path in the project, such as \"pipelines/train.yaml\", without wildcards."}}
	case name == "" || path.IsAbs(name) || strings.HasPrefix(path.Clean(name), ".."):
		return []Problem{{"package", "This file is not in the project", "Write its path in the project, such as \"pipelines/train.yaml\"."}}
	case strings.HasSuffix(name, ".py"):
		return []Problem{{"package", "This is no compiled pipeline", "Compile it first, and name what that wrote: kfp dsl compile --py PIPELINE.py --output PIPELINE.yaml."}}
	}
	return nil
}
