// Package source reads data that lies elsewhere: in a bucket, behind a web address, in a registry, in a repository.
//
// Content is the version. A [Reader] asks a place for the identity of every object that an address stands for (its ETag,
// generation or digest, and its size) and downloads only those whose identity it has not seen before: one LIST for each
// thousand objects, and nothing else, tells that nothing moved. From the bytes it computes the digest that internal/files gives
// to the same files in a project folder, so that data may move from a laptop to a bucket and nothing trains again.
//
// [Reader.Probe] returns that digest; [Reader.Freeze] puts the files that have it at a path, whole or not at all. What a plan read
// is what its apply gets, also when the place holds other bytes by then: they belong to the next plan. The digest of what is put is
// taken from the files themselves, so that neither the cache nor a server can change what was planned.
//
// The cache is a folder: blobs by their SHA-256; for each address the list of objects with identity and SHA-256, under a
// checksum; and a folder of each process for what it is downloading, which the next one removes when its owner died. An object
// that is exchanged while it is read is read again. A download that breaks off goes on where it was, for the same identity only.
//
// Credentials come from where the tools of each place look for them, never from an address, and are neither stored nor
// shown. Plain http is for this machine only. Names from outside are refused when they could lead out of a folder.
// It runs nothing of what it fetches.
package source
