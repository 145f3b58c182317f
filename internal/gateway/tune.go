package gateway

import (
	"os"
	"runtime"
)

// slack is how much garbage, in bytes, may gather before a collection, over
// what the heap is in use for. A gateway's heap is a few megabytes, and at 100 %
// of that it would collect a dozen times a second under load.
const slack = 32 << 20

// tune makes the process cheap beside its models, and returns what the caller
// must keep alive for as long. GOGC and GOMAXPROCS keep their meaning.
func tune() (ballast []byte) {
	// The models need the cores: half of them carry more requests than any
	// model answers, and goroutines that change cores less cost less.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(procs(runtime.NumCPU()))
	}
	// Never written to, so it takes address space and no memory; unlike a high
	// GOGC it stays small beside a heap that is full of requests.
	return make([]byte, slack)
}

// procs is half of the cores, rounded up.
func procs(cores int) int { return max(1, (cores+1)/2) }
