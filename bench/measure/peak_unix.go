//go:build unix

package main

import (
	"math"
	"os"
	"runtime"
	"syscall"
)

// peakMB returns the largest resident set of the process or of one of its
// children, in MB; NaN where the system does not say.
func peakMB(p *os.ProcessState) float64 {
	usage, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return math.NaN()
	}
	if runtime.GOOS == "darwin" {
		return float64(usage.Maxrss) / 1e6 // bytes
	}
	return float64(usage.Maxrss) * 1024 / 1e6 // KiB
}
