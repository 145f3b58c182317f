package rollout

import (
	"context"
	"fmt"

	"github.com/continuo-ml/continuo/internal/gateway"
)

// inPlace gives the servers of a version that serves new pods: another image, command or environment under the same number. The
// Deployment replaces them one by one, each after its successor is ready; when none gets ready, it goes back.
func (r *roll) inPlace(ctx context.Context) error {
	s := r.state
	if s.Live.Candidate != nil {
		if err := r.drop(ctx); err != nil {
			return err
		}
	}
	if r.refusedBefore() {
		return r.rest(ctx)
	}
	r.say("new servers for %s", s.Live.Current)
	err := r.up(ctx)
	why, bad := unfit(err)
	switch {
	case bad:
		r.say("%s: %s; going back", s.Asked, why)
		if err := r.goBack(ctx); err != nil {
			return err
		}
		s.Live.Phase, s.Live.Message = gateway.PhaseFailed, fmt.Sprintf("%s: %s", s.Asked, why)
	case err != nil:
		return err
	default:
		v := s.Asked
		s.Live.Candidate, s.CandidateKey = &v, r.servers.Key()
		if err := r.promote(); err != nil {
			return err
		}
	}
	return r.rest(ctx)
}

// goBack brings the servers back that were good.
func (r *roll) goBack(ctx context.Context) error {
	if len(r.state.Good) == 0 {
		return nil
	}
	_, err := r.servers.Restore(ctx, r.state.Live.Current.Number, r.state.Good, false)
	if why, bad := unfit(err); bad {
		r.say("%s is not back: %s", r.state.Live.Current, why)
		return nil
	}
	return err
}

// restore makes anew what somebody deleted of the version that serves, before another takes over.
func (r *roll) restore(ctx context.Context) error {
	n := r.state.Live.Current.Number
	if n == 0 || len(r.state.Good) == 0 {
		return nil
	}
	did, err := r.servers.Restore(ctx, n, r.state.Good, true)
	if why, bad := unfit(err); bad {
		r.say("%s is not back: %s", r.state.Live.Current, why)
		return nil
	}
	if did {
		r.say("%s was deleted and is made anew", r.state.Live.Current)
	}
	return err
}
