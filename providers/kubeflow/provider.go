package kubeflow

import (
	"context"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
)

const name = "kubeflow"

// New describes the provider.
func New() providers.Definition {
	return providers.Definition{
		Name:    name,
		Doc:     "Runs trainings as TrainJobs of Kubeflow Trainer v2, on one node or on several, searches for parameters, with Katib if wanted, and runs pipelines of Kubeflow Pipelines. Code, data, models and results of trainings travel through the registry that ml { artifacts } names.",
		Config:  settings{},
		Kinds:   []string{"training", "pipeline"},
		Nested:  map[string]any{"training": block{}, "pipeline": pipelineBlock{}},
		Connect: connect,
	}
}

func connect(ctx context.Context, penv providers.Env, config cty.Value) (*providers.Provider, error) {
	e, err := pods.NewEnv(ctx, penv, config, trainJobs{})
	if err != nil {
		return nil, err
	}
	p, err := newPipelineDriver(e, penv, config)
	if err != nil {
		return nil, err
	}
	drivers := e.Drivers("training")
	drivers["training"], drivers["pipeline"] = trainings{drivers["training"], e}, providers.For(p)
	return &providers.Provider{Name: name, Drivers: drivers, Close: e.Work.Close}, nil
}

// settings is the `provider` block.
type settings struct {
	pods.Settings
	Pipelines *pipelines `ml:"pipelines,block" doc:"Where Kubeflow Pipelines is."`
}

// block is the block `kubeflow { … }` of a training.
type block struct {
	Runtime     string       `ml:"runtime,policy,default=torch-distributed" doc:"Training runtime that the run builds on."`
	RuntimeKind string       `ml:"runtime_kind,policy,default=ClusterTrainingRuntime" enum:"ClusterTrainingRuntime|TrainingRuntime" doc:"Whether the runtime is one of the cluster, or of the namespace."`
	Initializer *initializer `ml:"initializer,block,policy" doc:"What the runtime's own initializers fetch before the run."`
	Patches     any          `ml:"runtime_patches,policy" doc:"A list of runtimePatches of the TrainJob as its API has them, for what has no attribute here. A cluster whose Trainer does not know them refuses the run."`
	Katib       *katib       `ml:"katib,block,policy" doc:"Leaves the search of the block tuning to Katib, as an Experiment whose trials are Jobs. Without it ml searches itself, and each trial is a TrainJob."`
	pods.Block
}

// katib says how Katib searches.
type katib struct {
	Algorithm string            `ml:"algorithm,policy" doc:"Katib's name of the algorithm, such as cmaes, hyperband, sobol or bayesianoptimization. Default: the tuning's method."`
	Settings  map[string]string `ml:"settings,policy" doc:"Settings of the algorithm."`
}

// initializer is what the jobs of a runtime that are made for it fetch.
type initializer struct {
	Dataset string `ml:"dataset,policy" doc:"storageUri of the dataset; the runtime's initializer brings it to /workspace/dataset."`
	Model   string `ml:"model,policy" doc:"storageUri of the pre-trained model; it comes to /workspace/model."`
	Secret  string `ml:"secret,policy" doc:"Secret with the credentials for both."`
}
