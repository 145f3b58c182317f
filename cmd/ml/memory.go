package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Memory that a plan of a project may take before the collector works: at least
// this, and so much for each block. Most of it is garbage of parsing.
const (
	memoryFloor    = 256 << 20
	memoryPerBlock = 26 << 10
)

// spendMemory lets a command that is over in a moment leave its garbage alone:
// collecting took a third of an empty plan of 1,000 blocks. GOGC and GOMEMLIMIT
// say otherwise as ever.
func spendMemory() {
	if os.Getenv("GOGC") != "" {
		return
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryFloor)
	}
	debug.SetGCPercent(-1)
	giveWay()
}

// boundMemory keeps the peak near what the project's size needs.
func boundMemory(blocks int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(max(memoryFloor, int64(blocks)*memoryPerBlock))
	}
}

// giveWay raises the limit after any collection that shows that what is really
// in use comes near it: the limit is a wish, and the collector must not spend
// its time on keeping one that cannot be kept.
func giveWay() {
	sentinel := new(*int) // with a pointer in it, so that it shares its memory with nothing that lives on
	runtime.AddCleanup(sentinel, func(struct{}) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		if limit := debug.SetMemoryLimit(-1); live[0].Value.Kind() == metrics.KindUint64 {
			if used := int64(live[0].Value.Uint64()); used > limit*7/10 && os.Getenv("GOMEMLIMIT") == "" {
				debug.SetMemoryLimit(2 * used)
			}
		}
		giveWay()
	}, struct{}{})
}
