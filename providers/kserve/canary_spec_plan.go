package kserve

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
)

// carrier is what carries the requests in place of our routers; "" when they do.
func (n nested) carrier() string {
	if n.Canary == bySplitter || n.Canary == bySpec || n.Canary == byRevisions {
		return n.Canary
	}
	return ""
}

// single is what stands before a deployment that is one InferenceService.
func (r deploymentRef) single(f rollout.Front) rollout.Front {
	f.Carried, f.Single, f.Entry, f.Route = true, true, r.Entry, &rollout.Route{Gateway: r.Gateway}
	return f
}

// entrance is where requests come in.
func (d *deployment) entrance(ctx context.Context, name string, n nested) (entrance, error) {
	sys, err := d.system()
	if err != nil {
		return entrance{}, err
	}
	can, err := lookAt(ctx, sys, d.settings.SystemNamespace, d.settings.KnativeNamespace)
	if err != nil {
		return entrance{}, err
	}
	return entranceOf(name, n, can.In)
}

// lookAtStages asks the cluster's schema whether its InferenceService has spec.canary.
func (a *abilities) lookAtStages(ctx context.Context, sys *kube.Client) error {
	there, err := sys.HasField(ctx, api.Kind, "spec", "canary")
	var denied *kube.ForbiddenError
	if errors.As(err, &denied) {
		a.StagesUnread = err.Error()
		return nil
	}
	a.Stages = there
	return err
}

// stageless errors when the cluster cannot have one InferenceService hold all versions.
func (a abilities) stageless(mode string) error {
	switch {
	case mode != standard:
		return fmt.Errorf("kserve.canary: KServe takes spec.canary in mode %s only, and this cluster deploys as %s; set kserve { deployment_mode = %q }", standard, mode, standard)
	case !a.Gateway:
		return fmt.Errorf("kserve.canary: the cluster serves no %s of %s, and nothing else divides requests by spec.canary: install the Gateway API and a controller for it, or use kserve { canary = \"router\" }", gvkRoute.Kind, gvkRoute.Group)
	case !a.Stages && a.StagesUnread == "":
		return fmt.Errorf("kserve.canary: the cluster's %s has no field spec.canary: KServe has it since 0.20; use kserve { canary = \"router\" }", api.Kind.Kind)
	}
	return nil
}

// unstageable are what a plan finds of that.
func (d *deployment) unstageable(ctx context.Context, can abilities, spec deploymentSpec, n nested, req providers.PreflightRequest) ([]providers.Finding, error) {
	const cannot = "The cluster cannot do this"
	mode, _, err := can.mode(n)
	if n.Canary != bySpec || err != nil {
		return nil, nil // which is said already
	}
	sys, err := d.system()
	if err == nil {
		err = can.lookAtStages(ctx, sys)
	}
	if err != nil {
		return nil, err
	}
	if err := can.stageless(mode); err != nil {
		return []providers.Finding{finding(cannot, err)}, nil
	}
	var out []providers.Finding
	warn := func(summary, detail string) {
		out = append(out, providers.Finding{Warning: true, Summary: summary, Detail: detail})
	}
	if can.StagesUnread != "" {
		warn("What the cluster would ignore is not known", "whether its KServe has spec.canary is not known: "+can.StagesUnread+".")
	}
	way, err := entranceOf(rollout.ObjectName(req.Address, longestName), n, can.In)
	if err != nil {
		return append(out, finding(cannot, err)), nil
	}
	g, err := gateAt(ctx, sys, way, n.Namespace)
	switch {
	case err != nil:
		out = append(out, finding(cannot, err))
	case g.base == "":
		warn("Where the Gateway answers is not known", fmt.Sprintf("kserve.route.address: %s cannot be looked at or says no address for plain HTTP: a new version is not asked through it, and its proxies get %s to follow each step; say where it answers, or give the right to get gateways (deploy/rbac.yaml has it).", way.Ref(n.Namespace), spec.Drain))
	}
	return out, nil
}

// stagedDrift lists what others changed of an InferenceService that holds all versions: what was applied is in a ConfigMap beside it.
func stagedDrift(o rollout.Objects, u *unstructured.Unstructured) ([]kube.FieldChange, error) {
	kept := o.Get(gvkConfigMap, stagesName(u.GetName()))
	if kept == nil {
		return nil, nil
	}
	applied, err := appliedIn(kept)
	if err != nil {
		return nil, err
	}
	return finer(u, kube.DriftFrom(applied, u, nil))
}

// enters tells what the HTTPRoute and the service say of the shares, and why no request comes in.
func enters(f rollout.Front, o rollout.Objects, live gateway.Live, info map[string]string) (down string, err error) {
	if f.Route == nil {
		return "", nil // Knative's ingress takes them
	}
	u := o.Get(gvkRoute, f.Name)
	if u == nil {
		return fmt.Sprintf("HTTPRoute %s/%s is not there", f.Namespace, f.Name), nil
	}
	gw := f.Route.Ref(f.Namespace)
	got, err := rollout.RoutedBy(u, gw)
	if err != nil {
		return "", err
	}
	share := 0
	if c := live.Candidate; c != nil {
		share = got.Weights[fmt.Sprintf("%s-%s-predictor:80", f.Name, variant(c.Number))]
	}
	word := "accepted"
	if !got.Accepted {
		word = "not accepted yet"
	}
	info["route"] = fmt.Sprintf("%s/%s gives the candidate %d %%, %s", gw.Namespace, gw.Name, share, word)
	if service := o.Get(api.Kind, f.Name); service != nil {
		list, err := sharesIn(service)
		if err != nil {
			return "", err
		}
		var parts []string
		for _, s := range list {
			how := "not ready"
			if s.Ready {
				how = "ready"
			}
			parts = append(parts, fmt.Sprintf("%s: %d %%, %s", s.Name, s.Percent, how))
		}
		if len(parts) > 0 {
			info["canary"] = strings.Join(parts, "; ")
		}
	}
	if got.Why != "" {
		down = fmt.Sprintf("%s: %s", kube.RefOf(u), got.Why)
	}
	return down, nil
}
