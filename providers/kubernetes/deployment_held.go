package kubernetes

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
func (d *deployment) resumable(ctx context.Context, c *kube.Client, f front, g group, o *providers.Object) error {
	if o.Phase != resource.PhaseRunning {
		return nil
	}
	s, err := rolloutOf(g.get(gvkConfigMap, f.Name))
	if err != nil || s.Live.Phase != gateway.PhaseHeld || s.Policy.Strategy == gateway.Shadow || s.Live.Candidate == nil {
		return err
	}
	tally, err := d.counted(ctx, c, f, s)
	if err != nil {
		o.Message += fmt.Sprintf(" (its routers do not say how far it is: %v)", err)
		return nil
	}
	u := g.get(gvkDeployment, f.versionName(s.Live.Candidate.Number))
	move := gateway.Decide(s.Policy, s.Live.Progress, gateway.Observation{Now: d.now(), Ready: u != nil && kube.Ready(u).Ready, Tally: tally}).Move
	if move == gateway.MoveWait || move == gateway.MoveHold {
		return nil
	}
	at := fmt.Sprintf("%s of %s at %d %%", s.Policy.Strategy, s.Live.Candidate, s.Live.Weight)
	o.Drift = append(o.Drift, providers.Drift{Path: "rollout", Old: at + " waits for traffic", New: at + " has been judged by the requests that came; apply goes on"})
	return nil
}

// counted is what the candidate did since it was held, as the routers tell.
func (d *deployment) counted(ctx context.Context, c *kube.Client, f front, s *rollout) (gateway.Tally, error) {
	var sum gateway.Tally
	token, err := d.token(f)
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
