//go:build linux || darwin

package files

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// O_NONBLOCK keeps the open of a FIFO from waiting for its writer; regular files do not care.
	openFileFlags = os.O_RDONLY | syscall.O_NONBLOCK
	openDirFlags  = os.O_RDONLY | syscall.O_NONBLOCK | syscall.O_DIRECTORY
)

// dirRef is an open folder below the root. Its methods look one name up relative to it and never
// follow a link, so they cannot leave the root, at one system call each where os.Root pays one for
// every element of the path.
type dirRef struct{ f *os.File }

func openDirRef(root *os.Root, dir string) (*dirRef, error) {
	f, err := root.OpenFile(dir, openDirFlags, 0)
	if err != nil {
		return nil, err
	}
	return &dirRef{f}, nil
}

// openDir opens folder dir for listing. A file that os.Root opened stats every name it lists; one that
// is made from its descriptor takes the type from the listing, at half the time.
func openDir(root *os.Root, dir string) (*os.File, error) {
	f, err := root.OpenFile(dir, openDirFlags, 0)
	if err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func (d *dirRef) lstat(name string) (stamp, fs.FileMode, error) {
	var st unix.Stat_t
	err := retryInterrupted(func() error {
		return unix.Fstatat(int(d.f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	runtime.KeepAlive(d.f)
	if err != nil {
		return stamp{}, 0, err
	}
	return stampOf(&st), typeOf(uint32(st.Mode)), nil
}

func (d *dirRef) open(name string) (handle, error) {
	fd := -1
	err := retryInterrupted(func() (err error) {
		fd, err = unix.Openat(int(d.f.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err
	})
	runtime.KeepAlive(d.f)
	if err != nil {
		return nil, err
	}
	return rawFile(fd), nil
}

func (d *dirRef) Close() error { return d.f.Close() }

// rawFile is a descriptor without os.File's bookkeeping, which costs more than hashing a small file.
type rawFile int

func (r rawFile) Read(p []byte) (int, error) {
	n := 0
	err := retryInterrupted(func() (err error) {
		n, err = unix.Read(int(r), p)
		return err
	})
	if n == 0 && err == nil && len(p) > 0 {
		return 0, io.EOF
	}
	return max(n, 0), err
}

func (r rawFile) stat() (stamp, fs.FileMode, error) {
	var st unix.Stat_t
	if err := retryInterrupted(func() error { return unix.Fstat(int(r), &st) }); err != nil {
		return stamp{}, 0, err
	}
	return stampOf(&st), typeOf(uint32(st.Mode)), nil
}

func (r rawFile) Close() error { return unix.Close(int(r)) }

// osFile is a handle over an os.File.
type osFile struct{ *os.File }

func (o osFile) stat() (stamp, fs.FileMode, error) {
	s, m, err := rawFile(o.Fd()).stat()
	runtime.KeepAlive(o.File)
	return s, m, err
}

func retryInterrupted(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{
		size:  st.Size,
		mtime: st.Mtim.Nano(),
		ctime: st.Ctim.Nano(),
		ino:   uint64(st.Ino),
		dev:   uint64(st.Dev),
	}
}

// typeOf returns the type and permission bits of a raw mode.
func typeOf(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	default:
		m |= fs.ModeDevice
	}
	return m
}
