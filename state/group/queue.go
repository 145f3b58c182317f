package group

import (
	"context"
	"sync"

	"github.com/continuo-ml/continuo/state"
)

// maxGroup bounds how many commits share one write, and with it how long others wait.
const maxGroup = 1024

// Commit is one commit on its way.
type Commit struct {
	// Writer says on what grounds.
	Writer state.Writer
	// Ops are made when the head is known, because a lease's epoch depends on it.
	// They may be asked for more than once, when a write has to begin anew.
	Ops func(state.Head) []state.Op
	// Allowed, where it is not nil, errors when this process may not write any more. Stores ask it at the last moment before they do.
	Allowed func() error

	// Err and Serial are the outcome, left by the one who writes.
	Err    error
	Serial uint64

	done state.Committed
	lead chan struct{} // closed when this caller is to write the next group
	over chan struct{} // closed when the outcome is there
}

// Apply puts the commit on top of those before it, all or nothing, and leaves
// the outcome in Err and Serial.
func (c *Commit) Apply(all *state.Overlay) {
	c.Serial, c.done, c.Err = 0, state.Committed{}, nil
	head, err := state.ReadHead(all)
	if err != nil {
		c.Err = err
		return
	}
	own := state.NewOverlay(all)
	if c.done, c.Err = state.CommitTo(own, c.Writer, c.Ops(head)); c.Err == nil {
		c.Serial = c.done.Serial
		own.MergeInto(all)
	}
}

// Allowed errors when one of the commits may not be written any more: they are all of one process.
func Allowed(commits []*Commit) error {
	for _, c := range commits {
		if c.Allowed == nil {
			continue
		}
		if err := c.Allowed(); err != nil {
			return err
		}
	}
	return nil
}

// Fail says that nothing of a group was written. A commit that was refused for
// reasons of its own keeps them.
func Fail(commits []*Commit, err error) {
	for _, c := range commits {
		if c.Err == nil {
			c.Serial, c.done, c.Err = 0, state.Committed{}, err
		}
	}
}

// Queue groups commits that come while another one is being written. There is
// no writer goroutine: the caller at the head of the queue writes for all that
// wait and then hands over. The zero value is ready.
type Queue struct {
	mu      sync.Mutex
	waiting []*Commit
	busy    bool
}

// Submit commits and returns the serial. It waits until ctx ends, unless
// somebody began to write the commit by then: that outcome is always told.
// write is called with a group that includes the caller's own, never by two at
// once, and leaves the outcome in each member.
func (q *Queue) Submit(ctx context.Context, c *Commit, write func([]*Commit)) (uint64, error) {
	if err := q.join(ctx, c, write); err != nil {
		return 0, err
	}
	c.done.Fill()
	return c.Serial, nil
}

func (q *Queue) join(ctx context.Context, c *Commit, write func([]*Commit)) error {
	c.lead, c.over = make(chan struct{}), make(chan struct{})
	q.mu.Lock()
	q.waiting = append(q.waiting, c)
	if !q.busy {
		q.busy = true
		close(c.lead)
	}
	q.mu.Unlock()
	select {
	case <-c.over:
		return c.Err
	case <-c.lead:
	case <-ctx.Done():
		if q.leave(c) {
			return ctx.Err()
		}
		select { // it is being written, or it is our turn: the outcome must be told
		case <-c.over:
			return c.Err
		case <-c.lead:
		}
	}
	group := q.take()
	write(group)
	for _, g := range group {
		close(g.over)
	}
	q.next()
	return c.Err
}

// Waiting says whether a group is being written and how many commits wait behind it.
func (q *Queue) Waiting() (writing bool, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.busy, len(q.waiting)
}

// leave takes c out of the queue and says whether it was still waiting in it.
func (q *Queue) leave(c *Commit) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-c.lead:
		return false
	default:
	}
	for i, w := range q.waiting {
		if w == c {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
}

func (q *Queue) take() []*Commit {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.waiting), maxGroup)
	group := q.waiting[:n:n]
	q.waiting = append([]*Commit(nil), q.waiting[n:]...)
	return group
}

// next hands the pen to the first who waits.
func (q *Queue) next() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.busy = false
		return
	}
	close(q.waiting[0].lead)
}
