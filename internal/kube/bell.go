package kube

import (
	"context"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	// seldom is how often somebody looks who would be told of a change: a net under what nobody tells, such as the passing of time.
	seldom = 10 * time.Second
	// apart is the least time between two looks that a bell asks for: several changes of a moment are seen by one.
	apart = 250 * time.Millisecond
)

// Bell rings when something that is watched has moved. Whoever waits looks then, and seldom besides. Where watching is not allowed, or
// broken, it says so by [Bell.Stands], and the look is as often as without a bell. A nil bell never rings.
type Bell struct {
	rung     chan struct{}
	watches  int32
	standing atomic.Int32
	last     time.Time
	every    time.Duration // 0 = seldom
}

// Bell begins to watch. It ends with ctx, which the caller must end.
func (c *Client) Bell(ctx context.Context, list ...Watched) *Bell {
	b := &Bell{rung: make(chan struct{}, 1), watches: int32(len(list))}
	for _, w := range list {
		go func() {
			stands := false
			set := func(to bool) {
				if stands != to {
					stands = to
					b.standing.Add(map[bool]int32{true: 1, false: -1}[to])
				}
			}
			_ = c.Watch(ctx, w, Handler{ // where it is not allowed, nobody is told more than by Stands
				Listed: func([]*unstructured.Unstructured) {},
				Open: func() {
					set(true)
					b.ring() // what moved since the caller's last look is seen by one look more
				},
				Changed: func(*unstructured.Unstructured, bool) { b.ring() },
				Broken: func(error) {
					set(false)
					b.ring() // whoever waits is to look more often
				},
			})
			set(false)
		}()
	}
	return b
}

func (b *Bell) ring() {
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

// Stands reports whether everything is watched at the moment.
func (b *Bell) Stands() bool { return b != nil && b.watches > 0 && b.standing.Load() == b.watches }

// C is what somebody waits at. After it gave something, Settle keeps looks apart.
func (b *Bell) C() <-chan struct{} {
	if b == nil {
		return nil
	}
	return b.rung
}

// Settle waits until it has been a moment since the last look that the bell asked for. What rings until then is the same look's.
func (b *Bell) Settle(ctx context.Context) error {
	if wait := apart - time.Since(b.last); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
	b.last = time.Now()
	select {
	case <-b.rung:
	default:
	}
	return nil
}

// Hurry says how far apart looks may be while everything is watched, for as long as time itself may decide: a cause that lasts, a pod that
// does not begin. 0 is seldom.
func (b *Bell) Hurry(every time.Duration) {
	if b != nil {
		b.every = every
	}
}

// Next is how long to wait for the next look that no bell asks for: without says how long it would be without a bell.
func (b *Bell) Next(without time.Duration) time.Duration {
	switch {
	case !b.Stands():
		return without
	case b.every > 0:
		return max(b.every, without)
	}
	return max(seldom, without)
}

// Wait returns when it is time for the next look.
func (b *Bell) Wait(ctx context.Context, without time.Duration) error {
	t := time.NewTimer(b.Next(without))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-b.C():
		return b.Settle(ctx)
	case <-t.C:
		return nil
	}
}
