// Package kube is how everything here speaks to a Kubernetes API server: server-side apply under the field manager "continuo",
// reads, deletion by UID, readiness, and the cause in one line when pods cannot work.
//
// A [Client] sends nothing before its first use, repeats only what is safe to repeat (reads, server-side apply, deletion under a
// UID), and keeps every wait within a deadline whose message says what was still missing. It never touches a namespace that the
// configuration does not allow, never overwrites another manager's field that was not named, and never shows a Secret's values; a
// [Vault], in which the program keeps what is its own, asks for those of its own Secrets alone.
//
// Objects are unstructured, so that fields newer than this program survive. Requests are built here and not by client-go's dynamic
// client: that one repeats by itself for as long as a server asks for, and its discovery cannot be cancelled.
package kube
