// Package pods brings the stages of runs to their end in the pods of a cluster, whatever object has those pods.
//
// What a run does is the affair of providers/runs; this package is its Executor. A provider brings a [Kind]: which object a stage is. pod.go
// says what a pod looks like, executor.go brings a stage to its end, follow.go mirrors what the pods say into the stage's folder
// on this machine, claim.go has a pod read the data of a claim, image.go makes the image that carries this program into the pods.
//
// A stage's object is named after its run. The folder says so before the object is made; one that is there is adopted, and one that was made
// and is gone is lost: it is never made twice. Values of sensitive variables are in a Secret that the object owns.
package pods
