// Package kubeflow runs trainings as TrainJobs of Kubeflow Trainer v2.
//
// What a run does is the affair of providers/runs, how its pods are brought to their end that of providers/pods; this package says
// which objects a stage is. A TrainJob cannot bring a container or a volume of its own into the pods: only its runtime can. So each run
// has, besides its TrainJob, a TrainingRuntime of the same name: the runtime that the block names as it is at that moment, with the init
// container that brings this program. Both are named after the run and go when its result is collected; the spec of neither is ever changed.
// [New] describes the provider; trainjob.go builds the TrainJob, runtime.go the runtime.
package kubeflow
