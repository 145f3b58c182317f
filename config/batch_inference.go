package config

import "github.com/continuo-ml/continuo/resource"

// BatchInference predicts every row of a dataset, each exactly once.
type BatchInference struct {
	Exec
	Model     *Model     `ml:"model,required,input=upstream" doc:"The version that predicts, such as validation.x.model."`
	Input     *Data      `ml:"input,required,input=data" doc:"Dataset or split to predict."`
	Output    string     `ml:"output,required,input" doc:"File inside the project that the predictions are written to."`
	Params    any        `ml:"params,input=params" doc:"Parameters for the command."`
	BatchSize int64      `ml:"batch_size,policy,default=10000,min=1" doc:"Rows of one call of the command, which reads ML_INPUT_DATA and writes ML_OUTPUT, a line or row each."`
	Parallel  int        `ml:"parallel,policy,default=1,min=1,max=256" doc:"Batches at the same time."`
	Image     string     `ml:"image,input" doc:"Container image (cluster providers)."`
	Retries   int        `ml:"retries,policy,min=0,max=10" doc:"Further attempts after a run that errored; finished batches are kept."`
	Resources *Resources `ml:"resources,block,policy" doc:"What the run may use."`
}

// BatchInferenceOutputs is what other blocks may use of a batch inference.
type BatchInferenceOutputs struct {
	Address string `ml:"address" doc:"Address of the batch inference."`
	Path    string `ml:"path" doc:"File with the predictions."`
	Digest  string `ml:"digest" doc:"Digest of that file."`
	Rows    int64  `ml:"rows" doc:"Number of predicted rows."`
	Version int    `ml:"version" doc:"Version that predicted."`
}

func batchInferenceKind() Kind {
	return Kind{
		Name: "batch_inference", Class: resource.Run,
		Doc:  "Predicts every row of a dataset with a model version, in batches; a killed run goes on where it stopped, and each row is predicted exactly once.",
		Spec: BatchInference{}, Outputs: BatchInferenceOutputs{},
		Probes: []string{"code"}, ProbeCodes: codeProbe,
		Check: needsCommand, Retries: retries,
	}
}
