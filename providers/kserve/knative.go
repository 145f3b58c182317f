package kserve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
)

// revised runs the versions of one deployment as Knative's revisions of one InferenceService, which bears the deployment's name. KServe has
// one number for them, spec.predictor.canaryTrafficPercent: the share of the newest revision. The rest goes to the last one that had all.
//
// Two things that KServe does make the order of the writes matter. Without the number, the newest revision gets everything as soon as it
// is ready, so a version that is taken back is written with 0 first. And a number below 100 over a specification that has everything
// makes KServe go back to the revision before, so it is only ever written together with another specification, or 100.
type revised struct{ *fleet }

const whole = int64(100)

// Up implements rollout.Servers.
func (f *revised) Up(ctx context.Context, say func(string)) (string, error) {
	percent, err := f.begin(ctx)
	if err != nil {
		return "", err
	}
	if err := f.make(ctx, func() (kube.Applied, error) { return f.write(ctx, f.object, percent) }); err != nil {
		return "", err
	}
	if err := f.await(ctx, f.name, f.key, false, say); err != nil {
		return "", err
	}
	if err := f.readBack(ctx); err != nil {
		return "", err
	}
	return f.url(), f.prove(ctx)
}

// begin is the share with which the wanted specification is written: what it has already, 0 beside a version that serves, and all when
// there is none.
func (f *revised) begin(ctx context.Context) (int64, error) {
	live, err := f.live(ctx)
	if live == nil || err != nil {
		return whole, err
	}
	return startOf(live, f.key)
}

// startOf is begin beside what is there.
func startOf(live *unstructured.Unstructured, key string) (int64, error) {
	status, err := api.StatusOf(live)
	switch {
	case err != nil:
		return 0, err
	case keyIn(live) == key:
		return percentOf(live), nil
	case status.RolledOut != "":
		return 0, nil
	}
	return whole, nil
}

// url is where clients ask: the name of the predictor's route, which Knative's ingress takes in every installation.
func (f *revised) url() string { return revisedEntry(f.Front) }

func revisedEntry(f rollout.Front) string {
	return fmt.Sprintf("http://%s-predictor.%s.svc.%s", f.Name, f.Namespace, f.ClusterDomain)
}

// live is the InferenceService as it is, nil when there is none.
func (f *revised) live(ctx context.Context) (*unstructured.Unstructured, error) {
	u, err := f.client.Get(ctx, kube.Ref{Group: api.Kind.Group, Version: api.Kind.Version, Kind: api.Kind.Kind, Namespace: f.Namespace, Name: f.name})
	if errors.Is(err, kube.ErrNotFound) {
		return nil, nil
	}
	return u, err
}

// sharePath is where KServe takes the share of the newest revision.
var sharePath = []string{"spec", "predictor", "canaryTrafficPercent"}

// write applies a specification with the share of its revision. What the object remembers does not hold the share: KServe hands annotations
// on, and each shift would be another revision.
func (f *revised) write(ctx context.Context, u *unstructured.Unstructured, percent int64) (kube.Applied, error) {
	u = u.DeepCopy()
	unstructured.RemoveNestedField(u.Object, sharePath...)
	if err := kube.Remember(u); err != nil {
		return kube.Applied{}, err
	}
	if err := unstructured.SetNestedField(u.Object, percent, sharePath...); err != nil {
		return kube.Applied{}, fmt.Errorf("set the share of %s: %w", kube.RefOf(u), err)
	}
	return f.Apply(ctx, f.client, u, strings.Join(sharePath, "."))
}

// keyIn is the key of the servers that an InferenceService asks for.
func keyIn(u *unstructured.Unstructured) string {
	key, _, err := unstructured.NestedString(u.Object, "spec", "predictor", "annotations", releaseNote)
	if err != nil {
		return "" // nothing of ours
	}
	return key
}

// percentOf is the share that an InferenceService gives its newest revision.
func percentOf(u *unstructured.Unstructured) int64 {
	if n, found, err := unstructured.NestedInt64(u.Object, sharePath...); err == nil && found {
		return n
	}
	return whole
}

// Follow implements rollout.Carrier. Only what the Route has is believed, and what KServe says of it.
func (f *revised) Follow(ctx context.Context, routes gateway.Routes, say func(string)) error {
	if routes.Current == nil {
		return nil // nothing serves yet, and there is nowhere to lead to
	}
	if err := f.share(ctx, routes); err != nil {
		return err
	}
	text, err := f.settle(ctx, f.wanted(routes), f.key, say)
	if err != nil {
		return err
	}
	if routes.Candidate == nil || routes.Weight == 0 {
		return nil
	}
	say("its route has: " + text)
	if err := f.readBack(ctx); err != nil {
		return err
	}
	return f.prove(ctx)
}

// share writes what the routes say.
func (f *revised) share(ctx context.Context, routes gateway.Routes) error {
	live, err := f.live(ctx)
	if err != nil {
		return err
	}
	object, percent, err := f.next(live, routes)
	if object == nil || err != nil {
		return err
	}
	_, err = f.write(ctx, object, percent)
	return err
}

// next is what is to be written so that requests go as the routes say; nil is nothing. live is nil when nothing is there.
func (f *revised) next(live *unstructured.Unstructured, routes gateway.Routes) (object *unstructured.Unstructured, percent int64, err error) {
	object, percent = f.object, whole
	switch {
	case routes.Candidate != nil:
		percent = int64(routes.Weight)
	case routes.Current.Version == f.number:
	case live == nil || live.GetLabels()[rollout.LabelVersion] == strconv.Itoa(routes.Current.Version):
		return nil, 0, nil
	default:
		// Whichever version it asks for gets nothing; its specification stays for GoBack to replace.
		object, percent = &unstructured.Unstructured{}, 0
		if err := object.UnmarshalJSON([]byte(live.GetAnnotations()[kube.AnnotationApplied])); err != nil {
			return nil, 0, fmt.Errorf("read what was applied to %s: %w", kube.RefOf(live), err)
		}
	}
	if live != nil && keyIn(live) == keyIn(object) && percentOf(live) == percent {
		return nil, 0, nil
	}
	return object, percent, nil
}

// ownShare stands for the revisions of the key that is looked for, in shares.
const ownShare = "its own"

// wanted tells what is wrong with shares; "" is nothing.
type wanted func(shares map[string]int64) string

func exactly(want map[string]int64) wanted {
	maps.DeleteFunc(want, func(_ string, n int64) bool { return n == 0 })
	return func(shares map[string]int64) string {
		if maps.Equal(shares, want) {
			return ""
		}
		for whose := range shares {
			if _, ok := want[whose]; !ok {
				return "requests go to " + whose
			}
		}
		return "the shares are others"
	}
}

// wanted are the shares that the routes mean.
func (f *revised) wanted(routes gateway.Routes) wanted {
	switch {
	case routes.Candidate != nil:
		return exactly(map[string]int64{ownShare: int64(routes.Weight), versionLabel(strconv.Itoa(routes.Current.Version)): whole - int64(routes.Weight)})
	case routes.Current.Version == f.number:
		return exactly(map[string]int64{ownShare: whole})
	}
	return func(shares map[string]int64) string {
		for whose, n := range shares {
			// One that KServe went back to by itself is as good, until GoBack has the right one in its place.
			if whose == ownShare || n > 0 && whose == versionLabel(strconv.Itoa(f.number)) {
				return "requests go to " + whose
			}
		}
		return ""
	}
}

func versionLabel(n string) string { return "version " + n }

// settle waits until the shares are as wanted, and tells them by version and revision.
func (f *revised) settle(ctx context.Context, want wanted, key string, say func(string)) (string, error) {
	end := time.NewTimer(followWithin)
	defer end.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	last := ""
	for {
		text, why, err := f.aside(ctx, want, key)
		if err != nil || why == "" {
			return text, err
		}
		if why != last {
			last = why
			say(f.Name + ": " + why)
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-end.C:
			return "", fmt.Errorf("the requests of %s do not go as they should after %s: %s", f.Name, followWithin, why)
		case <-tick.C:
		}
	}
}

// aside tells the shares that Knative gives, and what of them is not as wanted: the Route must have observed them and be ready, and KServe
// must say the same.
func (f *revised) aside(ctx context.Context, want wanted, key string) (text, why string, err error) {
	r, revisions, err := f.knativeRoute(ctx)
	if err != nil {
		return "", "", err
	}
	shares := map[string]int64{}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(r.Traffic)) {
		if r.Traffic[name] == 0 {
			continue
		}
		whose := "somebody else's"
		if u := revisions[name]; u != nil {
			whose = versionLabel(u.GetLabels()[rollout.LabelVersion])
			parts = append(parts, fmt.Sprintf("%s (%s): %d %%", whose, name, r.Traffic[name]))
			if u.GetAnnotations()[releaseNote] == key {
				whose = ownShare
			}
		}
		shares[whose] += r.Traffic[name]
	}
	text = strings.Join(parts, ", ")
	live, err := f.live(ctx)
	if live == nil || err != nil {
		return text, "InferenceService " + f.name + " is not there", err
	}
	status, err := api.StatusOf(live)
	if err != nil {
		return text, "", err
	}
	if why = want(shares); why != "" {
		return text, why + ": the route has " + cmp.Or(text, "no traffic"), nil
	}
	return text, doubt(r, percentOf(live), status.Traffic), nil
}

// doubt is why shares that are as wanted are not believed yet; "" is nothing. percent is what the InferenceService asks for its newest
// revision, said are the shares that KServe tells.
func doubt(r api.Route, percent int64, said map[string]int64) string {
	switch {
	case r.Asked != percent: // what the route has is of before
		return "KServe has not asked Knative for its share yet"
	case !r.Ready:
		return "the route is not ready: " + r.Message
	case !sameShares(said, r.Traffic):
		return "KServe has not seen the route's shares yet"
	}
	return ""
}

// sameShares compares shares of which none says nothing.
func sameShares(a, b map[string]int64) bool {
	for _, m := range []map[string]int64{a, b} {
		for name := range m {
			if a[name] != b[name] {
				return false
			}
		}
	}
	return true
}

// Holds implements rollout.Carrier.
func (f *revised) Holds(ctx context.Context, routes gateway.Routes) error {
	if routes.Current == nil {
		return nil
	}
	if _, why, err := f.aside(ctx, f.wanted(routes), f.key); err != nil || why == "" {
		return err
	}
	return f.share(ctx, routes)
}

// Restore implements rollout.Servers. What is there is brought back by GoBack alone, which does not hand the requests over before.
func (f *revised) Restore(ctx context.Context, _ int, good json.RawMessage, onlyMissing bool) (bool, error) {
	live, err := f.live(ctx)
	if err != nil || live != nil && onlyMissing {
		return false, err
	}
	return true, f.GoBack(ctx, 0, good, func(string) {})
}

// GoBack implements rollout.Returner: the InferenceService asks again for the version that serves. Knative makes a new revision of it; until
// that is ready, the one that served all along does.
func (f *revised) GoBack(ctx context.Context, _ int, good json.RawMessage, say func(string)) error {
	service, _, err := unkept(good)
	if err != nil {
		return err
	}
	live, err := f.live(ctx)
	if err != nil {
		return err
	}
	key, percent := keyIn(service), whole
	if live != nil {
		if percent, err = startOf(live, key); err != nil {
			return err
		}
	}
	if _, err := f.write(ctx, service, percent); err != nil {
		return err
	}
	if err := f.await(ctx, f.name, key, false, say); err != nil || percent == whole {
		return err
	}
	if _, err := f.write(ctx, service, whole); err != nil {
		return err
	}
	_, err = f.settle(ctx, exactly(map[string]int64{ownShare: whole}), key, say)
	return err
}

// Sweep implements rollout.Servers. Knative itself ends the revisions that nothing leads to, so that there is something to delete only
// when no version serves.
func (f *revised) Sweep(ctx context.Context, keep []int, say func(string)) error {
	if slices.ContainsFunc(keep, func(n int) bool { return n > 0 }) {
		return nil
	}
	return f.fleet.Sweep(ctx, keep, say)
}
