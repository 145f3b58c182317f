package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/resource"
)

// roll is one Apply at work.
type roll struct {
	d      *deployment
	client *kube.Client
	req    providers.ApplyRequest
	spec   deploymentSpec
	front  front
	state  *rollout
	want   version
	key    string // of want
	route  *routers
	said   string
	// requests are those of a held step at the last look at which there were more, grew when that was.
	requests int64
	grew     time.Time
}

func (r *roll) ref() deploymentRef {
	return deploymentRef{Namespace: r.front.Namespace, Name: r.front.Name, Project: r.front.Project}
}

// live is the state as others read it.
func (r *roll) live() gateway.Live {
	l := r.state.Live
	l.Name, l.Address, l.Endpoint, l.Admin = r.front.Name, r.front.Address.String(), r.front.endpoint(), r.front.admin()
	return l
}

// say tells what goes on, each message once.
func (r *roll) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if text == r.said {
		return
	}
	r.said = text
	r.req.Emit(resource.Event{Time: r.d.now(), Type: resource.EventProgress, Address: r.req.Address.String(), Action: r.req.Action, Message: text})
}

// ask resolves what this operation wants and notes it, so that a second call under its id goes on with the same.
func (r *roll) ask(ctx context.Context) error {
	img, err := r.d.image(ctx, r.spec)
	if err != nil {
		return err
	}
	runner, err := r.d.RunnerImage(ctx)
	if err != nil {
		return err
	}
	brought, err := r.d.bring(ctx, r.spec, img, r.req)
	if err != nil {
		return err
	}
	fetch := ""
	if brought != nil {
		data, err := json.Marshal(brought)
		if err != nil {
			return fmt.Errorf("encode what to fetch: %w", err)
		}
		fetch = string(data)
	}
	if r.state == nil {
		r.state = &rollout{}
		// Routers that outlived their ConfigMap do not go back to a lower generation.
		if r.state.Live.Generation, err = r.leftover(ctx); err != nil {
			return err
		}
	}
	s := r.state
	// Whoever edited the routes may have given them a number that routers follow by now.
	s.Live.Generation = max(s.Live.Generation, s.saved.Generation)
	policy := policyOf(r.spec, r.req.Force)
	if err := policy.Validate(); err != nil {
		return err
	}
	if s.Live.Candidate != nil && !samePolicy(policy, s.Policy) {
		// A new policy judges from the step that it finds.
		s.Live.Progress.StepStarted, s.Live.Progress.Holding = time.Time{}, false
	}
	s.Live.Phase, s.Live.Message = gateway.PhaseRolling, "" // no longer at rest
	s.Op, s.Asked, s.Forced, s.Policy = r.req.OpID, versionOf(r.spec.Model), r.req.Force, policy
	s.Image, s.Runner, s.Fetch = strings.TrimPrefix(img.Ref, oci.Scheme), strings.TrimPrefix(runner, oci.Scheme), fetch
	r.front.Runner = s.Runner
	return r.save(ctx)
}

// leftover is the generation of routers that are there without a state.
func (r *roll) leftover(ctx context.Context) (int64, error) {
	token, err := r.d.token(r.front)
	if err != nil {
		return 0, err
	}
	x := &routers{client: r.client, front: r.front, token: token}
	return x.newest(ctx)
}

func samePolicy(a, b gateway.Rollout) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// save writes state and routes in one step. Routes that changed get the next generation; others keep theirs, and the routers go on
// counting.
func (r *roll) save(ctx context.Context) error {
	s := r.state
	routes := s.routes(r.front, r.spec)
	if !reflect.DeepEqual(routes, s.saved) || routes.Generation == 0 {
		s.Live.Generation++
		routes.Generation = s.Live.Generation
	}
	s.Live.Updated = r.d.now().UTC()
	u, err := r.front.configMap(routes, s)
	if err != nil {
		return err
	}
	live, err := r.client.Get(ctx, kube.RefOf(u))
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
		return err
	}
	if err == nil {
		if err := ours(live, r.front); err != nil {
			return err
		}
	}
	// Whoever wrote into it, this state is the one that holds.
	if _, err := r.client.Apply(ctx, u, kube.ApplyOptions{Force: []string{"data"}}); err != nil {
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
	return r.route.spread(ctx, r.state.routes(r.front, r.spec))
}

// prepare makes what stands in front, and works out the version that is wanted.
func (r *roll) prepare(ctx context.Context) error {
	r.front.Runner = r.state.Runner
	service, err := r.front.routerService()
	if err != nil {
		return err
	}
	if _, err := apply(ctx, r.client, r.front, service); err != nil {
		return err
	}
	token, err := r.d.token(r.front)
	if err != nil {
		return err
	}
	config, err := r.client.Get(ctx, kube.Ref{Version: gvkConfigMap.Version, Kind: gvkConfigMap.Kind, Namespace: r.front.Namespace, Name: r.front.Name})
	if err != nil {
		return err
	}
	secret, err := r.front.tokenSecret(token, ownedBy(kube.RefOf(config)))
	if err != nil {
		return err
	}
	if _, err := r.client.Apply(ctx, secret, kube.ApplyOptions{}); err != nil {
		return err
	}
	r.route = &routers{client: r.client, front: r.front, token: token}
	router, err := r.front.routerDeployment()
	if err != nil {
		return err
	}
	if _, err := apply(ctx, r.client, r.front, router); err != nil {
		return err
	}
	return r.resolve(token)
}

// resolve fills in the version that the operation asked for.
func (r *roll) resolve(token string) error {
	r.want = version{front: r.front, Spec: r.spec, Number: r.state.Asked.Number, Digest: r.state.Asked.Digest, Image: r.state.Image, Fetch: r.state.Fetch, CodeDigest: r.req.Probed["code"]}
	if r.state.Fetch != "" {
		var t pod.FetchTask
		if err := json.Unmarshal([]byte(r.state.Fetch), &t); err != nil {
			return fmt.Errorf("read what to fetch: %w", err)
		}
		if t.Model != nil {
			r.want.ModelDir = pods.Home + "/model"
		}
		if t.Code != nil {
			r.want.WorkDir = pods.Home + "/code"
		}
	}
	var err error
	if r.want.EnvKey, err = r.want.envKey(token); err != nil {
		return err
	}
	r.key, err = r.want.key()
	return err
}

// bringUp makes the objects of a version and waits for its servers. A *kube.CauseError says why they cannot work.
func (r *roll) bringUp(ctx context.Context, v version) error {
	service, err := v.service()
	if err != nil {
		return err
	}
	made, err := apply(ctx, r.client, r.front, service)
	if err != nil {
		return err
	}
	if v.EnvKey != "" {
		secret, err := v.envSecret(ownedBy(made.Ref))
		if err != nil {
			return err
		}
		if _, err := r.client.Apply(ctx, secret, kube.ApplyOptions{Force: []string{"data"}}); err != nil {
			return err
		}
	}
	return r.serve(ctx, v)
}

// serve applies the version's Deployment and autoscaler, and waits.
func (r *roll) serve(ctx context.Context, v version) error {
	replicas, err := r.replicas(ctx, v)
	if err != nil {
		return err
	}
	u, err := v.deployment(replicas)
	if err != nil {
		return err
	}
	if v.Spec.Scale != nil {
		scaler, err := v.scaler()
		if err != nil {
			return err
		}
		if _, err := apply(ctx, r.client, r.front, scaler); err != nil {
			return err
		}
	} else if err := r.remove(ctx, kube.Ref{Group: gvkScaler.Group, Version: gvkScaler.Version, Kind: gvkScaler.Kind, Namespace: v.Namespace, Name: v.versionName(v.Number)}); err != nil {
		return err
	}
	made, err := apply(ctx, r.client, r.front, u)
	if err != nil {
		return err
	}
	return r.await(ctx, made.Ref, v.readyWithin()+pullAllowance)
}

func (r *roll) await(ctx context.Context, ref kube.Ref, within time.Duration) error {
	return r.client.Wait(ctx, []kube.Ref{ref}, within, func(p kube.Progress) {
		if !p.Ready && p.Message != "" {
			r.say("%s: %s", p.Ref.Name, p.Message)
		}
	})
}

// replicas is how many servers the Deployment is applied with. Once an autoscaler decides, the field is left to it; but giving up a
// field that only we own would set it back to one, so it stays as it is until the autoscaler has written it.
func (r *roll) replicas(ctx context.Context, v version) (*int32, error) {
	if v.Spec.Scale == nil {
		return v.replicas(), nil
	}
	u, err := r.client.Get(ctx, kube.Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: v.Namespace, Name: v.versionName(v.Number)})
	if errors.Is(err, kube.ErrNotFound) {
		return nil, nil
	}
	if err != nil || !weOwnReplicas(u) {
		return nil, err
	}
	n, found, err := unstructured.NestedInt64(u.Object, "spec", "replicas")
	if err != nil || !found {
		return nil, err
	}
	return new(int32(n)), nil
}

// weOwnReplicas looks into the managers of a Deployment's fields.
func weOwnReplicas(u *unstructured.Unstructured) bool {
	for _, e := range u.GetManagedFields() {
		if e.Manager != kube.FieldManager || e.Operation != "Apply" || e.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec map[string]any `json:"f:spec"`
		}
		if json.Unmarshal(e.FieldsV1.Raw, &fields) == nil {
			if _, ok := fields.Spec["f:replicas"]; ok {
				return true
			}
		}
	}
	return false
}

// remove deletes an object of ours by name, if it is there.
func (r *roll) remove(ctx context.Context, ref kube.Ref) error {
	u, err := r.client.Get(ctx, ref)
	if errors.Is(err, kube.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := ours(u, r.front); err != nil {
		return err
	}
	return r.client.Delete(ctx, kube.RefOf(u), kube.DeleteOptions{})
}

// versionKinds are the kinds that a version consists of, in the order in which they go.
var versionKinds = []schema.GroupVersionKind{gvkScaler, gvkDeployment, serviceKind}

// sweep deletes the objects of versions that serve no more. No request is at them any more, so that their pods are left to end in their
// own time.
func (r *roll) sweep(ctx context.Context) error {
	keep := []string{fmt.Sprint(r.state.Live.Current.Number)}
	if c := r.state.Live.Candidate; c != nil {
		keep = append(keep, fmt.Sprint(c.Number))
	}
	for _, gvk := range versionKinds {
		list, err := r.client.List(ctx, gvk, r.front.Namespace, kube.Selector{Labels: r.front.selector() + "," + labelPart + "=" + partServer})
		if err != nil {
			return err
		}
		for _, u := range list {
			if slices.Contains(keep, u.GetLabels()[labelVersion]) {
				continue
			}
			r.say("removing %s", kube.RefOf(u))
			if err := r.client.Delete(ctx, kube.RefOf(u), kube.DeleteOptions{Propagation: metav1.DeletePropagationBackground}); err != nil {
				return err
			}
		}
	}
	return nil
}
