package kserve

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/rollout"
)

// Follow implements rollout.Carrier. What it returns on is read back from all that has a say: the entry's status, the HTTPRoute with its
// controller's word, the Gateway's proxies, the candidate's pods and its golden answer.
func (s *staged) Follow(ctx context.Context, routes gateway.Routes, say func(string)) error {
	if routes.Current == nil {
		return nil
	}
	g, err := s.gate(ctx)
	if err != nil {
		return err
	}
	if c := routes.Candidate; c != nil && s.nested.Golden != nil && g.base != "" && !s.forced {
		if err := s.dark(ctx, g, routes, say); err != nil {
			return err
		}
	}
	if err := s.percent(ctx, routes); err != nil {
		return err
	}
	if err := s.divide(ctx, g, routes, say); err != nil {
		return err
	}
	if routes.Candidate == nil || routes.Weight == 0 {
		return nil
	}
	say(fmt.Sprintf("the Gateway has: version %d: %d %%, version %d: %d %%", routes.Current.Version, 100-routes.Weight, routes.Candidate.Version, routes.Weight))
	if err := s.readBack(ctx); err != nil {
		return err
	}
	if s.nested.Golden == nil || g.base == "" || s.forced {
		return nil
	}
	return g.golden(ctx, s.nested.Golden, routes.Candidate.Version)
}

// dark has the candidate asked through the Gateway before any client's request goes there.
func (s *staged) dark(ctx context.Context, g gate, routes gateway.Routes, say func(string)) error {
	u, err := s.client.Get(ctx, s.routeRef())
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return err
	}
	if err == nil {
		got, err := rollout.RoutedBy(u, s.way.Ref(s.Namespace))
		if _, known := got.Weights[s.serversOf(routes.Candidate.Version)+":80"]; err != nil || known {
			return err // it was asked when it got there
		}
	}
	routes.Weight = 0
	if err := s.divide(ctx, g, routes, say); err != nil {
		return err
	}
	return g.golden(ctx, s.nested.Golden, routes.Candidate.Version)
}

// percent has the service say what the candidate gets, and waits until KServe has seen it.
func (s *staged) percent(ctx context.Context, routes gateway.Routes) error {
	at, err := s.now(ctx)
	if err != nil || at.canary == nil {
		return err
	}
	want := int64(0)
	switch nameOf(at.canary) {
	case variant(routes.Current.Version):
		want = 100 // it takes over
	case s.candidate(routes):
		want = int64(routes.Weight)
	}
	if at.percent != want {
		at.percent = want
		if err := s.write(ctx, at.stages, at); err != nil {
			return err
		}
	}
	name := nameOf(at.canary)
	return s.until(ctx, staysWithin, fmt.Sprintf("InferenceService %s to have %d %% for %s in its status", s.name, want, name), func() (bool, error) {
		u, err := s.client.Get(ctx, s.ref())
		if err != nil {
			return false, err
		}
		list, err := sharesIn(u)
		return slices.ContainsFunc(list, func(x share) bool { return x.Name == name && x.Percent == want }), err
	})
}

func (s *staged) candidate(routes gateway.Routes) string {
	if routes.Candidate == nil {
		return ""
	}
	return variant(routes.Candidate.Version)
}

func (s *staged) routeRef() kube.Ref {
	return kube.Ref{Group: gvkRoute.Group, Version: gvkRoute.Version, Kind: gvkRoute.Kind, Namespace: s.Namespace, Name: s.Name}
}

// divide writes the HTTPRoute and returns when the Gateway follows it: its controller has accepted what was written, and its proxies say so. Where
// those cannot be asked they get the time that a request in flight has.
func (s *staged) divide(ctx context.Context, g gate, routes gateway.Routes, say func(string)) error {
	u, err := s.httpRoute(s.way, routes)
	if err != nil {
		return err
	}
	if _, err := s.Apply(ctx, s.client, u); err != nil {
		var missing *kube.MissingKindError
		if errors.As(err, &missing) {
			return fmt.Errorf("kserve.canary: the cluster has no Gateway API (%w)", err)
		}
		return err
	}
	gw, why := s.way.Ref(s.Namespace), ""
	err = s.until(ctx, rollout.RoutedWithin, "", func() (bool, error) {
		u, err := s.client.Get(ctx, s.routeRef())
		if err != nil {
			return false, err
		}
		got, err := rollout.RoutedBy(u, gw)
		if err == nil && !maps.Equal(got.Weights, s.weights(routes)) {
			err = fmt.Errorf("HTTPRoute %s has the weights %v, and not %v: somebody else writes it", s.Name, got.Weights, s.weights(routes))
		}
		if got.Why != "" && got.Why != why {
			say(s.Name + ": " + got.Why)
		}
		why = got.Why
		return got.Accepted, err
	})
	if err != nil && strings.HasPrefix(err.Error(), "waited ") {
		if why == "" {
			why = "no controller has looked at it: " + rollout.GatewayWord(ctx, s.client, gw)
		}
		err = fmt.Errorf("HTTPRoute %s/%s is not accepted by %s after %s: %s", s.Namespace, s.Name, gw, rollout.RoutedWithin, why)
	}
	if err != nil {
		return err
	}
	if g.base == "" {
		say("where the Gateway answers is not known; its proxies get " + s.Drain.String() + " to follow (kserve { route { address } } says it)")
		return rest(ctx, s.Drain)
	}
	return g.follows(ctx, s.way.Path, stamp(routes), say)
}

// Holds implements rollout.Carrier.
func (s *staged) Holds(ctx context.Context, routes gateway.Routes) error {
	if routes.Current == nil {
		return nil
	}
	u, err := s.client.Get(ctx, s.routeRef())
	if err == nil {
		got, err := rollout.RoutedBy(u, s.way.Ref(s.Namespace))
		if err != nil || maps.Equal(got.Weights, s.weights(routes)) && got.Why == "" {
			return err
		}
		if got.Why != "" {
			return fmt.Errorf("HTTPRoute %s/%s: %s", s.Namespace, s.Name, got.Why)
		}
	} else if !errors.Is(err, kube.ErrNotFound) {
		return err
	}
	if u, err = s.httpRoute(s.way, routes); err != nil {
		return err
	}
	_, err = s.Apply(ctx, s.client, u)
	return err
}
