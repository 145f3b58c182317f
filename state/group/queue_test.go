package group

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/state"
)

// TestWhoLeavesTheQueueIsNotWrittenAndWhoIsBeingWrittenWaits holds a write until
// the others stand behind it.
func TestWhoLeavesTheQueueIsNotWrittenAndWhoIsBeingWrittenWaits(t *testing.T) {
	var q Queue
	hold, began := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var groups [][]*Commit
	write := func(group []*Commit) {
		mu.Lock()
		groups = append(groups, group)
		first := len(groups) == 1
		mu.Unlock()
		if first {
			close(began)
			<-hold
		}
		for i, c := range group {
			c.Serial = uint64(i + 1)
		}
	}
	commit := func(ctx context.Context) (uint64, error) {
		return q.Submit(ctx, &Commit{Ops: func(state.Head) []state.Op { return nil }}, write)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { // it is being written when its context ends: the outcome is told
		if serial, err := commit(ctx); err != nil || serial != 1 {
			t.Errorf("the first: %d, %v", serial, err)
		}
	})
	<-began
	wg.Go(func() {
		if _, err := commit(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left: %v", err)
		}
	})
	await(t, &q, 1)
	cancel()
	await(t, &q, 0)
	for range 3 {
		wg.Go(func() {
			if _, err := commit(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	await(t, &q, 3)
	close(hold)
	wg.Wait()
	if len(groups) != 2 || len(groups[0]) != 1 || len(groups[1]) != 3 {
		t.Errorf("groups %v", groups)
	}
	if writing, waiting := q.Waiting(); writing || waiting != 0 {
		t.Error("the queue is not empty")
	}
}

func await(t *testing.T, q *Queue, n int) {
	t.Helper()
	end := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if _, waiting := q.Waiting(); waiting == n {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain for %d in the queue", n)
		}
	}
}

func TestAFailedWriteKeepsEachOnesOwnReason(t *testing.T) {
	own, all := errors.New("own"), errors.New("all")
	a, b := &Commit{Err: own}, &Commit{Serial: 3}
	Fail([]*Commit{a, b}, all)
	if !errors.Is(a.Err, own) || !errors.Is(b.Err, all) || b.Serial != 0 {
		t.Errorf("got %v and %v, serial %d", a.Err, b.Err, b.Serial)
	}
}
