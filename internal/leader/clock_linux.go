package leader

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot counts the time in which the machine slept, too; Go's own clock does not.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return time.Since(started) // a kernel from before 2011
	}
	return time.Duration(ts.Nano())
}

var started = time.Now()
