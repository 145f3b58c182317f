package fault

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// pause stops this process until somebody sends it SIGCONT. The signal is this thread's own, so that it does not run on to what follows the point.
func pause() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP); err != nil {
		fmt.Fprintln(os.Stderr, "fault: stop the own process:", err)
		os.Exit(137)
	}
}
