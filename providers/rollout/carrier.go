package rollout

import (
	"context"
	"encoding/json"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/gateway"
)

// Carrier is what Servers are besides when something of the cluster's own carries the requests to the versions, in place of our routers.
// It counts none: steps go by time, and a version is judged by its servers alone.
type Carrier interface {
	// Follow makes the requests go as the routes say, and returns when they do, as read back. An error that matches Unfit says that it is
	// the candidate that does not do.
	Follow(ctx context.Context, routes gateway.Routes, say func(string)) error
	// Carries is the object that does so. Nothing is changed.
	Carries(routes gateway.Routes) (*unstructured.Unstructured, error)
	// Holds looks whether they still do, and mends what somebody changed.
	Holds(ctx context.Context, routes gateway.Routes) error
}

// Returner is what Servers are besides when one object holds all versions ([Front.Single]): once a version is taken back, that object still
// asks for it.
type Returner interface {
	// GoBack makes the object ask again for version number, as good says. That version serves before, meanwhile and after.
	GoBack(ctx context.Context, number int, good json.RawMessage, say func(string)) error
}

// giveBack has an object that holds all versions ask for the one that serves, when that is not the one that was asked for. What does not
// come up is told: the version serves all the same.
func (r *roll) giveBack(ctx context.Context) error {
	back, ok := r.servers.(Returner)
	s := r.state
	if !ok || s.Live.Candidate != nil || s.Live.Current.Number == 0 || len(s.Good) == 0 || r.serves() {
		return nil
	}
	err := back.GoBack(ctx, s.Live.Current.Number, s.Good, r.tell)
	if why, bad := unfit(err); bad {
		r.say("%s serves, but is not made anew: %s", s.Live.Current, why)
		return nil
	}
	return err
}

// traffic is what carries the requests and, if it can, counts them.
type traffic interface {
	// spread makes all that carries requests follow the routes, and returns when it does.
	spread(ctx context.Context, routes gateway.Routes) error
	// offer does so without waiting. late is why something that should follow does not yet.
	offer(ctx context.Context, routes gateway.Routes) (late, err error)
	// reach returns when what carries requests gets to a version's address.
	reach(ctx context.Context, address string) error
	tally(version int) gateway.Tally
	inFlight(version int) int64
	versions() []int
	shadow() *gateway.Comparison
}

// carried is the traffic of a Carrier.
type carried struct {
	Carrier
	say func(string)
}

func (c carried) spread(ctx context.Context, routes gateway.Routes) error {
	return c.Follow(ctx, routes, c.say)
}

func (c carried) offer(ctx context.Context, routes gateway.Routes) (late, err error) {
	return nil, c.Holds(ctx, routes)
}

// reach has nothing to try: who carries requests finds the servers itself.
func (carried) reach(context.Context, string) error { return nil }

func (carried) tally(int) gateway.Tally     { return gateway.Tally{} }
func (carried) inFlight(int) int64          { return 0 }
func (carried) versions() []int             { return nil }
func (carried) shadow() *gateway.Comparison { return nil }
