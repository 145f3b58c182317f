//go:build !linux

package fault

import (
	"fmt"
	"os"
)

// pause cannot be had here; a test that wants it must not pass for one that had it.
func pause() {
	fmt.Fprintln(os.Stderr, "fault: a process can be stopped at a point on Linux only")
	os.Exit(137)
}
