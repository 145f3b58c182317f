package gateway

import (
	"slices"
	"strings"
	"sync/atomic"
)

// explainSuffix ends the path of a request for an explanation, in KServe's protocol.
const explainSuffix = ":explain"

// route is one state of the traffic: immutable but for its counter, replaced
// as a whole. candidate gets weight percent, current the rest.
type route struct {
	current   *release
	candidate *release
	weight    int
	mirror    *mirror // copies go there while a shadow rollout runs; else nil
	n         atomic.Int64
}

// toCandidate says where the next request goes. Evenly spaced by count rather
// than drawn by chance, so the share is right for ten requests as for ten
// million: request i goes there when floor(i·w/100) moves.
func (t *route) toCandidate() bool {
	if t.candidate == nil || t.weight <= 0 {
		return false
	}
	i := t.n.Add(1)
	w := int64(t.weight)
	return i*w/100 > (i-1)*w/100
}

// router holds the present route.
type router struct {
	route    atomic.Pointer[route]
	inflight atomic.Int64
}

func newRouter() *router {
	rt := &router{}
	rt.route.Store(&route{})
	return rt
}

// side says who has decided between the versions.
type side int

const (
	byWeight    side = iota // nobody: the route's weight does
	toCurrent               // whoever stands before the router
	toCandidate             // likewise; without a candidate that takes requests it is the current version
)

// acquire chooses a server that is ready and not in tried, and enters it. It
// returns nil when there is none. A candidate without a ready server counts
// as a failed request of the candidate, and the current version answers.
func (rt *router) acquire(tried []*upstream, to side) (*upstream, *route) {
	for {
		t := rt.route.Load()
		first, second := t.current, t.candidate
		if t.weight <= 0 {
			second = nil
		}
		if len(tried) == 0 && second != nil && (to == toCandidate || to == byWeight && t.toCandidate()) {
			first, second = second, first
		}
		for _, r := range []*release{first, second} {
			if r == nil {
				continue
			}
			if u := r.acquire(tried); u != nil {
				return u, t
			}
			if r == t.candidate && len(tried) == 0 {
				r.missed()
			}
		}
		// The release may have begun to drain just now: then there is a newer
		// route, and it has a server.
		if t == rt.route.Load() {
			return nil, t
		}
	}
}

// explains is u, or for a request for an explanation one of its release's that explain; nil when those drain.
func (u *upstream) explains(path string, tried []*upstream) *upstream {
	r := u.release
	if len(r.explain) == 0 || !strings.HasSuffix(path, explainSuffix) {
		return u
	}
	u.leave()
	return r.enter(r.explain, tried)
}

// acquire enters one of the release's ready servers, in turn.
func (r *release) acquire(tried []*upstream) *upstream { return r.enter(*r.ready.Load(), tried) }

func (r *release) enter(ready, tried []*upstream) *upstream {
	if len(ready) == 0 {
		return nil
	}
	start := int(r.turn.Add(1) % uint64(len(ready)))
	for i := range ready {
		u := ready[(start+i)%len(ready)]
		if !slices.Contains(tried, u) && u.enter() {
			return u
		}
	}
	return nil
}
