// Package kubernetes runs the commands of checks, trainings, validations and batch inferences as Jobs of a Kubernetes cluster.
//
// What a run does is the affair of providers/runs, how its pods are brought to their end that of providers/pods; this package says
// which objects a stage is: a Job, and for several nodes a Service that gives their pods names. [New] describes the provider.
package kubernetes
