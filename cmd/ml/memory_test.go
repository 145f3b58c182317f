package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
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

func TestALimitThatIsOutgrownGivesWay(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	debug.SetMemoryLimit(1 << 30)
	giveWay()
	runtime.GC()
	if got := debug.SetMemoryLimit(-1); got != 1<<30 {
		t.Fatalf("a limit that nothing comes near became %d", got)
	}
	debug.SetMemoryLimit(32 << 20)
	held := make([]byte, 64<<20)
	deadline := time.After(time.Minute)
	for debug.SetMemoryLimit(-1) < 2*int64(len(held)) {
		runtime.GC()
		select {
		case <-deadline:
			t.Fatalf("the limit stayed at %d with %d in use", debug.SetMemoryLimit(-1), len(held))
		case <-time.After(time.Millisecond): // cleanups run on a goroutine of their own
		}
	}
	runtime.KeepAlive(held)
}
