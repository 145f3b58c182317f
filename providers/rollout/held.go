package rollout

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// resumable adds to the live state of a canary that was held that it has what it waited for, so that the next apply goes on with it. Nobody
// else would: a rollout in a cluster is driven by apply. It costs a few requests, and only while something is held. The words do not move
// with the traffic: a plan rests on them.
func (p Parts) resumable(ctx context.Context, c *kube.Client, f Front, o Objects, s *State, out *providers.Object) error {
	if out.Phase != resource.PhaseRunning || s.Live.Phase != gateway.PhaseHeld || s.Policy.Strategy == gateway.Shadow || s.Live.Candidate == nil {
		return nil
	}
	tally, err := f.counted(ctx, c, p.Key, s)
	if err != nil {
		out.Message += fmt.Sprintf(" (its routers do not say how far it is: %v)", err)
		return nil
	}
	name, ready := f.VersionName(s.Live.Candidate.Number), false
	if len(p.Version) > 0 && o.Get(p.Version[0], name) != nil {
		h, err := p.Health(o, name)
		if err != nil {
			return err
		}
		ready = h.Ready
	}
	move := gateway.Decide(s.Policy, s.Live.Progress, gateway.Observation{Now: p.Now(), Ready: ready, Tally: tally}).Move
	if move == gateway.MoveWait || move == gateway.MoveHold {
		return nil
	}
	at := fmt.Sprintf("%s of %s at %d %%", s.Policy.Strategy, s.Live.Candidate, s.Live.Weight)
	out.Drift = append(out.Drift, providers.Drift{Path: "rollout", Old: at + " waits for traffic", New: at + " has been judged by the requests that came; apply goes on"})
	return nil
}

// counted is what the candidate did since it was held, as the routers tell.
func (f Front) counted(ctx context.Context, c *kube.Client, key []byte, s *State) (gateway.Tally, error) {
	var sum gateway.Tally
	token, err := f.token(key)
	if err != nil {
		return sum, err
	}
	r := &routers{client: c, front: f, token: token}
	pods, err := r.pods(ctx)
	if err != nil {
		return sum, err
	}
	if len(pods) == 0 {
		return sum, errors.New("no router runs")
	}
	for pod := range pods {
		var stats gateway.Stats
		if err := r.ask(ctx, pod, http.MethodGet, "/stats", nil, &stats); err != nil {
			return sum, err
		}
		if stats.Generation == s.Live.Generation {
			sum = sum.Plus(stats.Of(s.Live.Candidate.Number).Tally)
		}
	}
	return sum, nil
}
