package files

import (
	"os"

	"golang.org/x/sys/unix"
)

// createClone makes the new file dst. cloned reports that it already shares the bytes of src (FICLONE:
// btrfs, XFS, bcachefs on one file system); otherwise it is empty, for the caller to fill.
func createClone(src *os.File, dst string) (f *os.File, cloned bool, err error) {
	f, err = os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, false, err
	}
	// Every refusal has the same answer, to copy.
	return f, unix.IoctlFileClone(int(f.Fd()), int(src.Fd())) == nil, nil
}

// syncTree makes everything below dir durable with one call for its file system: an fsync for each of
// many files takes minutes. Since Linux 5.8 the call also reports failed writes.
func syncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = unix.Syncfs(int(f.Fd()))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
