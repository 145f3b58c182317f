package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// Read implements providers.Typed.
func (m *manifests) Read(ctx context.Context, req providers.ReadRequest) (providers.Object, error) {
	all, err := m.ReadAll(ctx, []providers.ReadRequest{req})
	if err != nil {
		return providers.Object{}, err
	}
	return all[0], all[0].Err
}

// ReadAll implements providers.BatchReader: one list for each type and namespace, whatever the number of blocks and objects.
func (m *manifests) ReadAll(ctx context.Context, reqs []providers.ReadRequest) ([]providers.Object, error) {
	c, err := m.Cluster()
	if err != nil {
		return nil, err
	}
	reads := readsOf(c, providers.LookOf(reqs))
	out := make([]providers.Object, len(reqs))
	refs := make([]manifestRef, len(reqs))
	var all []kube.Ref
	for i, req := range reqs {
		if refs[i], out[i].Err = manifestRefOf(req.Record.Ref); out[i].Err != nil {
			out[i].Err = fmt.Errorf("%s: %w", req.Address, out[i].Err)
		}
		for _, o := range refs[i].Objects {
			all = append(all, o.Ref)
		}
	}
	found := reads.Find(ctx, all)
	for i, req := range reqs {
		mine := found[:len(refs[i].Objects)]
		found = found[len(refs[i].Objects):]
		if out[i].Err != nil {
			continue
		}
		out[i], err = m.object(ctx, reads, req, refs[i], mine)
		if err != nil {
			out[i].Err = fmt.Errorf("%s: %w", req.Address, err)
		}
	}
	return out, nil
}

// readsOf begins to read for a look at the world, or for nobody else if there is none: then little is asked for by name.
func readsOf(c *kube.Client, l *providers.Look) *kube.Reads {
	if l == nil {
		return c.Reads(nil)
	}
	return c.Reads(l)
}

// object is what the cluster says of one manifest.
func (m *manifests) object(ctx context.Context, reads *kube.Reads, req providers.ReadRequest, ref manifestRef, found []kube.Found) (providers.Object, error) {
	if len(ref.Objects) == 0 {
		return providers.Object{Phase: resource.PhaseFailed, Message: req.Record.Message}, nil // nothing is gone: it never came
	}
	o := providers.Object{Phase: resource.PhaseReady}
	var gone []string
	ready := 0
	for i, held := range ref.Objects {
		f := found[i]
		switch {
		case f.Err != nil && !kube.Absent(f.Err):
			return o, f.Err
		case f.Object == nil && held.Ends:
			ready++
			continue
		case f.Object == nil:
			gone = append(gone, held.String()+" is not there")
			continue
		case f.Object.GetDeletionTimestamp() != nil:
			gone = append(gone, held.String()+" is being deleted")
			continue
		}
		r := kube.Ready(f.Object)
		if r.Ready {
			ready++
		}
		if r.Failed && o.Phase == resource.PhaseReady {
			o.Phase, o.Message = resource.PhaseFailed, fmt.Sprintf("%s: %s", held, r.Message)
		}
	}
	o.Info = map[string]string{"objects": fmt.Sprintf("%d of %d ready", ready, len(ref.Objects))}
	if len(gone) > 0 {
		o.Phase, o.Message = resource.PhaseMissing, strings.Join(gone, ", ")
	}
	if req.Record.Phase == resource.PhaseFailed {
		return o, nil // what it last applied is not what is recorded
	}
	var err error
	o.Drift, err = drifts(ctx, reads, req.Record.Spec, ref, found)
	return o, err
}

// drifts lists the fields that others changed, over all objects that are there.
func drifts(ctx context.Context, reads *kube.Reads, spec json.RawMessage, ref manifestRef, found []kube.Found) ([]providers.Drift, error) {
	applied, err := recordedObjects(spec)
	if err != nil {
		return nil, err
	}
	var out []providers.Drift
	var scaled scalers
	for i, held := range ref.Objects {
		live, was := found[i].Object, applied[held.Key]
		if live == nil || was == nil || live.GetDeletionTimestamp() != nil {
			continue
		}
		for _, c := range kube.DriftFrom(was, live, isHashed) {
			if c.Path == replicasPath {
				if scaled == nil {
					if scaled, err = scalersOf(ctx, reads, ref, found); err != nil {
						return nil, err
					}
				}
				if scaled.own(held.Ref) || byScaler(c.By) {
					continue
				}
			}
			out = append(out, providers.Drift{Path: held.Key + ":" + c.Path, Old: plainText(c.Old), New: plainText(c.New), By: c.By})
		}
	}
	return out, nil
}

// plainText is a value as people write it: a text without its quotes.
func plainText(value string) string {
	var text string
	if json.Unmarshal([]byte(value), &text) == nil {
		return text
	}
	return value
}

// scalersOf finds the autoscalers of the namespaces in which a manifest has objects.
func scalersOf(ctx context.Context, reads *kube.Reads, ref manifestRef, found []kube.Found) (scalers, error) {
	s := scalers{}
	var namespaces []string
	for i, held := range ref.Objects {
		if found[i].Object != nil && held.Group == gvkScaler.Group && held.Kind == gvkScaler.Kind {
			s.add(found[i].Object, held.Namespace)
		}
		if held.Namespace != "" && !slices.Contains(namespaces, held.Namespace) {
			namespaces = append(namespaces, held.Namespace)
		}
	}
	for _, n := range namespaces {
		if err := s.list(ctx, reads, n); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// recordedObjects are the objects of a recorded body by name. In the place of a value that is sensitive stands its hash.
func recordedObjects(spec json.RawMessage) (map[string]*unstructured.Unstructured, error) {
	if len(spec) == 0 {
		return nil, nil
	}
	var body struct {
		Objects map[string]json.RawMessage `json:"objects"`
	}
	if err := json.Unmarshal(spec, &body); err != nil {
		return nil, fmt.Errorf("read its recorded objects: %w", err)
	}
	out := map[string]*unstructured.Unstructured{}
	for key, raw := range body.Objects {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(raw); err != nil {
			continue // all of it is hashed: nothing can be compared
		}
		out[key] = u
	}
	return out, nil
}

// isHashed knows the keyed hashes that records have in the place of sensitive values.
func isHashed(text string) bool { return strings.HasPrefix(text, "hash:") }

// Delete implements providers.Typed: in the reverse order of their making, each by its UID and waited for until it is gone. What was there
// before is given back.
func (m *manifests) Delete(ctx context.Context, req providers.DeleteRequest) error {
	c, err := m.Cluster()
	if err != nil {
		return fmt.Errorf("%s: %w", req.Address, err)
	}
	ref, err := manifestRefOf(req.Record.Ref)
	if err != nil {
		return fmt.Errorf("%s: %w", req.Address, err)
	}
	say := func(format string, args ...any) {
		req.Emit(resource.Event{Time: m.now(), Type: resource.EventProgress, Address: req.Address.String(), Action: resource.Delete, Message: fmt.Sprintf(format, args...)})
	}
	for rank := rankGuard; rank >= rankNamespace; rank-- {
		var g errgroup.Group
		g.SetLimit(atOnce)
		for _, o := range ref.Objects {
			if rankOf(o.GVK().GroupKind()) == rank {
				g.Go(func() error { return takeAway(ctx, c, o, recordedTimeout(req.Record.Spec), say) })
			}
		}
		if err := g.Wait(); err != nil {
			return fmt.Errorf("%s: %w", req.Address, err)
		}
	}
	return nil
}

// recordedTimeout is how long one object may take to go.
func recordedTimeout(spec json.RawMessage) time.Duration {
	var s struct {
		Timeout string `json:"timeout"`
	}
	if len(spec) == 0 || json.Unmarshal(spec, &s) != nil {
		return readyWithin
	}
	d, err := resource.ParseDuration(s.Timeout)
	if err != nil || d <= 0 {
		return readyWithin
	}
	return d
}
