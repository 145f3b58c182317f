//go:build !linux

package leader

import "time"

var started = time.Now()

// sinceBoot is the longer one of what the monotonic and the wall clock say: the first stops while the machine sleeps.
func sinceBoot() time.Duration {
	return max(time.Since(started), time.Now().Round(0).Sub(started.Round(0)))
}
