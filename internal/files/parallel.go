package files

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// cpuWorkers is for work that hashing bounds, ioWorkers for many small files: with the bytes on a disk
// most of them wait, and four a processor read 100,000 files in two thirds of the time of one.
func cpuWorkers() int { return runtime.GOMAXPROCS(0) }
func ioWorkers() int  { return min(4*runtime.GOMAXPROCS(0), 32) }

// parallel calls f with 0 … n-1, by so many workers. With one call, or one worker, it stays on the
// caller's goroutine.
func parallel(n, workers int, f func(i int)) {
	var next atomic.Int64
	work := func() {
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			f(int(i))
		}
	}
	workers = min(n, workers)
	if workers <= 1 {
		work()
		return
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(work)
	}
	wg.Wait()
}

// parallelErr is parallel, with cpuWorkers, for calls that can fail. It returns the errors in the order of the calls, the
// first few of many. After a failure no further call is started.
func parallelErr(n int, f func(i int) error) error {
	errs := make([]error, n)
	var failed atomic.Bool
	parallel(n, cpuWorkers(), func(i int) {
		if failed.Load() {
			return
		}
		if errs[i] = f(i); errs[i] != nil {
			failed.Store(true)
		}
	})
	var some []error
	for _, err := range errs {
		if err != nil {
			some = append(some, err)
		}
	}
	return joinErrors(some)
}
