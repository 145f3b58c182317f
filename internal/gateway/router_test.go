package gateway

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
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
				u, _ := rt.acquire(nil)
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
	deadline := time.After(time.Second)
	switches := 0
loop:
	for {
		select {
		case <-deadline:
			break loop
		default:
		}
		old := (*rt.route.Load().current.ready.Load())[0]
		rt.route.Store(&route{current: next()})
		old.close()
		for old.inflight.Load() != 0 { // awaitIdle, without its pause
		}
		dead.Store(old, true)
		switches++
	}
	close(stop)
	wg.Wait()
	if none.Load() != 0 || late.Load() != 0 || served.Load() < 1000 || switches < 1000 {
		t.Errorf("%d served over %d switches; %d found no server, %d were late", served.Load(), switches, none.Load(), late.Load())
	}
}
