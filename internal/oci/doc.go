// Package oci keeps files in a container registry, and builds images there without a container engine.
//
// [Client.PushDir] stores a folder as an image of one layer and [Client.PullDir] gets it back; [Client.Build]
// puts files on top of a base image; [Client.Resolve] says what a reference stands for. An image is named by the
// digest of its manifest. The same files, labels and base make the same digest on every machine and day: entries are
// sorted, without times and owners, and layers are not compressed, because the bytes that a compressor writes
// depend on its version, and weights hardly shrink. A blob that the registry has is not sent again.
//
// Files stream: neither a push nor a pull holds one in memory. Every byte that comes back is checked against its digest,
// and what an archive must not hold (links out, devices, "..", bombs) is refused before anything appears.
//
// Requests that failed for a while (429, 5xx, a connection that was cut) are made again; [Retryable] tells whether an
// error that was returned all the same is of that sort. The package runs nothing of what it fetches.
package oci
