package files

import (
	"os"

	"golang.org/x/sys/unix"
)

// createClone makes the new file dst. cloned reports that it already shares the bytes of src (APFS);
// otherwise it is empty, for the caller to fill.
func createClone(src *os.File, dst string) (f *os.File, cloned bool, err error) {
	if unix.Fclonefileat(int(src.Fd()), unix.AT_FDCWD, dst, 0) == nil {
		f, err = os.Open(dst)
		return f, true, err
	}
	// Every refusal has the same answer, to copy.
	f, err = os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return f, false, err
}
