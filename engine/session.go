package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/internal/fence"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Session is the right to write: it holds the lease until Close.
type Session struct {
	e       *Engine
	epoch   int64
	release func() error
	now     *tracker // the state as this session's commits have made it
	force   bool     // a rollback: drivers act at once

	mu   sync.Mutex
	lost map[resource.Address]error // what settling found failed
}

// lockTry is the least wait for the lease: a holder that is about to end is none.
const lockTry = 200 * time.Millisecond

// Begin takes the lease, waiting for LockTimeout at most, and reads the state. It
// errors with state.ErrLocked naming the holder.
func (e *Engine) Begin(ctx context.Context, doing string) (*Session, error) {
	wait, cancel := context.WithTimeout(ctx, max(e.LockTimeout, lockTry))
	epoch, release, err := e.Store.Acquire(wait, doing)
	cancel()
	if err != nil {
		return nil, err
	}
	s := &Session{e: e, epoch: epoch, release: release}
	if err := s.reload(ctx); err != nil {
		return nil, errors.Join(err, release())
	}
	return s, nil
}

// reload reads the state anew. Nobody else writes while the lease is held.
func (s *Session) reload(ctx context.Context) error {
	snap, err := s.e.Store.Snapshot(ctx)
	if err != nil {
		return err
	}
	s.now = newTracker(snap)
	return nil
}

// commit writes durably and keeps the session's view in step.
func (s *Session) commit(ctx context.Context, ops ...state.Op) error {
	if _, err := s.e.Store.Commit(ctx, 0, ops...); err != nil {
		return err
	}
	s.now.apply(ops)
	return nil
}

// Close gives the lease back.
func (s *Session) Close() error { return s.release() }

// Settle finishes every intent that is still open: it awaits or collects what
// was started under the recorded id, whatever the files say by now, and closes
// what left no trace. It returns the addresses that it settled, be it as failed;
// an error is about what is still open.
func (s *Session) Settle(ctx context.Context) ([]resource.Address, error) {
	var (
		mu      sync.Mutex
		settled []resource.Address
		errs    []error
		wg      sync.WaitGroup
		slots   = make(chan struct{}, s.e.parallel())
	)
	for _, in := range s.now.intents() {
		wg.Add(1)
		go func() {
			defer wg.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			err := s.settle(ctx, in)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("settle %s (%s %s): %w", in.Address, in.Action, in.OpID, err))
				return
			}
			settled = append(settled, in.Address)
		}()
	}
	wg.Wait()
	return settled, errors.Join(errs...)
}

// settle finishes one intent.
func (s *Session) settle(ctx context.Context, in *state.Intent) error {
	s.e.emit(resource.Event{Type: resource.EventLog, Address: in.Address.String(), Message: "an earlier apply was interrupted here; finishing " + string(in.Action) + " " + in.OpID})
	fault.Point(fault.EngineSettleBefore)
	w, err := s.workOf(ctx, in)
	if err != nil {
		return fmt.Errorf("%w; or give it up with ml state rm %s: what it started goes on by itself", err, in.Address.Arg())
	}
	if in.Action == resource.Delete {
		return s.deleteNow(ctx, w)
	}
	if err := fence.Check(ctx); err != nil {
		return err
	}
	res, err := w.driver.Apply(ctx, w.request(s, true))
	if errors.Is(err, providers.ErrAbsent) {
		return s.commit(ctx, state.Op{CloseIntent: in.OpID})
	}
	if _, err = s.finish(ctx, w, res, err); err == nil || s.now.isOpen(in.OpID) {
		return err
	}
	// It failed, and that is recorded: the plan to come says what follows from it.
	s.lastLines(in.Address, err)
	s.e.emit(resource.Event{Type: resource.EventStepDone, Address: in.Address.String(), Action: in.Action, Failed: true, Message: in.Address.Trim(err.Error())})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost == nil {
		s.lost = map[resource.Address]error{}
	}
	s.lost[in.Address] = err
	return nil
}

// workOf rebuilds an intent's work from what was recorded with it.
func (s *Session) workOf(ctx context.Context, in *state.Intent) (*work, error) {
	kind := s.e.Project.Kinds[in.Address.Kind]
	if kind == nil {
		return nil, fmt.Errorf("kind %q is not known to this version of ml", in.Address.Kind)
	}
	d, err := s.e.driver(ctx, in.Provider, in.Address.Kind)
	if err != nil {
		return nil, err
	}
	w := &work{intent: in, kind: kind, driver: d, prior: s.now.record(in.Address), post: s.postconditions(in.Address)}
	if in.Action == resource.Delete {
		return w, nil
	}
	if w.spec, err = state.DecodeValue(in.Spec, s.e.Project.Body(kind, in.Provider).Type()); err != nil {
		return nil, fmt.Errorf("read the recorded spec: %w", err)
	}
	return w, nil
}

// Plan plans on the state as it is now, under the lease.
func (s *Session) Plan(ctx context.Context, o PlanOptions) (*Planned, error) {
	snap, err := s.e.Store.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return s.e.planOn(ctx, snap, o)
}
