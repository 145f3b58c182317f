package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// Condition is one of an object's status.conditions.
type Condition struct {
	Type   string
	Status string // "" = True
}

// Awaited is an object that is waited for.
type Awaited struct {
	Ref
	// Condition, when its type is not "", is waited for; otherwise it is what makes an object of its kind ready ([Ready]).
	Condition Condition
}

// judge is how far the object is.
func (a Awaited) judge(u *unstructured.Unstructured) Readiness {
	if a.Condition.Type == "" {
		return Ready(u)
	}
	want := a.Condition.Status
	if want == "" {
		want = "True"
	}
	if seen, found, err := unstructured.NestedInt64(u.Object, "status", "observedGeneration"); err == nil && found && seen < u.GetGeneration() {
		return Readiness{Message: fmt.Sprintf("its controller has seen generation %d, not yet %d", seen, u.GetGeneration())}
	}
	for _, c := range conditions(u) {
		switch {
		case c.kind != a.Condition.Type:
		case strings.EqualFold(c.status, want):
			return Readiness{Ready: true}
		default:
			return Readiness{Message: fmt.Sprintf("condition %s is %s, not %s: %s", c.kind, c.status, want, c.why())}
		}
	}
	return Readiness{Message: "it has no condition " + a.Condition.Type + " yet"}
}

// waiting is one object of a Wait.
type waiting struct {
	Awaited
	done  bool
	said  string
	cause Cause
	since time.Time // when the cause was first seen
	next  time.Time // of the next diagnosis
	pods  Watched
}

// Wait returns when all objects are ready ([Ready]). It ends early with a [CauseError] when the pods of one cannot work, and at
// the deadline with what each that is not ready says of itself. An object that is deleted meanwhile is an error, too. onProgress, if
// not nil, is told of every change.
func (c *Client) Wait(ctx context.Context, refs []Ref, within time.Duration, onProgress func(Progress)) error {
	all := make([]Awaited, len(refs))
	for i, r := range refs {
		all[i].Ref = r
	}
	return c.Await(ctx, all, within, onProgress)
}

// Await is [Client.Wait] for conditions, too.
func (c *Client) Await(ctx context.Context, list []Awaited, within time.Duration, onProgress func(Progress)) error {
	if onProgress == nil {
		onProgress = func(Progress) {}
	}
	all := make([]*waiting, len(list))
	for i, a := range list {
		all[i] = &waiting{Awaited: a}
	}
	hang := func(ctx context.Context) *Bell { return c.bellOf(ctx, all) }
	err := poll(ctx, within, hang, func(ctx context.Context, bell *Bell) (bool, error) {
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
		bell.Hurry(0)
		if slices.ContainsFunc(all, func(w *waiting) bool { return !w.done && w.cause.Code != "" }) {
			bell.Hurry(lookEvery) // it may have lasted for long enough
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

// bellOf rings when one of those that are left moves, or a pod of one that is alone. Of many of a type, whatever is ours of that type is
// watched.
func (c *Client) bellOf(ctx context.Context, all []*waiting) *Bell {
	types := map[Watched][]Watched{}
	var out []Watched
	for _, w := range all {
		if w.done {
			continue
		}
		of := Watched{Kind: w.GVK(), Namespace: w.Namespace, Selector: ours, Metadata: true}
		types[of] = append(types[of], One(w.Ref))
		if pods, ok := w.pods, w.pods.Selector != (Selector{}); ok && len(all) == 1 {
			out = append(out, pods)
		}
	}
	for of, each := range types {
		if len(each) > few {
			each = []Watched{of}
		}
		out = append(out, each...)
	}
	return c.Bell(ctx, out...)
}

// look reads one object and tells what it sees.
func (c *Client) look(ctx context.Context, w *waiting, tell func(Progress)) error {
	u, err := c.Get(ctx, w.Ref)
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("wait for %s: it was deleted meanwhile: %w", w.Ref, err)
	}
	if err != nil {
		return err
	}
	r := w.judge(u)
	if r.Ready {
		w.done = true
		tell(Progress{Ref: w.Ref, Ready: true})
		return nil
	}
	w.pods, _ = PodsOf(u)
	if err := c.causeOf(ctx, w, u); err != nil {
		return err
	}
	message := r.Message
	if w.cause.Code != "" {
		message = w.cause.String()
	}
	if message != w.said {
		w.said = message
		tell(Progress{Ref: w.Ref, Message: message})
	}
	if r.Failed && w.cause.Code == "" {
		return &CauseError{Ref: w.Ref, Cause: Cause{Code: CauseFailed, On: strings.ToLower(w.Kind) + " " + w.Name, Message: r.Message}}
	}
	return nil
}

// causeOf ends the wait once a cause has lasted for as long as it may.
func (c *Client) causeOf(ctx context.Context, w *waiting, u *unstructured.Unstructured) error {
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
		return &CauseError{Ref: w.Ref, Cause: cause}
	}
	return nil
}

func (w *waiting) late() string {
	what := w.said
	if what == "" {
		what = "nothing is known of it"
	}
	return fmt.Sprintf("%s: %s", w.Ref, what)
}
