// Package state holds what was done and where it is: records, runs, versions,
// signals, the journal of intents, pins and quarantines, and the Store that
// keeps them. Every change is an [Op]; a Store applies a batch of them in one
// durable step with compare-and-swap on the serial.
//
// It never talks to the outside world and never decides anything. The only
// implementation on disk is state/bolt; [NewMemory] serves tests and plans of
// empty projects, and state/statetest runs the same suite on both.
package state
