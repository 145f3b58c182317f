package rollout

import (
	"context"

	"github.com/continuo-ml/continuo/internal/gateway"
)

// Carrier is what Servers are besides when something of the cluster's own carries the requests to the versions, in place of our routers.
// It counts none: steps go by time, and a version is judged by its servers alone.
type Carrier interface {
	// Follow makes the requests go as the routes say, and returns when they do, as read back. An error that matches Unfit says that it is
	// the candidate that does not do.
	Follow(ctx context.Context, routes gateway.Routes, say func(string)) error
	// Holds looks whether they still do, and mends what somebody changed.
	Holds(ctx context.Context, routes gateway.Routes) error
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
