// Package runner runs one user command under the runner contract (docs/reference) as a detached process that outlives its starter.
//
// The run folder is the whole interface: [Start] writes the [Spec] there and starts this very program again with [Subcommand];
// that process, [Main], runs the command and records everything in the folder. Any later process may [Read], [Wait], [Cancel],
// [Tail] or [Follow] from the folder alone.
//
// A command runs at most once per folder. The detached process holds an OS lock on the folder for its whole life and creates the file
// `started` durably before it executes anything; whoever finds either of them runs nothing. If it dies without an outcome the
// run is [Lost], and stays so.
//
// The package never stores the value of an environment variable, never starts a shell of its own, and knows nothing of what a run is for.
package runner

// Subcommand is the hidden first argument with which the program must call [Main]: `ml __runner <run folder>`.
const Subcommand = "__runner"
