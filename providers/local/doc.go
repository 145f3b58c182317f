// Package local runs the life of a model on this machine: commands as detached processes, data and models as files in the
// project's `.ml` folder (both by way of providers/runs), deployments as gateways, monitors over what these captured.
//
// [New] is all that it exports. Each kind is one file, or a few with its name in front, and one typed driver.
//
// The package never runs a shell of its own, never reads outside the project folder, and never overwrites data that a run may read.
package local
