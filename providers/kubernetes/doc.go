// Package kubernetes runs the commands of checks, trainings, validations and batch inferences as Jobs of a Kubernetes cluster.
//
// What a run does is the affair of providers/runs, how its pods are brought to their end that of providers/pods; this package says
// which objects a stage is: a Job, and for several nodes a Service that gives their pods names. [New] describes the provider.
//
// A dataset on a persistent volume claim is read by a Job of its own (providers/pods, claim.go): what a plan compares, and what an apply freezes.
//
// A deployment is a Deployment and a Service per model version; what stands in front of them, and how a rollout is carried out, is the
// affair of providers/rollout. deployment_version.go builds the objects of a version, deployment_servers.go brings them up,
// deployment_status.go says how they are read back. New pods for the version that serves already (its image, command or variables moved,
// not its number) take over one by one when they are ready, without steps.
//
// A manifest is objects of any kind: manifest_objects.go builds and orders them, manifest_apply.go tries them without effect and applies
// them, manifest_status.go reads and removes them, manifest_scale.go knows whose replicas an autoscaler owns.
package kubernetes
