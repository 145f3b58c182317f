// Package group lets commits that come while another one is being written share
// the next write. Stores whose writes are dear (an fsync, a request to a server)
// put it in front of them: a hundred steps that end at once cost two writes.
//
// A [Commit] keeps its own serial, success and failure; the [Queue] only decides
// who writes for whom. It starts no goroutine.
package group
