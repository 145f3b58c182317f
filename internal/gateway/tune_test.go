package gateway

import (
	"runtime"
	"testing"
)

func TestAGatewayCollectsSeldomAndLeavesCoresToItsModels(t *testing.T) {
	for cores, want := range map[int]int{1: 1, 2: 1, 3: 2, 4: 2, 16: 8} {
		if got := procs(cores); got != want {
			t.Errorf("%d of %d cores, want %d", got, cores, want)
		}
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	t.Setenv("GOMAXPROCS", "")
	ballast := tune()
	if got := runtime.GOMAXPROCS(0); got != procs(runtime.NumCPU()) {
		t.Errorf("GOMAXPROCS is %d", got)
	}
	runtime.GC() // the next one is due when the heap has grown by all of slack
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var keep []byte
	for range 20 << 10 {
		keep = make([]byte, 1<<10)
	}
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(keep)
	runtime.KeepAlive(ballast)
	if n := after.NumGC - before.NumGC; n > 1 {
		t.Errorf("%d collections for 20 MB of garbage", n)
	}
	t.Setenv("GOMAXPROCS", "7") // the runtime has read it: it stands
	runtime.GOMAXPROCS(7)
	if tune(); runtime.GOMAXPROCS(0) != 7 {
		t.Error("what the user set was changed")
	}
}
