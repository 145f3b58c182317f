package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/resource"
)

// unknownImage stands for one that only the apply knows.
const unknownImage = "known-after-apply@sha256:0000000000000000000000000000000000000000000000000000000000000000"

// Preflight implements providers.Preflighter: which fields an apply would have to take from others.
func (d *deployment) Preflight(ctx context.Context, req providers.PreflightRequest) ([]providers.Finding, error) {
	imported, err := importedBy(req.Prior)
	if err != nil || imported != nil || req.Prior == nil || req.Action != resource.Update {
		return nil, err // one that was imported becomes wholly ours; others are not there yet, or go
	}
	var spec deploymentSpec
	if err := resource.Decode(resource.Known(req.Spec), &spec); err != nil {
		return nil, fmt.Errorf("read its attributes: %w", err)
	}
	c, err := d.Cluster()
	if err != nil {
		return nil, err
	}
	nest := spec.nest(d.Settings, c.Namespace())
	front, err := d.front(spec, nest, providers.ApplyRequest{Address: req.Address, Prior: req.Prior, State: req.State})
	if err != nil {
		return nil, err
	}
	t := rollout.Trial{Request: rollout.Request{Client: c, Front: front, Key: d.Work.Key, Now: d.now}, Parts: d.parts()}
	if m := spec.Model; m != nil && m.Version > 0 && m.Digest != "" {
		v := version{Front: front, Spec: spec, Nest: nest, Number: m.Version, CodeDigest: req.Probed["code"]}
		t.Servers = func(raw json.RawMessage, secret string) (rollout.Servers, error) { return newFleet(c, v, raw, secret) }
		t.Expect = func(ctx context.Context, recorded json.RawMessage) (json.RawMessage, bool, error) {
			return d.expect(ctx, spec, req.Spec.GetAttr("image").IsKnown(), recorded)
		}
	}
	return t.Foreign(ctx, req.Look)
}

// expect is what an apply would resolve, as far as it is known now.
func (d *deployment) expect(ctx context.Context, spec deploymentSpec, known bool, recorded json.RawMessage) (_ json.RawMessage, sure bool, _ error) {
	var out resolved
	if err := json.Unmarshal(recorded, &out); err != nil {
		return nil, false, fmt.Errorf("read what was resolved: %w", err)
	}
	out.Image = unknownImage
	if known {
		if img, err := d.image(ctx, spec); err == nil {
			out.Image, sure = strings.TrimPrefix(img.Ref, oci.Scheme), true
		} // else the apply tells; until then nobody knows
	}
	raw, err := json.Marshal(out)
	return raw, sure, err
}
