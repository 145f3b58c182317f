package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/providers"
)

func TestWhoAsksForAnHourIsNotWaitedFor(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for after, want := range map[time.Duration]int{0: 3, 20 * time.Millisecond: 3, time.Hour: 1} {
		tried := 0
		err := retry(ctx, RetryPolicy{Attempts: 3, Base: time.Millisecond, Max: 50 * time.Millisecond}, func(error, time.Duration) {}, func() error {
			tried++
			return &providers.RetryableError{Err: errors.New("busy"), After: after}
		})
		if err == nil || ctx.Err() != nil || tried != want {
			t.Errorf("after %s: tried %d times, want %d: %v", after, tried, want, err)
		}
	}
}
