package gateway

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// While versions are switched as fast as it goes, each request finds a server,
// and none is inside a server that its drain has called empty.
func TestNoRequestEntersADrainedServer(t *testing.T) {
	f := newFake(t, Limits{})
	var dead sync.Map // *upstream that must not be used any more
	rt := newRouter()
	next := func() *release { return f.release(1, "127.0.0.1:1") }
	rt.route.Store(&route{current: next()})
	stop := make(chan struct{})
	var none, late, served atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				u, _ := rt.acquire(nil, byWeight)
				if u == nil {
					none.Add(1)
					continue
				}
				if _, is := dead.Load(u); is {
					late.Add(1)
				}
				served.Add(1)
				u.leave()
			}
		})
	}
	for range 5000 {
		old := (*rt.route.Load().current.ready.Load())[0]
		rt.route.Store(&route{current: next()})
		old.close()
		for old.inflight.Load() != 0 { // awaitIdle, without its pause
			runtime.Gosched()
		}
		dead.Store(old, true)
	}
	close(stop)
	wg.Wait()
	if none.Load() != 0 || late.Load() != 0 || served.Load() == 0 {
		t.Errorf("%d served; %d found no server, %d were late", served.Load(), none.Load(), late.Load())
	}
}
