package kserve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
)

const (
	// stagesKey holds the InferenceService as it was applied last, in a ConfigMap of its own: on the service itself KServe would hand it on
	// to all pods, and replace them with each step.
	stagesKey = "service.json"
	// staysWithin is how long KServe may take to tell of what it was told.
	staysWithin = time.Minute
)

func stagesName(name string) string { return name + "-service" }

// staged runs the servers of one deployment's versions as the stages of one InferenceService, and has a Gateway carry the requests.
type staged struct {
	*fleet
	base      *unstructured.Unstructured
	predictor map[string]any
	way       entrance
	gate      func(context.Context) (gate, error)
}

func (d *deployment) newStaged(c *kube.Client, r release, way entrance, forced bool) (*staged, error) {
	sys, err := d.system()
	if err != nil {
		return nil, err
	}
	s := &staged{fleet: &fleet{release: r, client: c, forced: forced}, way: way,
		gate: func(ctx context.Context) (gate, error) { return gateAt(ctx, sys, way, r.Namespace) }}
	s.base, s.predictor, s.key, err = r.staged()
	if err != nil {
		return nil, err
	}
	s.object = stages{stable: s.predictor}.in(s.base)
	return s, nil
}

func (s *staged) ref() kube.Ref {
	return kube.Ref{Group: api.Kind.Group, Version: api.Kind.Version, Kind: api.Kind.Kind, Namespace: s.Namespace, Name: s.name}
}

// seen is a service as it is, and as it was applied last.
type seen struct {
	stages
	live, applied *unstructured.Unstructured
}

// now are the stages as they were applied last, or, when nobody knows, as they are.
func (s *staged) now(ctx context.Context) (at seen, err error) {
	at.live, err = s.client.Get(ctx, s.ref())
	if err != nil {
		return at, err
	}
	if err := s.Ours(at.live); err != nil {
		return at, err
	}
	kept, err := s.client.Get(ctx, kube.Ref{Version: "v1", Kind: gvkConfigMap.Kind, Namespace: s.Namespace, Name: stagesName(s.Name)})
	switch {
	case err == nil:
		if at.applied, err = appliedIn(kept); err != nil {
			return at, err
		}
		at.stages, err = stagesOf(at.applied)
	case errors.Is(err, kube.ErrNotFound):
		at.stages, err = stagesOf(at.live)
	}
	return at, err
}

// appliedIn reads the service as it was applied.
func appliedIn(u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	text, _, err := unstructured.NestedString(u.Object, "data", stagesKey)
	out := &unstructured.Unstructured{}
	if err == nil {
		err = out.UnmarshalJSON([]byte(text))
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of %s: %w; delete the ConfigMap and apply again", stagesKey, kube.RefOf(u), err)
	}
	return out, nil
}

// write makes the service have other stages. What was applied and others changed is taken back; no other field of theirs is.
func (s *staged) write(ctx context.Context, to stages, at seen) error {
	u := to.in(s.base)
	text, err := u.MarshalJSON()
	if err != nil {
		return fmt.Errorf("encode %s: %w", kube.RefOf(u), err)
	}
	keep, err := kube.FromTyped(gvkConfigMap, map[string]any{"metadata": s.Meta(stagesName(s.Name), rollout.PartRouter), "data": map[string]string{stagesKey: string(text)}})
	if err != nil {
		return err
	}
	if _, err := s.client.Apply(ctx, keep, kube.ApplyOptions{Force: []string{"data"}}); err != nil {
		return err
	}
	var o kube.ApplyOptions
	if at.live != nil && at.live.GetDeletionTimestamp() != nil { // what is applied to it would go with it
		if err := s.client.Delete(ctx, kube.RefOf(at.live), kube.DeleteOptions{Within: s.Drain + rollout.GoneWithin}); err != nil {
			return err
		}
		at.live = nil
	}
	if at.live != nil && at.applied != nil {
		for _, change := range kube.DriftFrom(at.applied, at.live, nil) {
			o.Force = append(o.Force, change.Path)
		}
	}
	_, err = s.client.Apply(ctx, u, o)
	return err
}

// Up implements rollout.Servers. The version comes up as the predictor when it is the first or the one that serves, else as a canary without
// a share of the requests.
func (s *staged) Up(ctx context.Context, say func(string)) (string, error) {
	if err := s.defaulted(ctx); err != nil {
		return "", err
	}
	at, err := s.now(ctx)
	switch {
	case errors.Is(err, kube.ErrNotFound):
		at = seen{stages: stages{stable: s.predictor}}
	case err != nil:
		return "", err
	case nameOf(at.stable) == variant(s.number):
		at.stable = s.predictor
	default:
		if lost := leaks(at.stable, s.predictor); len(lost) > 0 {
			return "", fmt.Errorf("kserve.canary: %s has no %s, and KServe would give it that of %s, over which it lays a canary; make the deployment anew with -replace, or use kserve { canary = \"router\" }",
				variant(s.number), strings.Join(lost, ", "), nameOf(at.stable))
		}
		if nameOf(at.canary) != variant(s.number) {
			at.percent = 0
		}
		at.canary = s.predictor
	}
	if err := s.secret(ctx); err != nil {
		return "", err
	}
	if err := s.write(ctx, at.stages, at); err != nil {
		return "", err
	}
	servers := s.serversOf(s.number)
	if err := s.await(ctx, servers, s.key, false, say); err != nil {
		return "", err
	}
	if err := s.secret(ctx); err != nil {
		return "", err
	}
	if err := s.readBack(ctx); err != nil {
		return "", err
	}
	url := fmt.Sprintf("http://%s.%s.svc.%s.:80", servers, s.Namespace, s.ClusterDomain)
	if s.forced {
		return url, nil
	}
	return url, s.ask(ctx, kube.Target{Service: true, Name: servers, Port: "80"})
}

// defaulted gives the predictor what KServe's webhook gives to predictors and not to canaries, such as limits: a promotion would give it
// that, and so new pods. It is asked by a write that is none, before anything is changed.
func (s *staged) defaulted(ctx context.Context) error {
	u := stages{stable: s.predictor}.in(s.base)
	u.SetName(s.name + "-defaults")
	got, err := s.client.Apply(ctx, u, kube.ApplyOptions{DryRun: true})
	if err != nil {
		return fmt.Errorf("ask KServe for its defaults: %w", err)
	}
	predictor, found, err := unstructured.NestedMap(got.Object.Object, "spec", "predictor")
	if err != nil || !found {
		return fmt.Errorf("ask KServe for its defaults: %s has no predictor (%w)", kube.RefOf(got.Object), err)
	}
	s.predictor = kube.Prune(&unstructured.Unstructured{Object: predictor}).Object
	s.object = stages{stable: s.predictor}.in(s.base)
	return nil
}

func (s *staged) deployment(version int) kube.Ref {
	return kube.Ref{Group: gvkDeployment.Group, Version: gvkDeployment.Version, Kind: gvkDeployment.Kind, Namespace: s.Namespace, Name: s.serversOf(version)}
}

// secret writes the variables that the version's servers read. It goes with their Deployment, once there is one.
func (s *staged) secret(ctx context.Context) error {
	if s.envKey == "" {
		return nil
	}
	u, err := s.envSecret()
	if err != nil {
		return err
	}
	owner, err := s.client.Get(ctx, s.deployment(s.number))
	switch {
	case err == nil:
		u.SetOwnerReferences(append(u.GetOwnerReferences(), rollout.OwnedBy(kube.RefOf(owner))))
	case !errors.Is(err, kube.ErrNotFound):
		return err
	}
	_, err = s.client.Apply(ctx, u, kube.ApplyOptions{})
	return err
}

// lookAtServers judges a version by its Deployment: the service's own word is about the predictor alone.
func (f *fleet) lookAtServers(ctx context.Context, name, key string) (condition, error) {
	u, err := f.client.Get(ctx, kube.Ref{Group: api.Kind.Group, Version: api.Kind.Version, Kind: api.Kind.Kind, Namespace: f.Namespace, Name: f.name})
	if err != nil {
		return condition{}, err
	}
	c := condition{object: u, why: "KServe has made no Deployment for it yet"}
	status, err := api.StatusOf(u)
	if err != nil {
		return c, err
	}
	d, err := f.client.Get(ctx, kube.Ref{Group: gvkDeployment.Group, Version: gvkDeployment.Version, Kind: gvkDeployment.Kind, Namespace: f.Namespace, Name: name})
	if errors.Is(err, kube.ErrNotFound) {
		c.why = cmp.Or(status.Message, c.why)
		return c, nil
	}
	if err != nil {
		return c, err
	}
	notes, _, err := unstructured.NestedStringMap(d.Object, "spec", "template", "metadata", "annotations")
	if err != nil {
		return c, fmt.Errorf("read %s: %w", kube.RefOf(d), err)
	}
	if notes[releaseNote] != key {
		c.why = "KServe has not handed the newest specification on to " + name
		return c, nil
	}
	c.object = d // whose pods are looked at, and no other version's
	r := kube.Ready(d)
	c.ready, c.why = r.Ready, r.Message
	return c, nil
}

// Check implements rollout.Servers.
func (s *staged) Check(ctx context.Context) (ready, gone bool, err error) {
	at, err := s.now(ctx)
	if errors.Is(err, kube.ErrNotFound) {
		return false, true, nil
	}
	if err != nil {
		return false, false, err
	}
	if nameOf(at.stable) != variant(s.number) && nameOf(at.canary) != variant(s.number) {
		return false, true, nil
	}
	c, err := s.lookAtServers(ctx, s.serversOf(s.number), s.key)
	if errors.Is(err, kube.ErrNotFound) {
		return false, true, nil
	}
	if err != nil || c.ready {
		return c.ready, false, err
	}
	// Nobody counts what fails: pods that crash must be enough.
	found, bad, err := s.client.Diagnose(ctx, c.object)
	if err == nil && bad && crashes(found) {
		err = &rollout.Unfit{Reason: found.String()}
	}
	return false, false, err
}

// Restore implements rollout.Servers.
func (s *staged) Restore(ctx context.Context, version int, good json.RawMessage, onlyMissing bool) (bool, error) {
	was, _, err := unkept(good)
	if err != nil {
		return false, err
	}
	at, err := s.now(ctx)
	switch {
	case errors.Is(err, kube.ErrNotFound):
		at = seen{}
	case err != nil:
		return false, err
	case onlyMissing:
		return false, nil // KServe itself makes anew what belongs to a service
	}
	to, err := stagesOf(was)
	if err != nil {
		return false, err
	}
	if err := s.write(ctx, to, at); err != nil {
		return false, err
	}
	notes, _, err := unstructured.NestedStringMap(was.Object, "spec", "predictor", "annotations")
	if err != nil {
		return true, fmt.Errorf("read the InferenceService that was good: %w", err)
	}
	return true, s.await(ctx, s.serversOf(version), notes[releaseNote], false, func(string) {})
}

// Sweep implements rollout.Servers. The Gateway sends nothing to what goes; what it had sent before gets its time.
func (s *staged) Sweep(ctx context.Context, keep []int, say func(string)) error {
	at, err := s.now(ctx)
	if errors.Is(err, kube.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	names := make([]string, len(keep))
	for i, n := range keep {
		names[i] = variant(n)
	}
	if at.canary == nil || slices.Contains(names, nameOf(at.canary)) && slices.Contains(names, nameOf(at.stable)) {
		return nil
	}
	after := at.keep(names...)
	goes := nameOf(at.canary)
	if nameOf(after.stable) == goes {
		goes = nameOf(at.stable)
	}
	if err := rest(ctx, min(s.Drain, rollout.QuietPause*time.Second)); err != nil {
		return err
	}
	say(fmt.Sprintf("removing %s of InferenceService %s/%s", goes, s.Namespace, s.name))
	if err := s.write(ctx, after, at); err != nil {
		return err
	}
	version, err := strconv.Atoi(strings.TrimPrefix(goes, "v"))
	if err != nil {
		return fmt.Errorf("InferenceService %s has a canary %q, which is none of ours", s.name, goes)
	}
	return s.until(ctx, s.Drain+rollout.GoneWithin, "KServe to remove "+s.serversOf(version), func() (bool, error) {
		_, err := s.client.Get(ctx, s.deployment(version))
		if errors.Is(err, kube.ErrNotFound) {
			return true, nil
		}
		return false, err
	})
}

// rest waits for a while.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// until looks until something is so.
func (s *staged) until(ctx context.Context, within time.Duration, what string, ok func() (bool, error)) error {
	end := time.NewTimer(within)
	defer end.Stop()
	tick := time.NewTicker(lookEvery / 2)
	defer tick.Stop()
	for {
		done, err := ok()
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end.C:
			return fmt.Errorf("waited %s in vain for %s", within, what)
		case <-tick.C:
		}
	}
}
