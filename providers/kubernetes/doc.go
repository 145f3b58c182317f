// Package kubernetes runs the commands of checks, trainings, validations and batch inferences as Jobs of a Kubernetes cluster.
//
// What a run does is the affair of providers/runs; this package is its Executor for a cluster. [New] describes the provider;
// job.go builds a stage's objects, executor.go brings them to their end, follow.go mirrors what the pods say into the stage's folder
// on this machine, image.go makes the image that carries this program into the pods.
//
// A stage's Job is named after its run. The folder says so before the Job is made; a Job that is there is adopted, and one that was made
// and is gone is lost: it is never made twice. Values of sensitive variables are in a Secret that the Job owns.
//
// A deployment is a Deployment and a Service per model version, and a router (package gateway) in front of them. deployment_objects.go and
// deployment_version.go build the objects, deployment_state.go is what the ConfigMap remembers, deployment_roll.go and
// deployment_rollout.go carry a rollout out, deployment_routers.go speaks to the routers, deployment_status.go reads all of it back.
// Only apply moves a rollout; when it dies the weights stay, and the next one goes on. New pods for the version that serves already (its
// image, command or variables moved, not its number) take over one by one when they are ready, without steps.
package kubernetes
