package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/internal/forge"
)

// tidings are what the forge is to be told of commits: the last word on each. They
// wait while it is away, and the work does not wait for them.
type tidings struct {
	mu    sync.Mutex
	wake  chan struct{}
	order []string // commits, those told of first in front
	words map[string]forge.Status
}

// maxTidings is how many commits wait at most; the oldest are given up.
const maxTidings = 20

func newTidings() *tidings {
	return &tidings{wake: make(chan struct{}, 1), words: map[string]forge.Status{}}
}

func (t *tidings) put(commit string, s forge.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, waits := t.words[commit]; !waits {
		if t.order = append(t.order, commit); len(t.order) > maxTidings {
			delete(t.words, t.order[0])
			t.order = t.order[1:]
		}
	}
	t.words[commit] = s
	poke(t.wake)
}

func (t *tidings) first() (commit string, s forge.Status, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) == 0 {
		return "", forge.Status{}, false
	}
	return t.order[0], t.words[t.order[0]], true
}

// told takes a commit's word out, unless there is a newer one.
func (t *tidings) told(commit string, s forge.Status) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.words[commit] == s {
		delete(t.words, commit)
		t.order = slices.DeleteFunc(t.order, func(c string) bool { return c == commit })
	}
}

// commitStatus tells the forge how a commit is, by and by: the overview says it at once.
func (r *repo) commitStatus(_ context.Context, commit string, st forge.State, says string) {
	if r.forge != nil {
		r.tidings.put(commit, forge.Status{State: st, Context: r.context(), Text: says, URL: r.page()})
	}
}

// runTell tells the forge what waits to be told. Forges that are away are asked
// again after the interval, those that want no more requests when they say.
func (r *repo) runTell(ctx context.Context) error {
	for {
		if err := r.tell(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("commit status", "error", err)
			if err := pause(ctx, jitter(r.conf.Interval)); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.tidings.wake:
		}
	}
}

func (r *repo) tell(ctx context.Context) error {
	for {
		if err := r.peace(ctx); err != nil {
			return err
		}
		commit, s, ok := r.tidings.first()
		if !ok {
			return nil
		}
		sctx, cancel := context.WithTimeout(ctx, r.patience())
		err := r.forge.SetStatus(sctx, commit, s)
		cancel()
		if r.forgeSays(err); err != nil && away(err) {
			return err
		}
		if err != nil { // it does not want this one, now or ever
			r.log.Warn("commit status", "commit", commit, "error", err)
		}
		r.tidings.told(commit, s)
	}
}

// away says whether an error is about the forge, so that asking for other things is of no use now.
func away(err error) bool {
	var limited *forge.RateLimitedError
	var unavailable *forge.UnavailableError
	return errors.As(err, &limited) || errors.As(err, &unavailable) || errors.Is(err, context.DeadlineExceeded)
}

// forgeSays notes what the last request to the forge came to, for people and for the next request.
func (r *repo) forgeSays(err error) {
	var limited *forge.RateLimitedError
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.As(err, &limited) && limited.Until.After(r.quiet) {
		r.quiet = limited.Until
	}
	r.status.ForgeError = status.ErrorText(err, 5)
}

// peace waits until the forge takes requests again, if it said that it takes none. Webhooks do not cut it short.
func (r *repo) peace(ctx context.Context) error {
	r.mu.Lock()
	left := r.quiet.Sub(r.opts.Now())
	r.mu.Unlock()
	if left <= 0 {
		return nil
	}
	return pause(ctx, left)
}
