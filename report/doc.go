// Package report turns plans, events and tables into what people and programs
// read: text for a terminal or a log, JSON for everything else. JSON is the
// source; text shows the same facts, shorter.
//
// It decides nothing, reads no file and asks no clock but the one of [Progress].
// Names, messages and values that come from files are escaped by [Style.Clean]
// before they reach a terminal, so that no name can forge a line of output.
//
// Main entries: [PlanText], [PlanJSON] and [Explain] for plans, [Progress],
// [EventJSON] and [Summary] for an apply, [Table], [Diagnostics] and [GraphText]
// for the rest. How it looks is a [Style], found by [DetectStyle].
package report
