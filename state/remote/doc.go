// Package remote keeps a state in a place that is reached over a network and
// shared by many machines: a bucket, a cluster.
//
// A [Store] stands over a [Blobs], which offers little more than to read an
// object and to replace it only if it is still the one that was read. All of a
// state hangs on one object, "head": it names the parts that the entries stand
// in, each by its SHA-256 and never written twice, and holds the latest changes
// itself. A commit replaces the head and nothing else, so it is there or it is
// not, and of two writers one is refused; once the changes in it are many they
// are folded into new parts. A snapshot is a copy of a head.
//
// The lease is renewed while it is held. It is taken over by one who saw, by a
// clock of its own, no renewal for a while, or by a process of the same folder
// when the kernel says that the holder is gone. A former holder can write
// nothing any more: the head is another, and in it stands a higher epoch.
//
// When an answer is lost, the same conditional write is sent again, of which
// only one can be done, and then the head tells by its write ids whether it was.
package remote
