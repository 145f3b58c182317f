// Package files finds, digests, freezes and stores the files of a project by content.
//
// An [Index] sees one project folder for one command: it lists files under ignore rules, matches
// globs, and digests files, sets of files and dataset sources, with a stat cache so that unchanged
// files are not read again. Within one Index a file has one version: the first digest taken stands.
// A [Store] keeps artifacts (models) as content-addressed blobs and manifests.
//
// The package never reads outside the folder that it was given: no absolute path, no "..", no link
// that leaves it, and no device, FIFO or socket, each refused with an error that names the path. It
// never trusts a damaged cache, and never overwrites a stored artifact with other bytes.
//
// A digest is 64 lowercase hex digits of SHA-256, as sha256sum prints it. The digest of a set is the
// SHA-256 of the lines "hex  path\n", two spaces between, in byte order of the paths.
package files
