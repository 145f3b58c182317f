package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
)

const (
	replicasPath = "spec.replicas"
	// scalerManager writes what autoscalers decide.
	scalerManager = "kube-controller-manager"
)

// versioned is what follows a deployment's name in those of its versions' objects.
var versioned = regexp.MustCompile(`^-v[0-9]+(-[a-z]+)?$`)

// CheckForce refuses fields of objects that no deployment of this name has: they would be passed over.
func (f Front) CheckForce() error {
	for _, target := range f.Force {
		object, path, ok := strings.Cut(target, ":")
		name := object[strings.LastIndex(object, "/")+1:]
		rest, ours := strings.CutPrefix(name, f.Name)
		switch {
		case !ok || path == "" || name == object:
			return fmt.Errorf("%s.force: %q is not KIND/NAME:PATH, such as \"Deployment/%s:spec.replicas\"", f.Block, target, f.VersionName(1))
		case !ours || rest != "" && !versioned.MatchString(rest):
			return fmt.Errorf("%s.force: %q names no object of this deployment: they are called %s, and %s for a version", f.Block, target, f.Name, f.VersionName(1))
		}
	}
	return nil
}

// taken are the fields of an object that an apply takes from others: what was ours and was changed, what the block names, and the number of
// pods that an autoscaler left behind.
func (f Front) taken(u, live *unstructured.Unstructured) ([]string, error) {
	drift, err := kube.Drift(live)
	if err != nil {
		return nil, err
	}
	var force []string
	for _, change := range drift {
		force = append(force, change.Path)
	}
	for _, target := range f.Force {
		if path, ok := kube.Targeted(target, kube.Key(kube.RefOf(u))); ok {
			force = append(force, path)
		}
	}
	if u.GetKind() == gvkDeployment.Kind && slices.ContainsFunc(kube.Others(u, live), func(c kube.Conflict) bool {
		return c.Path == replicasPath && strings.HasPrefix(c.Manager, scalerManager)
	}) {
		force = append(force, replicasPath)
	}
	return force, nil
}

// explain says what can be done about a refusal.
func (f Front) explain(u *unstructured.Unstructured, err error) error {
	var conflict *kube.ConflictError
	if errors.As(err, &conflict) {
		return kube.Foreign(conflict, u.GetKind()+"/"+u.GetName(), f.Block)
	}
	return err
}

// Trial is what a plan knows of an operation on a deployment that is there.
type Trial struct {
	Request
	Parts Parts
	// Expect returns what the operation would resolve, from what the last one resolved. sure is false when some of it stands for what
	// only the apply finds out. It is called only when that may matter. Request.Servers is nil when the version is not known yet.
	Expect func(ctx context.Context, recorded json.RawMessage) (resolved json.RawMessage, sure bool, err error)
}

// Foreign finds the fields that others own and that an apply would need: what it would fail at, the plan says. It changes nothing. In the
// ordinary case, where nobody else has any field of ours, it costs no request besides the lists that all share.
//
// What an init container fetches, and the routers' image, count as they were: only the apply stores them.
func (t Trial) Foreign(ctx context.Context, look *providers.Look) ([]providers.Finding, error) {
	if err := t.Front.CheckForce(); err != nil {
		return []providers.Finding{{Summary: "This names nothing", Detail: err.Error() + "."}}, nil
	}
	x, err := t.Parts.List(ctx, t.Client.Reads(look), t.Front)
	if err != nil {
		return nil, err
	}
	there := x.Of(t.Front)
	config := there.Get(gvkConfigMap, t.Front.Name)
	if config == nil {
		return nil, nil
	}
	s, err := stateOf(config)
	if err != nil {
		return nil, err
	}
	recorded, err := t.contested(ctx, s, s.Resolved, there)
	if err != nil || len(recorded) == 0 {
		return nil, err
	}
	resolved, sure := s.Resolved, true
	if t.Expect != nil && len(s.Resolved) > 0 {
		if resolved, sure, err = t.Expect(ctx, s.Resolved); err != nil {
			return nil, err
		}
	}
	expected, err := t.contested(ctx, s, resolved, there)
	if err != nil {
		return nil, err
	}
	foreign, err := t.try(ctx, expected, there)
	if err != nil || sure {
		return t.findings(foreign, nil), err
	}
	certain, err := t.try(ctx, recorded, there)
	return t.findings(foreign, certain), err
}

// contested are the objects that the operation would apply, are there, and have fields that others own, too.
func (t Trial) contested(ctx context.Context, s *State, resolved json.RawMessage, there Objects) ([]*unstructured.Unstructured, error) {
	all, err := t.objects(ctx, s, resolved)
	var out []*unstructured.Unstructured
	for _, u := range all {
		live := there.Get(u.GroupVersionKind(), u.GetName())
		if live != nil && live.GetDeletionTimestamp() == nil && len(kube.Others(u, live)) > 0 {
			out = append(out, u)
		}
	}
	return out, err
}

func (t Trial) objects(ctx context.Context, s *State, resolved json.RawMessage) ([]*unstructured.Unstructured, error) {
	f := t.Front
	f.Runner = s.Runner
	var out []*unstructured.Unstructured
	if !f.Carried {
		service, err := f.routerService()
		if err != nil {
			return nil, err
		}
		router, err := f.routerDeployment()
		if err != nil {
			return nil, err
		}
		out = append(out, service, router)
	}
	if f.Route != nil {
		route, err := f.httpRoute(s.saved.Weight)
		if err != nil {
			return nil, err
		}
		out = append(out, route)
	}
	if t.Servers == nil || len(resolved) == 0 {
		return out, nil
	}
	secret, err := f.token(t.Key)
	if err != nil {
		return nil, err
	}
	servers, err := t.Servers(resolved, secret)
	if err != nil {
		return nil, err
	}
	more, err := servers.Objects(ctx)
	if err != nil {
		return nil, err
	}
	out = append(out, more...)
	if by, ok := servers.(Carrier); ok && f.Carried && s.saved.Current != nil {
		u, err := by.Carries(s.saved)
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}

// try has the API server say which fields of the objects others own that would change.
func (t Trial) try(ctx context.Context, objects []*unstructured.Unstructured, there Objects) (map[string]*kube.ConflictError, error) {
	out := map[string]*kube.ConflictError{}
	for _, u := range objects {
		force, err := t.Front.taken(u, there.Get(u.GroupVersionKind(), u.GetName()))
		if err != nil {
			return nil, err
		}
		_, err = t.Client.Apply(ctx, u, kube.ApplyOptions{DryRun: true, Force: force})
		var conflict *kube.ConflictError
		var again *kube.Retryable
		switch {
		case errors.As(err, &conflict):
			out[u.GetKind()+"/"+u.GetName()] = conflict
		case errors.As(err, &again), ctx.Err() != nil:
			return nil, err
		}
		// Any other refusal may be of what stands for something to come; apply looks again.
	}
	return out, nil
}

// findings are those conflicts. certain, when not nil, are those that hold whatever the apply finds out; any other is a warning then.
func (t Trial) findings(foreign, certain map[string]*kube.ConflictError) []providers.Finding {
	var out []providers.Finding
	for _, key := range slices.Sorted(maps.Keys(foreign)) {
		var sure, open []kube.Conflict
		for _, c := range foreign[key].Conflicts {
			if certain == nil || certain[key] != nil && slices.Contains(certain[key].Conflicts, c) {
				sure = append(sure, c)
			} else {
				open = append(open, c)
			}
		}
		say := func(list []kube.Conflict, warning bool, summary, then string) {
			if len(list) == 0 {
				return
			}
			e := kube.Foreign(&kube.ConflictError{Ref: foreign[key].Ref, Conflicts: list}, key, t.Front.Block)
			out = append(out, providers.Finding{Warning: warning, Summary: summary, Detail: e.Error() + then})
		}
		say(sure, false, "A field belongs to somebody else", ".")
		say(open, true, "A field may belong to somebody else", ". Its value is known only to the apply, which stops there if it is another one.")
	}
	return out
}
