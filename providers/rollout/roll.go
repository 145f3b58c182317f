// Package rollout serves model versions in a cluster behind routers of our own, and rolls them out by the gateway's rollout machine.
//
// [Run] is one operation: it keeps where the rollout is in the deployment's ConfigMap beside the routes, has [Servers] bring the new
// version up, moves weights, reads what the routers counted, and lets the machine decide. When it dies the weights stay as they are
// and the next call goes on from there. How the servers of a version run is the affair of the provider, through Servers.
package rollout

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
)

// Servers is how a provider runs the servers of model versions. All methods but URL are about the version that is wanted.
type Servers interface {
	// Key is the same for versions that the same servers serve.
	Key() string
	// Up makes the objects of the version, returns when its servers are ready, and where they answer ("http://HOST[:PORT]"). An
	// error that matches Unfit says that it is the version that cannot be had.
	Up(ctx context.Context, say func(string)) (url string, err error)
	// Objects are those that Up makes, but for Secrets. Nothing is changed.
	Objects(ctx context.Context) ([]*unstructured.Unstructured, error)
	// Check looks whether the servers are still ready, and whether somebody deleted them.
	Check(ctx context.Context) (ready, gone bool, err error)
	// Good is what Restore needs to bring these very servers back.
	Good() (json.RawMessage, error)
	// Restore makes the servers of version number what good says, all of them or, with onlyMissing, if some of it was deleted, and
	// waits until they are ready. It reports whether it did anything.
	Restore(ctx context.Context, number int, good json.RawMessage, onlyMissing bool) (bool, error)
	// Sweep deletes the objects of all versions but these. Nobody asks them any more: their pods may end in their own time.
	Sweep(ctx context.Context, keep []int, say func(string)) error
}

// Explainer is what Servers are besides when a version may have a server of its own for explanations.
type Explainer interface {
	// Explain is where it answers, as Up tells it of the version; "" when there is none.
	Explain() string
}

// Request is one operation on a deployment.
type Request struct {
	Client *kube.Client
	Front  Front
	Key    []byte // the project's
	OpID   string
	Adopt  bool // go on with an operation that has begun, and begin none
	Asked  gateway.Version
	Force  bool
	Policy gateway.Rollout
	// Capture and Sink are what routers do with answers.
	Capture gateway.Capture
	Sink    *gateway.Sink
	Now     func() time.Time
	// Say is told what goes on.
	Say func(string)
	// Resolve is called once in an operation, before anything is made. What it returns is kept: the operation goes on with it after a
	// crash, whatever a tag stands for by then. runner is the image that holds this program as /ml, as pods pull it.
	Resolve func(ctx context.Context) (resolved json.RawMessage, runner string, err error)
	// Servers runs what was resolved. secret is known to nobody but this deployment, for digests that tell nothing.
	Servers func(resolved json.RawMessage, secret string) (Servers, error)
}

// Unfit marks an error as the version's own: another version may be had.
type Unfit struct{ Reason string }

// Error implements error.
func (e *Unfit) Error() string { return e.Reason }

// roll is one operation at work.
type roll struct {
	Request
	state   *State
	servers Servers
	route   traffic
	said    string
	// requests are those of a held step at the last look at which there were more, grew when that was.
	requests int64
	grew     time.Time
}

// Run brings the deployment to rest: the version that is asked for serves, or was taken back, or is held. A cancelled ctx leaves the
// weights as they are. The state is not nil once the operation was noted in the cluster.
func Run(ctx context.Context, req Request) (*State, error) {
	r := &roll{Request: req}
	var err error
	if r.state, err = load(ctx, r.Client, r.Front); err != nil {
		return nil, err
	}
	mine := r.state != nil && r.state.Op == req.OpID
	if req.Adopt && !mine {
		return nil, fmt.Errorf("operation %s: %w", req.OpID, providers.ErrAbsent)
	}
	if !mine {
		if err := r.ask(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.prepare(ctx); err != nil {
		return r.state, err
	}
	return r.state, r.drive(ctx)
}

// liveOf is the state as status and results read it.
func (f Front) liveOf(s *State) gateway.Live {
	l := s.Live
	l.Name, l.Address, l.Endpoint = f.Name, f.Address.String(), f.endpoint()
	if !f.Carried {
		l.Admin = f.admin()
	}
	return l
}

// say tells what goes on, each message once.
func (r *roll) say(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); text != r.said {
		r.said = text
		r.Say(text)
	}
}

func (r *roll) tell(text string) { r.say("%s", text) }

// ask resolves what this operation wants and notes it, so that a second call under its id goes on with the same.
func (r *roll) ask(ctx context.Context) error {
	if err := r.Policy.Validate(); err != nil {
		return err
	}
	resolved, runner, err := r.Resolve(ctx)
	if err != nil {
		return err
	}
	if r.state == nil && r.Front.Carried {
		r.state = &State{}
	}
	if r.state == nil {
		r.state = &State{}
		// Routers that outlived their ConfigMap do not go back to a lower generation.
		if r.state.Live.Generation, err = r.leftover(ctx); err != nil {
			return err
		}
	}
	s := r.state
	// Whoever edited the routes may have given them a number that routers follow by now.
	s.Live.Generation = max(s.Live.Generation, s.saved.Generation)
	if s.Live.Candidate != nil && !samePolicy(r.Policy, s.Policy) {
		// A new policy judges from the step that it finds.
		s.Live.Progress.StepStarted, s.Live.Progress.Holding = time.Time{}, false
	}
	s.Live.Phase, s.Live.Message = gateway.PhaseRolling, "" // no longer at rest
	s.Op, s.Asked, s.Forced, s.Policy = r.OpID, r.Asked, r.Force, r.Policy
	s.Runner, s.Resolved = runner, resolved
	s.Routed = s.Routed || r.Front.Route != nil
	return r.save(ctx)
}

// samePolicy compares what is written of policies: an empty list and none are the same there.
func samePolicy(a, b gateway.Rollout) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// leftover is the generation of routers that are there without a state.
func (r *roll) leftover(ctx context.Context) (int64, error) {
	token, err := r.Front.token(r.Key)
	if err != nil {
		return 0, err
	}
	return (&routers{client: r.Client, front: r.Front, token: token}).newest(ctx)
}

// routes are what the routers shall follow now.
func (r *roll) routes() gateway.Routes { return r.state.routes(r.Front, r.Capture, r.Sink) }

// save writes state and routes in one step. Routes that changed get the next generation; others keep theirs, and the routers go on
// counting.
func (r *roll) save(ctx context.Context) error {
	s := r.state
	s.forget()
	routes := r.routes()
	if !reflect.DeepEqual(routes, s.saved) || routes.Generation == 0 {
		s.Live.Generation++
		routes.Generation = s.Live.Generation
	}
	s.Live.Updated = r.Now().UTC()
	u, err := r.Front.configMap(routes, s)
	if err != nil {
		return err
	}
	live, err := r.Client.Get(ctx, kube.RefOf(u))
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return err
	}
	if err == nil {
		if err := r.Front.Ours(live); err != nil {
			return err
		}
	}
	// Whoever wrote into it, this state is the one that holds.
	if _, err := r.Client.Apply(ctx, u, kube.ApplyOptions{Force: []string{"data"}}); err != nil {
		return err
	}
	s.saved = routes
	return nil
}

// publish saves, and has every router follow.
func (r *roll) publish(ctx context.Context) error {
	if err := r.save(ctx); err != nil {
		return err
	}
	if err := r.route.spread(ctx, r.routes()); err != nil {
		return err
	}
	if r.Front.Carried {
		return nil // whose way in is the carrier's
	}
	return r.enter(ctx)
}

// token guards the routers' admin ports. It follows from the project's key, so that no Secret need be read to know it.
func (f Front) token(key []byte) (string, error) {
	if len(key) == 0 {
		return "", errors.New("the project has no key (.ml/key), from which the routers' token follows: apply from the folder that holds its state")
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("router of " + f.Namespace + "/" + f.Name)) // a hash never errors
	return hex.EncodeToString(mac.Sum(nil)), nil
}

// prepare makes what stands in front, and the servers' side of the version that is wanted.
func (r *roll) prepare(ctx context.Context) error {
	if r.Front.Carried {
		return r.prepareCarrier()
	}
	r.Front.Runner = r.state.Runner
	service, err := r.Front.routerService()
	if err != nil {
		return err
	}
	if _, err := r.Front.Apply(ctx, r.Client, service); err != nil {
		return err
	}
	token, err := r.Front.token(r.Key)
	if err != nil {
		return err
	}
	config, err := r.Client.Get(ctx, kube.Ref{Version: gvkConfigMap.Version, Kind: gvkConfigMap.Kind, Namespace: r.Front.Namespace, Name: r.Front.Name})
	if err != nil {
		return err
	}
	secret, err := r.Front.tokenSecret(token, OwnedBy(kube.RefOf(config)))
	if err != nil {
		return err
	}
	if _, err := r.Client.Apply(ctx, secret, kube.ApplyOptions{}); err != nil {
		return err
	}
	r.route = &routers{client: r.Client, front: r.Front, token: token}
	router, err := r.Front.routerDeployment()
	if err != nil {
		return err
	}
	if _, err := r.Front.Apply(ctx, r.Client, router); err != nil {
		return err
	}
	r.servers, err = r.Servers(r.state.Resolved, token)
	return err
}

// prepareCarrier does so where no router of ours is wanted.
func (r *roll) prepareCarrier() error {
	secret, err := r.Front.token(r.Key)
	if err != nil {
		return err
	}
	if r.servers, err = r.Servers(r.state.Resolved, secret); err != nil {
		return err
	}
	by, ok := r.servers.(Carrier)
	if !ok {
		return fmt.Errorf("%T carries no requests", r.servers)
	}
	r.route = carried{by, r.tell}
	return nil
}

// up brings the wanted version up and keeps where it answers.
func (r *roll) up(ctx context.Context) error {
	url, err := r.servers.Up(ctx, r.tell)
	if err != nil {
		return err
	}
	if r.state.URLs == nil {
		r.state.URLs = map[int]string{}
	}
	r.state.URLs[r.state.Asked.Number] = url
	delete(r.state.Explains, r.state.Asked.Number)
	if by, ok := r.servers.(Explainer); ok && by.Explain() != "" {
		if r.state.Explains == nil {
			r.state.Explains = map[int]string{}
		}
		r.state.Explains[r.state.Asked.Number] = by.Explain()
	}
	return r.route.reach(ctx, url)
}

func (r *roll) await(ctx context.Context, ref kube.Ref, within time.Duration) error {
	return r.Client.Wait(ctx, []kube.Ref{ref}, within, func(p kube.Progress) {
		if !p.Ready && p.Message != "" {
			r.say("%s: %s", p.Ref.Name, p.Message)
		}
	})
}

// sweep deletes the objects of versions that serve no more.
func (r *roll) sweep(ctx context.Context) error {
	if err := r.giveBack(ctx); err != nil {
		return err
	}
	keep := []int{r.state.Live.Current.Number}
	if c := r.state.Live.Candidate; c != nil {
		keep = append(keep, c.Number)
	}
	return r.servers.Sweep(ctx, keep, r.tell)
}

// Apply makes an object what it should be. Fields of ours that others changed are taken back; others are left, and are a
// [kube.ForeignError] if we want them otherwise, unless Force names them. also are fields that are taken from others though the object
// does not remember them.
func (f Front) Apply(ctx context.Context, c *kube.Client, u *unstructured.Unstructured, also ...string) (kube.Applied, error) {
	live, err := c.Get(ctx, kube.RefOf(u))
	switch {
	case errors.Is(err, kube.ErrNotFound):
		return c.Apply(ctx, u, kube.ApplyOptions{})
	case err != nil:
		return kube.Applied{}, err
	}
	if err := f.Ours(live); err != nil {
		return kube.Applied{}, err
	}
	if live.GetDeletionTimestamp() != nil { // what is applied to it would go with it
		if err := c.Delete(ctx, kube.RefOf(live), kube.DeleteOptions{Within: f.Drain + GoneWithin}); err != nil {
			return kube.Applied{}, err
		}
		return c.Apply(ctx, u, kube.ApplyOptions{})
	}
	force, err := f.taken(u, live)
	if err != nil {
		return kube.Applied{}, err
	}
	force = append(force, also...)
	made, err := c.Apply(ctx, u, kube.ApplyOptions{Force: force})
	return made, f.explain(u, err)
}
