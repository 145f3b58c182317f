package main

// mutations is the kept list. It leaves out a guard with a second one behind it:
// the size of a plan file is checked twice, before and while it is read; the
// marker of a run is looked for under the lock before it is created as one that
// must not exist; a validation without a threshold is refused before it could
// pass; the name of a run's start is synced again with its parameters, before
// anything is executed; and the highest serial, an aid against old copies, may be lost.
func mutations() []mutation {
	var all []mutation
	for _, part := range [][]mutation{ofState(), ofSharedState(), ofSyncs(), ofEngine(), ofPlanFiles(), ofPlanner(), ofRunner(), ofGateway(), ofSink(), ofInputs(), ofVerdicts(), ofPackages(), ofClaims(), ofForge(), ofFaults()} {
		all = append(all, part...)
	}
	return all
}
