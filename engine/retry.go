package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/continuo-ml/continuo/providers"
)

// RetryPolicy says how often and how patiently a retryable error is tried again.
type RetryPolicy struct {
	Attempts int           // in all; 0 = 5
	Base     time.Duration // first wait; 0 = 200 ms
	Max      time.Duration // longest wait; 0 = 30 s
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	if p.Attempts == 0 {
		p.Attempts = 5
	}
	if p.Base == 0 {
		p.Base = 200 * time.Millisecond
	}
	if p.Max == 0 {
		p.Max = 30 * time.Second
	}
	return p
}

// retry calls fn again while it fails with a RetryableError, waiting longer
// each time, with jitter of ±20 % so that many callers do not come back at once.
// Who asks for more time than the longest wait is believed, and not waited for.
// tell is told of each wait.
func retry(ctx context.Context, p RetryPolicy, tell func(err error, wait time.Duration), fn func() error) error {
	p = p.withDefaults()
	wait := p.Base
	for attempt := 1; ; attempt++ {
		err := fn()
		var again *providers.RetryableError
		if err == nil || attempt >= p.Attempts || !errors.As(err, &again) || again.After > p.Max {
			return err
		}
		pause := time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64()))
		pause = max(pause, again.After)
		tell(err, pause)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		case <-timer.C:
		}
		wait = min(2*wait, p.Max)
	}
}
