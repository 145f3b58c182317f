// Package kubernetes runs the commands of checks, trainings, validations and batch inferences as Jobs of a Kubernetes cluster.
//
// What a run does is the affair of providers/runs; this package is its Executor for a cluster. [New] describes the provider;
// job.go builds a stage's objects, executor.go brings them to their end, follow.go mirrors what the pods say into the stage's folder
// on this machine, image.go makes the image that carries this program into the pods.
//
// A stage's Job is named after its run. The folder says so before the Job is made; a Job that is there is adopted, and one that was made
// and is gone is lost: it is never made twice. Values of sensitive variables are in a Secret that the Job owns.
package kubernetes
