// Package runs serves the kinds that read data or run a command — dataset, check, training, validation, batch_inference —
// wherever the command runs.
//
// A [Workspace] is the project on this machine: its files, its frozen data, the folders of its operations. An [Executor] brings
// a stage of an operation to its end at one place: [Processes] does it with detached processes of this machine, the cluster
// providers do it with pods. [Drivers] joins the two. Each kind is one file with one typed driver; what they share is in exec.go
// (how a command is called), op.go (the folder of one operation), code.go (what a command depends on) and data.go (frozen data).
//
//	.ml/runs/<op id>/            one operation: its main stage, and one subfolder per further stage (smoke, trial-001 …)
//	.ml/data/<hex>/              frozen data sets and splits, by digest
//	.ml/artifacts/               model files, by digest
//	.ml/checkpoints/<slug>/<in>/ what a training wants to find again in its next attempt, by address and inputs
//	.ml/cache/                   the stat cache and checked-out models; may be deleted at any time
//
// Data on a claim, which only pods reach, comes through [Claims]; once it is frozen it is like any other.
//
// The package never runs a shell of its own, never reads outside the project folder, and never overwrites data that a run may read.
package runs
