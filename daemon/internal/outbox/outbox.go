// Package outbox keeps what people are to be told until they were: durably, each
// once, and without keeping the work.
package outbox

import (
	"context"
	"errors"
	"log/slog"
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

// News is what people may be told of.
type News string

// Notice is something to tell.
type Notice struct {
	Key    string    `json:"key"` // for ever, so that one that comes twice is known
	News   News      `json:"news"`
	Commit string    `json:"commit,omitempty"`
	Text   string    `json:"text"`
	At     time.Time `json:"at"`
	Owed   []string  `json:"owed"` // notifiers
}

// Kept is what outlives the daemon.
type Kept struct {
	// Told are the subjects of the last news, by kind, as long as they last.
	Told  map[News]string `json:"told,omitempty"`
	Begun *Begun          `json:"begun,omitempty"`
	Owed  []*Notice       `json:"owed,omitempty"` // the oldest first
	Count int             `json:"count,omitempty"`
}

// Begun is a plan that runs, or whose end nobody saw.
type Begun struct {
	Commit string `json:"commit"`
	Counts string `json:"counts"`
}

// IsNews says whether a subject is another than the one told last, and notes it.
func (k *Kept) IsNews(what News, subject string) bool {
	if k.Told[what] == subject {
		return false
	}
	if k.Told == nil {
		k.Told = map[News]string{}
	}
	k.Told[what] = subject
	return true
}

func (k *Kept) clone() *Kept {
	c := &Kept{Told: maps.Clone(k.Told), Begun: k.Begun, Count: k.Count}
	for _, n := range k.Owed {
		copied := *n
		copied.Owed = slices.Clone(n.Owed)
		c.Owed = append(c.Owed, &copied)
	}
	return c
}

// Send delivers a notice by one notifier. It errors with
// providers.RetryableError when it should be tried later.
type Send func(ctx context.Context, n *Notice) error

// Options are what an outbox needs of its owner.
type Options struct {
	// Pen is taken while the file is written, and put down after it; it errors when this
	// process may not write any more.
	Pen func() (put func() error, err error)
	// Senders deliver, by the name of the notifier.
	Senders map[string]Send
	Log     *slog.Logger
	Now     func() time.Time
}

// Outbox is one file of what is to be told.
type Outbox struct {
	opts Options
	file string
	wake chan struct{}

	mu   sync.Mutex
	kept *Kept
}

// Open reads the outbox of a folder, empty at first.
func Open(dir string, opts Options) (*Outbox, error) {
	o := &Outbox{opts: opts, file: filepath.Join(dir, "news.json"), wake: make(chan struct{}, 1)}
	return o, o.Reread()
}

// Reread takes over what another process has kept in the meantime.
func (o *Outbox) Reread() error {
	k := &Kept{}
	if _, err := durable.ReadJSON(o.file, k); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = k
	return nil
}

// Change changes what is kept, durably, and has what is owed delivered; when it
// cannot be kept it stays as it was.
func (o *Outbox) Change(do func(*Kept)) error {
	err := o.change(do)
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return err
}
func (o *Outbox) change(do func(*Kept)) error {
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
	put, err := o.opts.Pen()
	if err != nil {
		return err
	}
	if err := errors.Join(durable.WriteJSON(o.file, next), put()); err != nil {
		return err
	}
	o.kept = next
	return nil
}

// Owed gives copies of what is to be told, the oldest first.
func (o *Outbox) Owed() []*Notice {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.kept.clone().Owed
}

// settled notes that a notice is no longer owed to somebody.
func (o *Outbox) settled(key, to string) error {
	return o.change(func(k *Kept) {
		for _, n := range k.Owed {
			if n.Key == key {
				n.Owed = slices.DeleteFunc(n.Owed, func(name string) bool { return name == to })
			}
		}
		k.Owed = slices.DeleteFunc(k.Owed, func(n *Notice) bool { return len(n.Owed) == 0 })
	})
}

// retry is when a notifier that was not reached is tried again.
type retry struct {
	tries int
	next  time.Time
}

// Run delivers until ctx ends.
func (o *Outbox) Run(ctx context.Context) error {
	state := map[string]*retry{}
	for {
		wait := o.deliver(ctx, state)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-o.wake:
			t.Stop()
		case <-t.C:
		}
	}
}

// deliver sends what is due, to each notifier in order, and says when to come again.
func (o *Outbox) deliver(ctx context.Context, state map[string]*retry) time.Duration {
	wait := lastRetry
	stuck := map[string]bool{}
	for _, n := range o.Owed() {
		for _, to := range n.Owed {
			if ctx.Err() != nil || stuck[to] {
				continue
			}
			now, st := o.opts.Now(), state[to]
			if st == nil {
				st = &retry{}
				state[to] = st
			}
			if o.opts.Senders[to] == nil || now.Sub(n.At) > owedFor {
				o.opts.Log.Warn("news dropped", "key", n.Key, "notifier", to)
			} else if err := o.send(ctx, n, to, now, st); err != nil {
				wait = min(wait, st.next.Sub(now)) // and what comes later waits for it
				continue
			}
			if err := o.settled(n.Key, to); err != nil {
				o.opts.Log.Error("news cannot be kept", "error", err)
				stuck[to] = true
			}
		}
	}
	return max(wait, time.Second)
}

// errNotYet says that a notifier is given time.
var errNotYet = errors.New("not yet")

func (o *Outbox) send(ctx context.Context, n *Notice, to string, now time.Time, st *retry) error {
	if st.next.After(now) {
		return errNotYet
	}
	sctx, cancel := context.WithTimeout(ctx, sendPatience)
	defer cancel()
	err := fence.Check(ctx)
	if err == nil {
		err = o.opts.Senders[to](sctx, n)
	}
	if err == nil {
		*st = retry{}
		o.opts.Log.Info("told", "key", n.Key, "notifier", to)
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
	o.opts.Log.Warn("news not delivered", "key", n.Key, "notifier", to, "error", err, "next", pause)
	return err
}
