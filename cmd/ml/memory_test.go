package main

import (
	"runtime/debug"
	"testing"
)

func TestTheCollectorIsBoundByTheProjectsSizeUnlessTheCallerSaysOtherwise(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	for blocks, want := range map[int]int64{1: memoryFloor, 10_000: memoryFloor, 100_000: 100_000 * memoryPerBlock} {
		boundMemory(blocks)
		if got := debug.SetMemoryLimit(-1); got != want {
			t.Errorf("%d blocks: limit %d, want %d", blocks, got, want)
		}
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	debug.SetMemoryLimit(1 << 30)
	boundMemory(10)
	if got := debug.SetMemoryLimit(-1); got != 1<<30 {
		t.Errorf("the caller's limit was replaced by %d", got)
	}
}
