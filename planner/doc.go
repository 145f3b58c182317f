// Package planner compares a project with what is recorded and what is live and
// says what would change and why: a [Plan] of [Step]s, which is also the graph
// that runs.
//
// It is pure: [Build] and [Confirm] read their input and nothing else, no clock,
// no file, no client, and give byte-identical output for equal input. Values
// that are not known before a step has run stay unknown in the plan; Confirm
// checks at apply that the final value completes the planned one.
package planner
