package daemon

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/fence"
	"github.com/continuo-ml/continuo/providers"
)

// Limits of what is told.
const (
	maxOwed      = 200                // notices that wait for a repository
	owedFor      = 7 * 24 * time.Hour // after which nobody wants to know
	sendPatience = 20 * time.Second
	firstRetry   = 15 * time.Second
	lastRetry    = time.Hour
)

// boxed is what outlives the daemon.
type boxed struct {
	// Told are the subjects of the last news, by kind, as long as they last.
	Told  map[News]string `json:"told,omitempty"`
	Begun *begun          `json:"begun,omitempty"`
	Owed  []*notice       `json:"owed,omitempty"` // the oldest first
	Count int             `json:"count,omitempty"`
}

// begun is a plan that runs, or whose end nobody saw.
type begun struct {
	Commit string `json:"commit"`
	Counts string `json:"counts"`
}

// news says whether a subject is another than the one told last, and notes it.
func (b *boxed) news(what News, subject string) bool {
	if b.Told[what] == subject {
		return false
	}
	if b.Told == nil {
		b.Told = map[News]string{}
	}
	b.Told[what] = subject
	return true
}

func (b *boxed) clone() *boxed {
	c := &boxed{Told: maps.Clone(b.Told), Begun: b.Begun, Count: b.Count}
	for _, n := range b.Owed {
		copied := *n
		copied.Owed = slices.Clone(n.Owed)
		c.Owed = append(c.Owed, &copied)
	}
	return c
}

// outbox keeps what is to be told until it was.
type outbox struct {
	file string
	wake chan struct{}
	pen  func() (put func() error, err error) // held while it is written

	mu   sync.Mutex
	kept *boxed
}

func openOutbox(dir string) (*outbox, error) {
	o := &outbox{file: filepath.Join(dir, "news.json"), wake: make(chan struct{}, 1), kept: &boxed{}, pen: noPen}
	_, err := durable.ReadJSON(o.file, o.kept)
	return o, err
}

// change changes what is kept, durably; when it cannot be kept it stays as it was.
func (o *outbox) change(do func(*boxed)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	next := o.kept.clone()
	do(next)
	if over := len(next.Owed) - maxOwed; over > 0 {
		next.Owed = next.Owed[over:]
	}
	if reflect.DeepEqual(next, o.kept.clone()) {
		return nil
	}
	put, err := o.pen()
	if err != nil {
		return err
	}
	if err := errors.Join(durable.WriteJSON(o.file, next), put()); err != nil {
		return err
	}
	o.kept = next
	return nil
}

// owed gives copies of what is to be told, the oldest first.
func (o *outbox) owed() []*notice {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.kept.clone().Owed
}

// settled notes that a notice is no longer owed to somebody.
func (o *outbox) settled(key, to string) error {
	return o.change(func(b *boxed) {
		for _, n := range b.Owed {
			if n.Key == key {
				n.Owed = slices.DeleteFunc(n.Owed, func(name string) bool { return name == to })
			}
		}
		b.Owed = slices.DeleteFunc(b.Owed, func(n *notice) bool { return len(n.Owed) == 0 })
	})
}

// retry is when a notifier that was not reached is tried again.
type retry struct {
	tries int
	next  time.Time
}

// runNotices delivers, beside the loop: who is told must not keep the work.
func (r *repo) runNotices(ctx context.Context) error {
	state := map[string]*retry{}
	for {
		wait := r.deliver(ctx, state)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-r.box.wake:
			t.Stop()
		case <-t.C:
		}
	}
}

// deliver sends what is due, to each notifier in order, and says when to come again.
func (r *repo) deliver(ctx context.Context, state map[string]*retry) time.Duration {
	wait := lastRetry
	stuck := map[string]bool{}
	for _, n := range r.box.owed() {
		for _, to := range n.Owed {
			if ctx.Err() != nil || stuck[to] {
				continue
			}
			now, st := r.opts.Now(), state[to]
			if st == nil {
				st = &retry{}
				state[to] = st
			}
			if r.senders[to] == nil || now.Sub(n.At) > owedFor {
				r.log.Warn("news dropped", "key", n.Key, "notifier", to)
			} else if err := r.send(ctx, n, to, now, st); err != nil {
				wait = min(wait, st.next.Sub(now)) // and what comes later waits for it
				continue
			}
			if err := r.box.settled(n.Key, to); err != nil {
				r.log.Error("news cannot be kept", "error", err)
				stuck[to] = true
			}
		}
	}
	return max(wait, time.Second)
}

// errNotYet says that a notifier is given time.
var errNotYet = errors.New("not yet")

func (r *repo) send(ctx context.Context, n *notice, to string, now time.Time, st *retry) error {
	if st.next.After(now) {
		return errNotYet
	}
	sctx, cancel := context.WithTimeout(ctx, sendPatience)
	defer cancel()
	title := r.conf.Name + ": " + n.Text
	body := map[string]any{
		"event": string(n.News), "repository": r.conf.Name, "commit": n.Commit, "message": n.Text, "time": n.At.UTC(),
		"url": r.page(), "text": title, // the field that chats show
	}
	err := fence.Check(ctx)
	if err == nil {
		err = r.senders[to](sctx, n.Key, title, body)
	}
	if err == nil {
		*st = retry{}
		r.log.Info("told", "key", n.Key, "notifier", to)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	pause := min(lastRetry, firstRetry<<min(st.tries, 20))
	var later *providers.RetryableError
	if errors.As(err, &later) {
		pause = max(pause, later.After)
	}
	st.tries, st.next = st.tries+1, now.Add(pause)
	r.log.Warn("news not delivered", "key", n.Key, "notifier", to, "error", err, "next", pause)
	return err
}
