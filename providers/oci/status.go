package oci

import (
	"context"
	"errors"
	"fmt"

	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// Read implements providers.Typed: whether the image is in the registry, and whether its tags point to it. A tag that points
// elsewhere is drift; by whom it was moved no registry says.
func (p *pack) Read(ctx context.Context, req providers.ReadRequest) (providers.Object, error) {
	r, known, err := refOf(req.Record.Ref)
	if err != nil {
		return providers.Object{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	if !known && req.Record.Phase == resource.PhaseFailed {
		return providers.Object{Phase: resource.PhaseReady}, nil // as recorded: it was never made, and nobody took it away
	}
	if !known {
		return providers.Object{Phase: resource.PhaseMissing, Message: "no image is recorded"}, nil
	}
	_, _, err = p.look.Pin(ctx, r.Image) // a small request: a plan makes one for each image
	if errors.Is(err, oci.ErrNotFound) {
		return providers.Object{Phase: resource.PhaseMissing, Message: "the registry does not have " + r.Image}, nil
	}
	if err != nil {
		return providers.Object{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	o := providers.Object{Phase: resource.PhaseReady}
	for _, tag := range r.Tags {
		now, err := p.look.Tagged(ctx, r.Repo, tag)
		if err != nil {
			return providers.Object{}, fmt.Errorf("%s: %w", req.Address, err)
		}
		if now == r.Digest {
			continue
		}
		d := providers.Drift{Path: "tags." + tag, Old: string(r.Digest), New: string(now)}
		if now == "" {
			d.New = "(no such tag)"
		}
		o.Drift = append(o.Drift, d)
	}
	return o, nil
}

// Delete implements providers.Typed: tags that still point to the image go, the image itself stays, since others may use it by its
// digest.
func (p *pack) Delete(ctx context.Context, req providers.DeleteRequest) error {
	if req.Record == nil {
		return nil
	}
	r, known, err := refOf(req.Record.Ref)
	if err == nil && known {
		err = p.untag(ctx, r, func(e resource.Event) { emit(req.Emit, req.Address, resource.Delete, e) })
	}
	if err != nil {
		return fmt.Errorf("%s: %w", req.Address, err)
	}
	return nil
}

// untag removes the tags of an image as far as the registry allows that.
func (p *pack) untag(ctx context.Context, r ref, tell func(resource.Event)) error {
	say := func(format string, args ...any) {
		tell(resource.Event{Time: p.w.Now(), Type: resource.EventLog, Message: fmt.Sprintf(format, args...)})
	}
	for _, tag := range r.Tags {
		gone, err := p.client.Untag(ctx, r.Repo, tag, r.Digest)
		switch {
		case errors.Is(err, oci.ErrUnsupported), errors.Is(err, oci.ErrDenied):
			say("tag %s stays: %v", tag, err)
		case err != nil:
			return err
		case !gone:
			say("tag %s of %s does not point to %s any more and is left alone", tag, r.Repo, r.Digest.Short())
		}
	}
	return nil
}
