package files

import (
	"io"
	"io/fs"
	"time"
)

// stamp is what the file system says of a file's identity and age, in bytes and nanoseconds. Fields
// that a system does not offer are zero. Equal stamps, not taken too close to a write, mean equal bytes.
type stamp struct {
	size, mtime, ctime int64
	ino, dev           uint64
}

// racyWindow is how close to a write a stamp says nothing: file systems round times to up to 2 s, so a
// second write within that time may leave the stamp as it is.
const racyWindow = 2 * time.Second

// racy reports whether a stamp taken at now (ns) may fail to move with the next write. A change time is
// set by the kernel only; a modification time far in the future was set by a program and is harmless.
func (s stamp) racy(now int64) bool {
	w := int64(racyWindow)
	if s.ctime != 0 {
		return s.ctime > now-w || s.mtime > now-w && s.mtime < now+w
	}
	return s.mtime > now-w
}

// sameContent reports whether the file at rest between two stamps was not written to. The change time
// is left out: another program may add a link to the file or change its mode while it is read.
func (s stamp) sameContent(t stamp) bool {
	return s.size == t.size && s.mtime == t.mtime && s.ino == t.ino && s.dev == t.dev
}

// handle is an open file of any of the ways to open one.
type handle interface {
	io.ReadCloser
	stat() (stamp, fs.FileMode, error)
}
