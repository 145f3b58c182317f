// Package watch serves the monitor kind: it judges what a deployment's gateway captured — drift, performance, latency —
// wherever that gateway stands. [Traffic] is the seam: a provider says what serves and where the captured requests are.
//
// It writes nothing; what it finds out are the signals of one observation, which the engine records.
package watch
