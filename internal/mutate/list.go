package main

// mutations is the kept list. It leaves out what no test can see: an fsync that
// is not called changes nothing that a process reads back, only what a power cut
// leaves. That holds for the sync of the file and of the folder in state/bolt
// (create, backup, witness), internal/durable, internal/files (store.go, freeze.go),
// internal/runner (folder.go) and internal/gateway (folder.go). What can be
// seen is that a sync which fails is told and ends writing; that is in the list.
// Left out as well is a guard with a second one behind it: the size of a plan file is
// checked twice, before and while it is read, and the marker of a run is looked
// for under the lock before it is created as one that must not exist, and a validation without
// a threshold is refused before it could pass.
func mutations() []mutation {
	var all []mutation
	for _, part := range [][]mutation{ofState(), ofEngine(), ofPlanFiles(), ofPlanner(), ofRunner(), ofGateway(), ofInputs(), ofVerdicts()} {
		all = append(all, part...)
	}
	return all
}
