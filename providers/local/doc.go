// Package local runs the life of a model on this machine: commands as detached processes, data and models as files in the
// project's `.ml` folder.
//
// [New] is all that it exports. Each kind is one file with one typed driver; what they share is in exec.go (how a command is
// called), op.go (the folder of one operation), code.go (what a command depends on) and data.go (frozen data).
//
//	.ml/runs/<op id>/            one operation: the runner's folder, and one subfolder per further stage (smoke, trial-001 …)
//	.ml/data/<hex>/              frozen data sets and splits, by digest
//	.ml/artifacts/               model files, by digest
//	.ml/checkpoints/<slug>/<in>/ what a training wants to find again in its next attempt, by address and inputs
//	.ml/cache/                   the stat cache and checked-out models; may be deleted at any time
//
// The package never runs a shell of its own, never reads outside the project folder, and never overwrites data that a run may read.
package local
