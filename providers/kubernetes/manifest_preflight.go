package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// fewBlocks is up to how many blocks of one plan each object is tried of; beyond, those that are not there yet are tried by apply alone.
const fewBlocks = 20

// Preflight implements providers.Preflighter: what Apply tries first, it tries for the plan.
func (m *manifests) Preflight(ctx context.Context, req providers.PreflightRequest) ([]providers.Finding, error) {
	if !req.Spec.IsWhollyKnown() {
		return nil, nil // an object with holes in it would be refused for those
	}
	var spec config.Manifest
	if err := resource.Decode(req.Spec, &spec); err != nil {
		return nil, fmt.Errorf("read its attributes: %w", err)
	}
	c, err := m.Cluster()
	if err != nil {
		return nil, err
	}
	a := &application{m: m, client: c, spec: spec, shared: req.Look, many: req.Of > fewBlocks, req: providers.ApplyRequest{
		Address: req.Address, Action: req.Action, Prior: req.Prior, State: req.State, Emit: func(resource.Event) {},
	}}
	if err := a.prepare(ctx); err != nil {
		return a.findings(ctx, parts(err), req)
	}
	failed := each(ctx, a.those(func(w *object) bool { return !w.later() && (w.live != nil || !a.many) }), a.dry)
	out, err := a.findings(ctx, failed, req)
	for _, w := range a.wanted {
		if w.fixed != nil && req.Action == resource.Update {
			path := w.key + ":" + strings.Join(w.fixed.Fields, ",")
			out = append(out, providers.Finding{Immutable: path, Summary: fmt.Sprintf("%s, for %s cannot be changed in place; the rest stays", w.key, strings.Join(w.fixed.Fields, ", "))})
		}
	}
	return out, err
}

// findings sorts refusals by what they mean for a plan. What may pass by itself is an error: then nobody knows.
func (a *application) findings(ctx context.Context, failed []error, req providers.PreflightRequest) ([]providers.Finding, error) {
	var out []providers.Finding
	var unknown []error
	for _, err := range failed {
		var (
			again  *kube.Retryable
			kind   *kube.MissingKindError
			space  *kube.MissingNamespaceError
			quota  *kube.QuotaError
			denied *kube.ForbiddenError
			others *kube.ForeignError
		)
		f := providers.Finding{Summary: "The cluster refuses an object", Detail: req.Address.Trim(err.Error()) + "."}
		switch {
		case errors.As(err, &again), ctx.Err() != nil:
			unknown = append(unknown, err)
			continue
		case errors.As(err, &others):
			f.Summary = "A field belongs to somebody else"
			if req.Action == resource.Replace {
				continue // it goes with the object
			}
		case errors.As(err, &kind):
			f.Summary, f.Warning = "The cluster lacks a kind", len(req.Needs) > 0 // a block before it may bring that
		case errors.As(err, &space):
			f.Summary, f.Warning = "A namespace is missing", len(req.Needs) > 0
		case errors.As(err, &quota):
			f.Summary, f.Warning = "A quota is used up", true // steps before it may free some
		case errors.As(err, &denied):
			f.Summary = "A right is missing"
		}
		out = append(out, f)
	}
	return out, errors.Join(unknown...)
}

// parts are the errors that one of several objects is made of.
func parts(err error) []error {
	var s *several
	if errors.As(err, &s) {
		return s.all
	}
	return []error{err}
}

// anew reports whether the plan that was approved lets an object be deleted and made again.
func (a *application) anew(w *object) bool {
	for _, r := range a.req.Reasons {
		if r.Code == resource.ReasonImmutable && strings.HasPrefix(r.Path, w.key+":") {
			return true
		}
	}
	return false
}
