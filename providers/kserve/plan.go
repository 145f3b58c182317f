package kserve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/resource"
)

// Preflight implements providers.Preflighter: what the cluster cannot do of what the block says, or would pass over in silence. Apply
// looks at the same again, and at what only a registry knows.
func (d *deployment) Preflight(ctx context.Context, req providers.PreflightRequest) ([]providers.Finding, error) {
	spec, err := planned(req.Spec)
	if err != nil {
		return nil, err
	}
	spec = d.withImage(spec)
	if err := spec.check(); err != nil {
		return []providers.Finding{finding("KServe cannot serve this", err)}, nil
	}
	c, err := d.cluster()
	if err != nil {
		return nil, err
	}
	n := spec.nest(d.settings, c.Namespace())
	if err := noRollout(spec, req); err != nil {
		return []providers.Finding{finding("KServe cannot serve this", err)}, nil
	}
	s, err := d.survey(ctx, n.Namespace)
	var lacks *lacking
	switch {
	case errors.As(err, &lacks):
		return []providers.Finding{finding("The cluster cannot do this", err)}, nil
	case err != nil:
		return nil, err
	}
	found := s.findings(d.settings, spec, n)
	stages, err := d.unstageable(ctx, s.can, spec, n, req)
	if err != nil {
		return nil, err
	}
	others, err := d.foreign(ctx, c, spec, n, req)
	return slices.Concat(found, stages, others), err
}

// foreign finds the fields that an apply would have to take from others.
func (d *deployment) foreign(ctx context.Context, c *kube.Client, spec deploymentSpec, n nested, req providers.PreflightRequest) ([]providers.Finding, error) {
	if req.Prior == nil || req.Action != resource.Update {
		return nil, nil // what it makes is not there yet, or goes
	}
	front, ref, err := d.front(c, spec, providers.ApplyRequest{Address: req.Address, Action: req.Action, Prior: req.Prior, State: req.State})
	if err != nil || ref.Imported != "" || front.Single || n.Canary == byRevisions {
		return nil, err // one that was imported becomes wholly ours, and one that holds all versions is not what a single one would be
	}
	t := rollout.Trial{Request: rollout.Request{Client: c, Front: front, Key: d.work.Key, Now: d.now}, Parts: d.parts()}
	if spec.Model.Digest != later {
		t.Servers = func(raw json.RawMessage, secret string) (rollout.Servers, error) {
			rel, err := releaseOf(front, spec, n, raw, secret)
			if err != nil {
				return nil, err
			}
			return newFleet(c, rel)
		}
		t.Expect = func(ctx context.Context, recorded json.RawMessage) (json.RawMessage, bool, error) {
			return d.expect(ctx, spec, n, req, recorded)
		}
	}
	return t.Foreign(ctx, req.Look)
}

// expect is what an apply would resolve, as far as it is known now.
func (d *deployment) expect(ctx context.Context, spec deploymentSpec, n nested, req providers.PreflightRequest, recorded json.RawMessage) (_ json.RawMessage, sure bool, _ error) {
	var out resolved
	if err := json.Unmarshal(recorded, &out); err != nil {
		return nil, false, fmt.Errorf("read what was resolved: %w", err)
	}
	out.Code = req.Probed["code"]
	if spec.Image == later {
		out.Image = later + "@sha256:" + strings.Repeat("0", 64)
	} else if _, err := d.images(ctx, spec, n, &out); err == nil {
		sure = true
	} // else the apply tells; until then nobody knows
	raw, err := json.Marshal(out)
	return raw, sure, err
}

// later stands for what is known only after a step before.
const later = "known-after-apply"

// planned decodes a body of which not all is known. What is to come stands for itself: it is there, and nothing more is known of it.
func planned(v cty.Value) (deploymentSpec, error) {
	var spec deploymentSpec
	if err := resource.Decode(resource.Known(v), &spec); err != nil {
		return spec, fmt.Errorf("read its attributes: %w", err)
	}
	for name, at := range map[string]*string{"image": &spec.Image, "format": &spec.Format} {
		if v.Type().HasAttribute(name) && !v.GetAttr(name).IsKnown() {
			*at = later
		}
	}
	if v.Type().HasAttribute("command") && !v.GetAttr("command").IsKnown() {
		spec.Command = []string{later}
	}
	if spec.Model == nil || spec.Model.Digest == "" || spec.Model.Version < 1 {
		spec.Model = &config.Model{Version: 1, Digest: later}
	}
	return spec, nil
}

// noRollout errors when an imported InferenceService is to be rolled out: no router stands before it.
func noRollout(spec deploymentSpec, req providers.PreflightRequest) error {
	if req.Prior == nil || len(req.Prior.Ref) == 0 || req.Action == resource.Replace {
		return nil
	}
	var ref deploymentRef
	if err := json.Unmarshal(req.Prior.Ref, &ref); err != nil {
		return fmt.Errorf("read its reference: %w", err)
	}
	if err := ref.rollable(spec); err != nil {
		return err
	}
	return ref.carries(spec.nest(settings{}, ""))
}

// carries errors when something else carries the requests than what the block says: the two would stand under one name.
func (r deploymentRef) carries(n nested) error {
	if r.Canary == n.carrier() || r.Imported != "" {
		return nil
	}
	return errors.New("kserve.canary: it was made otherwise, and what carries its requests cannot be exchanged while they come; make it anew with -replace")
}

// rollable errors when the InferenceService was imported and what is asked for needs something before it.
func (r deploymentRef) rollable(spec deploymentSpec) error {
	if r.Imported == "" {
		return nil
	}
	if spec.KServe != nil && spec.KServe.carrier() != "" {
		return fmt.Errorf("kserve.canary: InferenceService %s was imported, and its clients would go past what carries the requests; destroy it and let a new one be made", r.Imported)
	}
	if spec.KServe != nil && spec.KServe.Graph != nil {
		return fmt.Errorf("kserve.graph: InferenceService %s was imported, and its clients would go past a graph; destroy it and let a new one be made", r.Imported)
	}
	if s := spec.Rollout; s == nil || s.Strategy == gateway.Rolling {
		return nil
	}
	return fmt.Errorf("rollout.strategy: InferenceService %s was imported and has no router before it, so %s is not possible; use rolling, or destroy it and let a new one be made", r.Imported, spec.Rollout.Strategy)
}

func finding(summary string, err error) providers.Finding {
	return providers.Finding{Summary: summary, Detail: err.Error() + "."}
}

// survey is what a plan looked at in a cluster for one namespace.
type survey struct {
	can    abilities
	offers []api.Offer
	note   string // what of the runtimes could not be seen
}

// surveys keeps them for the deployments of one plan.
type surveys struct {
	mu   sync.Mutex
	when time.Time
	can  abilities
	of   map[string]survey // by namespace
}

// fresh is how long a look at the cluster holds for the other deployments of a plan.
const fresh = 10 * time.Second

// survey looks at the cluster, once for all deployments of a plan that are in a namespace.
func (d *deployment) survey(ctx context.Context, namespace string) (survey, error) {
	sys, err := d.system()
	if err != nil {
		return survey{}, err
	}
	k := &d.seen
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil || d.now().Sub(k.when) > fresh {
		can, err := lookAt(ctx, sys, d.settings.SystemNamespace, d.settings.KnativeNamespace)
		if err != nil {
			return survey{}, err
		}
		k.when, k.can, k.of = d.now(), can, map[string]survey{}
	}
	s, ok := k.of[namespace]
	if !ok {
		s.can = k.can
		if s.offers, s.note, err = runtimes(ctx, sys, namespace); err != nil {
			return survey{}, err
		}
		k.of[namespace] = s
	}
	return s, nil
}

// findings are what the cluster would not do of what a deployment says.
func (s survey) findings(set settings, spec deploymentSpec, n nested) []providers.Finding {
	var out []providers.Finding
	warn := func(summary, detail string) {
		out = append(out, providers.Finding{Warning: true, Summary: summary, Detail: detail})
	}
	mode, why, err := s.can.mode(n)
	if err != nil {
		return append(out, finding("The cluster cannot do this", err))
	}
	switch {
	case why != "":
		warn("What the cluster would ignore is not known", why+".")
	case s.can.Unread != "":
		warn("What the cluster would ignore is not known", "KServe's configuration is not known: "+s.can.Unread+".")
	}
	for _, err := range s.can.ignored(spec, n, mode) {
		out = append(out, finding("The cluster would ignore this", err))
	}
	if metric, _ := spec.scaling(n); mode == standard && (metric == "cpu" || metric == "memory") && !s.can.Metrics {
		warn("Nothing would be scaled yet", fmt.Sprintf("the cluster measures no pods (it serves no %s of %s): install metrics-server, or the number of servers stays at the least.", gvkMetrics.Kind, gvkMetrics.Group))
	}
	if n.Logger != nil && n.Logger.Mode != "request" && n.Batcher != nil {
		warn("The cluster may ignore this", "kserve.logger: KServe's agent (seen with 0.20) tells of no answer that a batch gave; set mode = \"request\", or remove the batcher.")
	}
	if spec.custom() {
		return out // whether its image has a model in it, only the registry knows
	}
	if err := s.can.ociOff(set.SystemNamespace); err != nil {
		out = append(out, finding("The cluster cannot do this", err))
	}
	_, err = choose(s.offers, api.Model{Format: spec.Format, FormatVersion: n.FormatVersion, Runtime: n.Runtime, Protocol: n.ProtocolVersion})
	switch {
	case err != nil && s.note != "":
		warn("Whether a runtime serves the format is not known", s.note+".")
	case err != nil:
		out = append(out, finding("The cluster cannot do this", err))
	}
	return out
}

// lacking is what a cluster does not have.
type lacking struct{ text string }

// Error implements error.
func (e *lacking) Error() string { return e.text }

// has looks whether the cluster serves kinds.
func has(ctx context.Context, c *kube.Client, kinds map[kindOf]*bool) error {
	for gvk, at := range kinds {
		there, err := c.Has(ctx, gvk)
		if err != nil {
			return fmt.Errorf("look for %s: %w", gvk.Kind, err)
		}
		*at = there
	}
	return nil
}
