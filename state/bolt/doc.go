// Package bolt keeps a state in one file with bbolt, and finds every damage to it.
//
// bbolt checks its two meta pages only and dies on bad ones elsewhere. So a
// [Store] reads the file's pages itself, with every offset checked, and lets
// bbolt do what it does well: write. Each value carries a SHA-256 over bucket,
// key and payload, each bucket a sum over its values, and a mismatch is an
// error that names the place and the newest verified snapshot. The file is
// opened per operation, never held across calls, and the first failed fsync
// makes its path read-only for the life of the process, because the kernel
// reports such a failure once and then forgets it.
//
// Beside the file stand: "lock", the OS lock of the lease with its holder in
// words; "serial", a witness of the highest serial written here; "snapshots/",
// the newest five verified copies. A file with a serial under the witness (an
// old copy put back, a deleted file, another project's state) is refused with
// state.ErrOlder, because planning on it would repeat what was done since; it
// is taken only when somebody says so ([Store.Accept]) or a snapshot is put in
// its place ([Store.RestoreLatest]), and its serial then rises above the
// witness, so that no serial ever stands for two states. The witness is synced
// with each backup only: after a power cut it may lag, which weakens the check
// and never refuses a good file. A whole folder that is put back cannot be told.
//
// The sums find accidents, not forgers: whoever can write the file can also
// write matching hashes.
package bolt
