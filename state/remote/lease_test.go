package remote_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/remote"
	"github.com/continuo-ml/continuo/state/remote/remotetest"
)

// gate is the way of one process to a place: while it is shut, what was asked
// for stands still, as in a process that is stopped.
type gate struct {
	remote.Blobs
	mu   sync.Mutex
	shut chan struct{} // nil = open
	held atomic.Int32  // requests that stand before it
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.shut)
	g.shut = nil
}

func (g *gate) pass() {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut != nil {
		g.held.Add(1)
		<-shut
	}
}

func (g *gate) Put(ctx context.Context, name string, data []byte, at string) (string, error) {
	g.pass()
	return g.Blobs.Put(context.WithoutCancel(ctx), name, data, at) // who is stopped does not see deadlines pass
}

func (g *gate) Get(ctx context.Context, name string) ([]byte, string, error) {
	g.pass()
	return g.Blobs.Get(context.WithoutCancel(ctx), name)
}

// clock is set by hand.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_800_000_000, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// observer is a store with a clock of its own.
func observer(t *testing.T, place remote.Blobs) (*remote.Store, *clock) {
	t.Helper()
	c := &clock{}
	o := options(t, t.TempDir())
	o.Now = c.now
	return remote.Open(place, o), c
}

func TestAHolderThatWasStoppedWritesNothingAfterAnotherTookOver(t *testing.T) {
	f := remotetest.NewFake()
	g := &gate{Blobs: f}
	holder := newStore(t, g)
	epoch, release := acquire(t, holder)
	if _, err := holder.Commit(t.Context(), 0, put(small(1))...); err != nil {
		t.Fatal(err)
	}
	g.close()
	late := make(chan error, 1)
	go func() { // its write is on its way when it is stopped
		_, err := holder.Commit(t.Context(), 0, put(small(2))...)
		late <- err
	}()
	eventually(t, "the write stands before the gate", func() bool { return g.held.Load() > 0 })
	other, c := observer(t, f)
	got := make(chan error, 1)
	var giveBack func() error
	go func() {
		next, release, err := other.Acquire(t.Context(), "apply")
		if giveBack = release; err == nil && next <= epoch {
			err = errors.New("the epoch did not rise")
		}
		got <- err
	}()
	eventually(t, "the lease is taken over", func() bool {
		c.advance(leaseFor / 4)
		return len(got) > 0
	})
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if _, err := other.Commit(t.Context(), 0, put(small(3))...); err != nil {
		t.Fatal(err)
	}
	g.open()
	wantError(t, <-late, state.ErrConflict, "lease lost", "holds it for apply")
	_, err := holder.Commit(t.Context(), 0, put(small(4))...)
	wantError(t, err, state.ErrConflict, "lease lost")
	wantError(t, release(), state.ErrConflict, "lease lost")
	if err := giveBack(); err != nil {
		t.Error("the one who took over:", err)
	}
	snap := snapshot(t, newStore(t, f))
	if snap.Record(small(2).Address) != nil || snap.Record(small(4).Address) != nil || snap.Record(small(3).Address) == nil || snap.Record(small(1).Address) == nil {
		t.Errorf("records %v", snap.Records)
	}
}

func TestALeaseIsTakenOverByTheObserversClockAlone(t *testing.T) {
	f := remotetest.NewFake()
	g := &gate{Blobs: f}
	o := options(t, t.TempDir())
	began := time.Now()
	o.Now = func() time.Time { return time.Now().AddDate(-30, 0, 0) } // the lease seems long over
	_, release, err := remote.Open(g, o).Acquire(t.Context(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	g.close()
	other, c := observer(t, f)
	try := func() (release func() error, err error) {
		gets, _ := f.Requests()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, release, err = other.Acquire(ctx, "rollback")
		}()
		// It looks, time passes, it looks again.
		eventually(t, "it looks", func() bool { n, _ := f.Requests(); return n > gets })
		c.advance(leaseFor - time.Millisecond)
		eventually(t, "it looks again", func() bool { n, _ := f.Requests(); return n > gets+3 || chanClosed(done) })
		cancel()
		<-done
		return release, err
	}
	if _, err := try(); !errors.Is(err, context.Canceled) {
		t.Errorf("before its time: %v", err)
	}
	if time.Since(began) > time.Minute {
		t.Fatal("this machine is too slow for this test")
	}
	// Each waiter begins to count when it first sees the lease.
	if _, err := try(); !errors.Is(err, context.Canceled) {
		t.Errorf("a second wait counted the first one's time: %v", err)
	}
	g.open()
	if err := release(); err != nil {
		t.Error(err)
	}
}

func chanClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestAHolderThatLivesKeepsTheLease(t *testing.T) {
	f := remotetest.NewFake()
	_, release := acquire(t, newStore(t, f))
	_, first := f.Requests()
	// The waiter's clock runs with the signs of life: half of what it would wait
	// passes with each.
	o := options(t, t.TempDir())
	beats := func() int { _, n := f.Requests(); return n - first }
	o.Now = func() time.Time { return time.Unix(0, 0).Add(time.Duration(beats()) * leaseFor / 2) }
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() {
		_, _, err := remote.Open(f, o).Acquire(ctx, "apply")
		got <- err
	}()
	eventually(t, "six signs of life", func() bool { return beats() >= 6 || len(got) > 0 })
	cancel()
	if err := <-got; errors.Is(err, state.ErrLocked) { // and not in the middle of a look
		wantError(t, err, context.Canceled, "ada@host", "for apply since", "takes over")
	} else {
		wantError(t, err, context.Canceled)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestOthersThatWriteAreNoSignOfLife(t *testing.T) {
	f := remotetest.NewFake()
	g := &gate{Blobs: f}
	_, release := acquire(t, newStore(t, g))
	g.close()
	third := newStore(t, f)
	other, c := observer(t, f)
	got := make(chan error, 1)
	var giveBack func() error
	go func() {
		var err error
		_, giveBack, err = other.Acquire(t.Context(), "apply")
		got <- err
	}()
	eventually(t, "the lease is taken over", func() bool {
		snap := snapshot(t, third)
		if _, err := third.Commit(t.Context(), snap.Serial, put(small(1))...); err != nil && !errors.Is(err, state.ErrConflict) {
			t.Fatal(err)
		}
		c.advance(leaseFor / 3)
		return len(got) > 0
	})
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if err := giveBack(); err != nil {
		t.Error(err)
	}
	g.open()
	wantError(t, release(), state.ErrConflict, "lease lost")
}

func TestOfManyOneHoldsTheLease(t *testing.T) {
	f := remotetest.NewFake()
	var holders, last atomic.Int64
	var wg sync.WaitGroup
	for range 5 {
		o := options(t, t.TempDir())
		o.LeaseFor = time.Minute // nobody is taken for dead on a busy machine
		s := remote.Open(f, o)
		wg.Go(func() {
			for range 4 {
				epoch, release, err := s.Acquire(t.Context(), "apply")
				if err != nil {
					t.Error(err)
					return
				}
				if holders.Add(1) != 1 || last.Swap(epoch) >= epoch {
					t.Errorf("two hold it, or the epoch %d did not rise", epoch)
				}
				if _, err := s.Commit(t.Context(), 0, put(small(int(epoch)))...); err != nil {
					t.Error(err)
				}
				holders.Add(-1)
				if err := release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(snapshot(t, newStore(t, f)).Records); n != 20 {
		t.Errorf("%d records", n)
	}
}

func TestAShortWaitForAFreeLeaseOutlivesASlowPlace(t *testing.T) {
	f := remotetest.NewFake()
	s := newStore(t, f)
	commit(t, s, put(small(1))...)
	wait, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	f.Break(func(op, _ string) remotetest.Fault {
		<-wait.Done()
		return remotetest.Fault{}
	})
	_, release, err := s.Acquire(wait, "apply")
	f.Break(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestWhatLivesOnOneMachineIsLeftToIt(t *testing.T) {
	f := remotetest.NewFake()
	on := func(dir, project string) *remote.Store {
		o := options(t, dir)
		o.Project = project
		o.Bound = func(provider string, a resource.Address, open bool) bool {
			return provider == "local" && (open || a.Kind == "deployment")
		}
		return remote.Open(f, o)
	}
	here, there := t.TempDir(), t.TempDir()
	server := small(1)
	server.Address.Kind = "deployment"
	apply := func(s *remote.Store, ops ...state.Op) error {
		_, release, err := s.Acquire(t.Context(), "apply")
		if err != nil {
			return err
		}
		_, err = s.Commit(t.Context(), 0, ops...)
		return errors.Join(err, release())
	}
	if err := apply(on(here, "/home/ada/p"), put(small(2))...); err != nil {
		t.Fatal(err)
	}
	if err := apply(on(there, "/srv/p"), put(server)...); err != nil {
		t.Fatal("what lives nowhere binds nobody:", err)
	}
	err := apply(on(here, "/home/ada/p"), put(small(3))...)
	wantError(t, err, remote.ErrElsewhere, "deployment.t00001 runs", "/srv/p", "-adopt-local")
	if err := apply(on(there, "/srv/p"), state.Op{PutIntent: &state.Intent{OpID: "1", Address: small(2).Address, Provider: "local", Action: resource.RunIt}}, state.Op{DeleteRecord: &server.Address}); err != nil {
		t.Fatal(err)
	}
	wantError(t, apply(on(here, "/home/ada/p"), put(small(3))...), remote.ErrElsewhere, "training.t00002 is under way")
	if err := apply(on(there, "/srv/p"), state.Op{CloseIntent: "1"}); err != nil {
		t.Fatal(err)
	}
	if err := apply(on(here, "/home/ada/p"), put(server)...); err != nil {
		t.Error("nothing is bound any more:", err)
	}
	if err := on(there, "/srv/p").AdoptLocal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := apply(on(there, "/srv/p"), put(server)...); err != nil {
		t.Error("after it was adopted:", err)
	}
}
