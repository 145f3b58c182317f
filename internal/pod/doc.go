// Package pod is what `ml` does inside of a pod: it gets a command's code, inputs and model out of the registry, runs the command
// under the very runner contract of a laptop (package runner), and stores what it made in the registry.
//
// [Run] follows a [Task], which arrives in the container's environment. The log goes to stdout, lines of progress between it
// ([SplitLog] takes them apart), and the last word is a [Termination] of a few kilobytes where Kubernetes looks for it. The result, whole, lies
// in the registry under the run's id ([ReadResult]). A run whose result is there is never run again, whatever pod is told to;
// one whose pod was killed goes on from its checkpoint.
//
// [Scan] digests data on a volume, and stores it in the registry: what a dataset on a persistent volume claim is read with.
//
// The package knows nothing of Kubernetes' API. It trusts the registry with availability only: every input is checked against its digest.
package pod
