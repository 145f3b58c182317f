package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Progress is what a wait sees of one object.
type Progress struct {
	Ref     Ref
	Ready   bool
	Message string
}

// CauseError ends a wait early: the object cannot become ready by itself.
type CauseError struct {
	Ref   Ref
	Cause Cause
}

// Error implements error.
func (e *CauseError) Error() string { return fmt.Sprintf("%s cannot work: %s", e.Ref, e.Cause) }

// ErrNotReady matches the end of a wait that ran out of time.
var ErrNotReady = errors.New("not ready")

// lookEvery is the least time between two diagnoses of one object: each costs two lists.
const lookEvery = 2 * time.Second

// waiting is one object of a Wait.
type waiting struct {
	ref   Ref
	done  bool
	said  string
	cause Cause
	since time.Time // when the cause was first seen
	next  time.Time // of the next diagnosis
}

// Wait returns when all objects are ready ([Ready]). It ends early with a [CauseError] when the pods of one cannot work, and at
// the deadline with what each that is not ready says of itself. An object that is deleted meanwhile is an error, too. onProgress, if
// not nil, is told of every change.
func (c *Client) Wait(ctx context.Context, refs []Ref, within time.Duration, onProgress func(Progress)) error {
	if onProgress == nil {
		onProgress = func(Progress) {}
	}
	all := make([]*waiting, len(refs))
	for i, r := range refs {
		all[i] = &waiting{ref: r}
	}
	err := poll(ctx, within, func(ctx context.Context) (bool, error) {
		done := true
		for _, w := range all {
			if w.done {
				continue
			}
			if err := c.look(ctx, w, onProgress); err != nil {
				return false, err
			}
			done = done && w.done
		}
		return done, nil
	})
	var again *Retryable
	if !errors.Is(err, errLate) && !errors.As(err, &again) {
		return err
	}
	var left []string
	for _, w := range all {
		if !w.done {
			left = append(left, w.late())
		}
	}
	late := fmt.Errorf("%w after %s: %s", ErrNotReady, within, strings.Join(left, "; "))
	if again != nil {
		return &Retryable{Err: errors.Join(late, again.Err), After: again.After}
	}
	return late
}

// look reads one object and tells what it sees.
func (c *Client) look(ctx context.Context, w *waiting, tell func(Progress)) error {
	u, err := c.Get(ctx, w.ref)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("wait for %s: it was deleted meanwhile: %w", w.ref, err)
	}
	if err != nil {
		return err
	}
	r := Ready(u)
	if r.Ready {
		w.done = true
		tell(Progress{Ref: w.ref, Ready: true})
		return nil
	}
	if err := c.judge(ctx, w, u); err != nil {
		return err
	}
	message := r.Message
	if w.cause.Code != "" {
		message = w.cause.String()
	}
	if message != w.said {
		w.said = message
		tell(Progress{Ref: w.ref, Message: message})
	}
	if r.Failed && w.cause.Code == "" {
		return &CauseError{Ref: w.ref, Cause: Cause{Code: CauseFailed, On: strings.ToLower(w.ref.Kind) + " " + w.ref.Name, Message: r.Message}}
	}
	return nil
}

// judge ends the wait once a cause has lasted for as long as it may.
func (c *Client) judge(ctx context.Context, w *waiting, u *unstructured.Unstructured) error {
	if time.Now().Before(w.next) {
		return nil
	}
	w.next = time.Now().Add(lookEvery)
	cause, ok, err := c.Diagnose(ctx, u)
	if err != nil {
		return err
	}
	switch {
	case !ok:
		w.cause = Cause{}
	case cause.Code != w.cause.Code:
		w.cause, w.since = cause, time.Now()
	default:
		w.cause = cause
	}
	if ok && time.Since(w.since) >= cause.Patience {
		return &CauseError{Ref: w.ref, Cause: cause}
	}
	return nil
}

func (w *waiting) late() string {
	what := w.said
	if what == "" {
		what = "nothing is known of it"
	}
	return fmt.Sprintf("%s: %s", w.ref, what)
}
