package files

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// parallel calls f with 0 … n-1, by as many workers as there are processors. With one call, or one
// processor, it stays on the caller's goroutine.
func parallel(n int, f func(i int)) {
	var next atomic.Int64
	work := func() {
		for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
			f(int(i))
		}
	}
	workers := min(n, runtime.GOMAXPROCS(0))
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

// parallelErr is parallel for calls that can fail. It returns the errors in the order of the calls, the
// first few of many. After a failure no further call is started.
func parallelErr(n int, f func(i int) error) error {
	errs := make([]error, n)
	var failed atomic.Bool
	parallel(n, func(i int) {
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
