// Package leader lets one of several processes work at a time, and lets it know by its own clock when that is over.
//
// Candidates share a [Board]: a place with one post on it, changed by compare-and-swap. Who leads renews the post; who sees it
// unchanged for as long as the leader asked for, by the watcher's own clock, takes it with the next term. No two clocks are compared.
// The leader counts from before it began to renew, and gives up after two thirds of that time, so it stops before anybody takes over, if its clock
// goes on while it does not: the clock counts the time in which the process, or the whole machine, was stopped.
//
// It fences nothing by itself: [Term.Guard] is asked where something is changed, and stores refuse a lower term. Main types: [Candidate],
// [Term], [Board], and [Files], a board in a folder; one in a Kubernetes Lease is in internal/kube.
package leader
