//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// final is an error that asking again cannot mend.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// Final marks err as one for which [Until] does not ask again.
func Final(err error) error { return final{err} }

// Until asks ready ten times a second until it returns nil. It errors with ready's last answer when limit has passed, ctx ends, or the
// answer is [Final].
func Until(ctx context.Context, limit time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last := error(nil)
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		var f final
		if errors.As(err, &f) {
			return f.error
		}
		if last == nil || ctx.Err() == nil { // an answer that the deadline cut off says less than the one before
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready after %s: %w", limit, last)
		case <-tick.C:
		}
	}
}
