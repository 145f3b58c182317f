// Package fence carries, in a context, the question whether this process may still act at all.
//
// A process that was stopped for a while goes on in the middle of whatever it did, and does not know that another one has taken over.
// So what changes something asks right before it does: a commit, a start, a request that writes. It is a question to a clock and a few
// variables, costs nothing, and is no lock: what is under way already is not called back. See docs/adr/0030.
package fence

import (
	"context"
	"errors"
)

// ErrLost: another process may have taken over; nothing may be changed any more.
var ErrLost = errors.New("this process does not lead any more")

// Guard errors with ErrLost when this process may not act.
type Guard func() error

type key struct{}

// With returns a context under which a guard is asked.
func With(ctx context.Context, g Guard) context.Context { return context.WithValue(ctx, key{}, g) }

// Check asks the context's guard; without one, all is allowed.
func Check(ctx context.Context) error {
	if g, ok := ctx.Value(key{}).(Guard); ok && g != nil {
		return g()
	}
	return nil
}
