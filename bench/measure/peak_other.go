//go:build !unix

package main

import (
	"math"
	"os"
)

// peakMB is unknown on systems without rusage.
func peakMB(*os.ProcessState) float64 { return math.NaN() }
