package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/internal/fence"
)

// Post is what stands on a board.
type Post struct {
	Term   int64  // rises with every leader; 0 = there was none yet
	Holder string // "" = the last one gave it up
	// Beat differs after every write.
	Beat string
	// For is how long the holder may be silent before it counts as gone.
	For time.Duration
}

// ErrMoved: somebody else wrote meanwhile.
var ErrMoved = errors.New("another candidate was faster")

// Board is what candidates share.
type Board interface {
	// Read gives the newest post; the zero Post where there is none yet.
	Read(ctx context.Context) (Post, error)
	// Write replaces old by now, and returns what stands there then, with its own Beat. It errors with ErrMoved when old is not the newest any more.
	Write(ctx context.Context, old, now Post) (Post, error)
}

// Candidate is one process that may lead.
type Candidate struct {
	Board Board
	// Name says who it is to people. It is another one in each process: a new process is not the old one.
	Name string
	// For is how long it may be silent when it leads.
	For time.Duration
	Log *slog.Logger
	// Clock is the time since some moment, also while the process or the machine does not run; nil = this machine's.
	Clock func() time.Duration
	// Seen, where it is not nil, is told the post while another process leads.
	Seen func(Post)
}

// Term is the time in which this process leads.
type Term struct {
	Number int64

	clock func() time.Duration
	mu    sync.Mutex
	end   time.Duration // by the clock
	over  bool          // for good
}

// Guard errors with fence.ErrLost once the term is over. What is over stays over.
func (t *Term) Guard() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over && t.clock() < t.end {
		return nil
	}
	t.over = true
	return fmt.Errorf("%w: its lease was not renewed in time", fence.ErrLost)
}

// prolong moves the end of a term that is not over.
func (t *Term) prolong(end time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over = t.over || t.clock() >= t.end; !t.over {
		t.end = end
	}
	return !t.over
}

func (t *Term) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
}

func (t *Term) left() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end - t.clock()
}

// rhythm is how often a post is renewed and looked at.
func (c *Candidate) rhythm() time.Duration { return c.For / 6 }

// Lead waits until this process leads and calls work, whose context carries the guard of the term and ends with it. It returns what work
// returned, and fence.ErrLost where the term ended first.
func (c *Candidate) Lead(ctx context.Context, work func(ctx context.Context, t *Term) error) error {
	if c.Clock == nil {
		c.Clock = sinceBoot
	}
	post, began, err := c.stand(ctx)
	if err != nil {
		return err
	}
	t := &Term{Number: post.Term, clock: c.Clock, end: began + c.For*2/3}
	c.Log.Info("this daemon leads", "term", t.Number, "name", c.Name)
	wctx, cancel := context.WithCancelCause(fence.With(ctx, t.Guard))
	defer cancel(nil)
	kept := make(chan Post, 1)
	stop := make(chan struct{})
	go func() {
		last, err := c.keep(ctx, t, post, stop)
		if err != nil {
			t.finish()
			cancel(err)
		}
		kept <- last
	}()
	err = work(wctx, t)
	lost := t.Guard()
	close(stop)
	last := <-kept
	if lost != nil {
		return errors.Join(lost, context.Cause(wctx))
	}
	t.finish()
	c.giveUp(ctx, last)
	return err
}

// stand waits until the post is free, or its holder silent, and takes it. began is when that write was begun.
func (c *Candidate) stand(ctx context.Context) (Post, time.Duration, error) {
	var seen Post
	at := c.Clock()
	known, said := false, ""
	tick := time.NewTicker(c.rhythm())
	defer tick.Stop()
	for {
		now, err := c.read(ctx)
		switch {
		case ctx.Err() != nil:
			return Post{}, 0, ctx.Err()
		case err != nil:
			if said != err.Error() {
				said = err.Error()
				c.Log.Warn("look who leads", "error", err)
			}
		case !known || now != seen:
			if c.Seen != nil && now.Holder != "" {
				c.Seen(now)
			}
			if now.Holder != seen.Holder || !known {
				c.Log.Info("stands by", "leads", now.Holder, "term", now.Term)
			}
			seen, at, known = now, c.Clock(), true
		}
		if known && err == nil && (seen.Holder == "" || c.Clock()-at > seen.For) {
			began := c.Clock()
			mine, err := c.write(ctx, seen, Post{Term: seen.Term + 1, Holder: c.Name, For: c.For})
			if err == nil {
				return mine, began, nil
			}
			if !errors.Is(err, ErrMoved) && ctx.Err() == nil {
				c.Log.Warn("take the lead", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return Post{}, 0, ctx.Err()
		case <-tick.C:
		}
	}
}

// keep renews the post until stop, the end of ctx, or the end of the term, which is an error.
func (c *Candidate) keep(ctx context.Context, t *Term, post Post, stop <-chan struct{}) (Post, error) {
	tick := time.NewTicker(c.rhythm())
	defer tick.Stop()
	end := time.NewTimer(t.left())
	defer end.Stop()
	for {
		select {
		case <-stop:
			return post, nil
		case <-ctx.Done():
			return post, nil
		case <-end.C:
		case <-tick.C:
		}
		if err := t.Guard(); err != nil {
			return post, err
		}
		began := c.Clock()
		now, err := c.renew(ctx, t, post)
		switch {
		case err == nil:
			post = now
			if !t.prolong(began + c.For*2/3) {
				return post, t.Guard()
			}
		case errors.Is(err, ErrMoved):
			return post, fmt.Errorf("%w: another one took over", fence.ErrLost)
		default:
			c.Log.Warn("renew the lease", "error", err, "left", t.left().Round(time.Millisecond))
		}
		end.Reset(max(t.left(), 0))
	}
}

// renew writes within what is left of the term. An answer that was lost looks like somebody else's write: then the post is read again.
func (c *Candidate) renew(ctx context.Context, t *Term, post Post) (Post, error) {
	ctx, cancel := context.WithTimeout(ctx, max(t.left(), time.Millisecond))
	defer cancel()
	next := post
	now, err := c.Board.Write(ctx, post, next)
	if !errors.Is(err, ErrMoved) {
		return now, err
	}
	have, rerr := c.Board.Read(ctx)
	if rerr != nil {
		return post, rerr
	}
	if have.Holder != c.Name || have.Term != post.Term {
		return post, err
	}
	return c.Board.Write(ctx, have, next)
}

// patience bounds one look at the board of a candidate that does not lead.
const patience = 10 * time.Second

func (c *Candidate) read(ctx context.Context) (Post, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c.Board.Read(ctx)
}

func (c *Candidate) write(ctx context.Context, old, now Post) (Post, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c.Board.Write(ctx, old, now)
}

// giveUp lets the next one begin at once. That it cannot be told costs the others the time of the lease.
func (c *Candidate) giveUp(ctx context.Context, last Post) {
	now := last
	now.Holder = ""
	if _, err := c.write(context.WithoutCancel(ctx), last, now); err != nil {
		c.Log.Warn("give the lead up", "error", err)
	}
}
