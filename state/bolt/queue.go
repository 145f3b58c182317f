package bolt

import (
	"context"
	"sync"

	"github.com/continuo-ml/continuo/state"
)

// maxGroup bounds how many commits share one transaction, and with it how long
// other processes wait for the file.
const maxGroup = 1024

// pending is one commit on its way.
type pending struct {
	writer state.Writer
	// ops are made when the head is known, because a lease's epoch depends on it.
	ops func(state.Head) []state.Op
	// allowed errors when this process may not write any more; the same for all of one process.
	allowed func() error

	lead chan struct{} // closed when this caller is to write the next group
	done chan struct{} // closed when serial and err are there

	serial uint64
	err    error
	commit state.Committed
}

// queue groups commits that come while another one is being written. There is
// no writer goroutine: the caller at the head of the queue writes for all that
// wait and then hands over.
type queue struct {
	mu      sync.Mutex
	waiting []*pending
	busy    bool
}

// join queues p and returns when it is done, or when ctx ends before anybody
// began to write it. write is called with a group that includes the caller's own.
func (q *queue) join(ctx context.Context, p *pending, write func([]*pending)) error {
	p.lead, p.done = make(chan struct{}), make(chan struct{})
	q.mu.Lock()
	q.waiting = append(q.waiting, p)
	if !q.busy {
		q.busy = true
		close(p.lead)
	}
	q.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	case <-p.lead:
	case <-ctx.Done():
		if q.leave(p) {
			return ctx.Err()
		}
		select { // it is being written, or it is our turn: the outcome must be told
		case <-p.done:
			return p.err
		case <-p.lead:
		}
	}
	group := q.take()
	write(group)
	for _, g := range group {
		close(g.done)
	}
	q.next()
	return p.err
}

// leave takes p out of the queue and says whether it was still waiting in it.
func (q *queue) leave(p *pending) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-p.lead:
		return false
	default:
	}
	for i, w := range q.waiting {
		if w == p {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
}

func (q *queue) take() []*pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waiting), maxGroup)
	group := q.waiting[:n:n]
	q.waiting = append([]*pending(nil), q.waiting[n:]...)
	return group
}

// next hands the pen to the first who waits.
func (q *queue) next() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.busy = false
		return
	}
	close(q.waiting[0].lead)
}
