// Package resource holds the words that every other package speaks: addresses,
// kinds and their schemas, digests, phases, verdicts, actions, reasons, signals and events.
//
// It does no I/O, reads no clock and imports only the standard library, cty and
// HCL source ranges, so that anything may import it. What the words mean is in
// docs/architecture.md; in short: a block has an [Address] and a [Kind]; a step
// has an [Action] and [Reason]s; a run ends in a [Verdict]; a monitor's last
// verdict with its evidence is a [Signal]; progress is an [Event].
package resource
