package kserve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/providers/serving"
	"github.com/continuo-ml/continuo/resource"
)

// longestName leaves room for "-v12345-transformer" in the name of a Service.
const longestName = 40

// deployment serves model versions by InferenceServices behind routers of our own, or, where one was imported, by that one.
type deployment struct {
	settings  settings
	artifacts pods.Store
	work      *runs.Workspace
	now       func() time.Time
	// cluster changes what the configuration allows; system only reads, KServe's own configuration and runtimes.
	cluster, system func() (*kube.Client, error)
	// runner is the image that holds this program as /ml.
	runner func(context.Context) (string, error)
	// seen is what a plan looked at.
	seen surveys
}

// deploymentRef is what a record keeps of a deployment.
type deploymentRef struct {
	rollout.Ref
	// Imported names an InferenceService that was there before, and that keeps its name and its address.
	Imported string `json:"imported,omitempty"`
	// Canary is what carries the requests: "", bySplitter, bySpec or byRevisions.
	Canary string `json:"canary,omitempty"`
	// Gateway and Entry are where they come in with bySpec.
	Gateway string `json:"gateway,omitempty"`
	Entry   string `json:"entry,omitempty"`
}

// Probe implements providers.Prober: the code of the server.
func (d *deployment) Probe(_ context.Context, req providers.ProbeRequest) (map[string]string, error) {
	return d.work.ProbeCode(req)
}

// Apply implements providers.Typed. It returns when the rollout came to rest. A cancelled ctx leaves the weights as they are; the next
// call goes on from there.
func (d *deployment) Apply(ctx context.Context, spec deploymentSpec, req providers.ApplyRequest) (providers.Result, error) {
	c, err := d.cluster()
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	spec = d.withImage(spec)
	if err := spec.check(); err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	front, ref, err := d.front(c, spec, req)
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	if ref.Imported != "" {
		return d.direct(ctx, c, spec, req, front, ref)
	}
	n := spec.nest(d.settings, c.Namespace())
	var way entrance
	if ref.Canary == bySpec {
		if way, err = d.entrance(ctx, front.Name, n); err != nil {
			return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
		}
		ref.Gateway, ref.Entry = way.Gateway, way.url()
		front = ref.single(front)
	}
	r := rollout.Request{
		Client: c, Front: front, Key: d.work.Key, Now: d.now,
		Resolve: func(ctx context.Context) (json.RawMessage, string, error) {
			raw, err := d.resolve(ctx, c, spec, n, req)
			if err != nil {
				return nil, "", err
			}
			if front.Carried {
				return raw, "", nil
			}
			runner, err := d.runner(ctx)
			return raw, runner, err
		},
		Servers: func(raw json.RawMessage, secret string) (rollout.Servers, error) {
			rel, err := releaseOf(front, spec, n, raw, secret)
			if err != nil {
				return nil, err
			}
			if ref.Canary == bySpec {
				return d.newStaged(c, rel, way, req.Force)
			}
			fleet, err := newFleet(c, rel)
			if err != nil {
				return nil, err
			}
			fleet.forced, fleet.ingress = req.Force, d.settings.KnativeIngress
			return fleet.servers(), nil
		},
	}
	return rollout.Apply(ctx, r, spec.Deployment, req, ref)
}

// withImage gives a server with a command and no image the one of the provider's configuration.
func (d *deployment) withImage(spec deploymentSpec) deploymentSpec {
	if spec.Image == "" && len(spec.Command) > 0 {
		spec.Image = d.settings.Image
	}
	return spec
}

func (d *deployment) sayer(req providers.ApplyRequest) func(string) {
	return func(text string) {
		req.Emit(resource.Event{Time: d.now(), Type: resource.EventProgress, Address: req.Address.String(), Action: req.Action, Message: serving.Brief(text)})
	}
}

// front is what stands before the versions of this block. A block that was renamed keeps its objects.
func (d *deployment) front(c *kube.Client, spec deploymentSpec, req providers.ApplyRequest) (rollout.Front, deploymentRef, error) {
	n := spec.nest(d.settings, c.Namespace())
	f := rollout.Front{
		Name: rollout.ObjectName(req.Address, longestName), Namespace: n.Namespace, Address: req.Address, Port: int32(spec.Port), Drain: spec.Drain,
		ServiceType: n.ServiceType, ClusterDomain: n.ClusterDomain, Routers: n.routers(),
		NodeSelector: n.NodeSelector, Tolerations: n.tolerations(), ImagePullSecrets: n.ImagePullSecrets, Force: n.Force, Block: "kserve",
	}.WithDefaults()
	if req.State != nil {
		f.Project = req.State.Lineage
	}
	f, err := f.Kept(req.Prior)
	f = carriedBy(f, n.carrier())
	ref := deploymentRef{Ref: f.Ref(), Canary: n.carrier()}
	if err != nil || req.Prior == nil || len(req.Prior.Ref) == 0 {
		return f, ref, err
	}
	var prior deploymentRef
	if err := json.Unmarshal(req.Prior.Ref, &prior); err != nil {
		return f, ref, fmt.Errorf("read its reference: %w", err)
	}
	if prior.Namespace == f.Namespace {
		ref.Imported = prior.Imported
	}
	if req.Action != resource.Replace {
		err = prior.carries(n)
	}
	return f, ref, err
}

// resolve looks whether the cluster can do what is asked, and finds out everything that a tag or a cluster's default decides. It
// changes nothing in the cluster.
func (d *deployment) resolve(ctx context.Context, c *kube.Client, spec deploymentSpec, n nested, req providers.ApplyRequest) (json.RawMessage, error) {
	can, out, err := d.preflight(ctx, spec, n, req)
	if err != nil {
		return nil, err
	}
	inside, err := d.images(ctx, spec, n, &out)
	if err != nil {
		return nil, err
	}
	if out.Fetch, err = d.bring(ctx, spec, inside, req); err != nil {
		return nil, err
	}
	if out.Fetch != "" {
		if out.Mode == knative {
			if err := can.lacks("command: the code that its image lacks is brought by an init container", featureInit); err != nil {
				return nil, err
			}
		}
		if out.FetchBy, err = d.runner(ctx); err != nil {
			return nil, err
		}
	}
	if n.Canary == bySpec && inside == spec.Model.Digest {
		return nil, errors.New("kserve.canary: KServe takes spec.canary of predictors that it gives a model, and this image has its model inside; use kserve { canary = \"router\" }")
	}
	if inside != spec.Model.Digest {
		if err := can.ociOff(d.settings.SystemNamespace); err != nil {
			return nil, err
		}
		if out.Model, err = d.modelcar(ctx, *spec.Model, n.ModelcarBase); err != nil {
			return nil, err
		}
	}
	return json.Marshal(out)
}

// images finds out the digests of all images of a version, and which model the server's has in it.
func (d *deployment) images(ctx context.Context, spec deploymentSpec, n nested, out *resolved) (inside string, _ error) {
	images := []struct {
		at  *string
		ref string
	}{{&out.Image, spec.Image}}
	if t := n.Transformer; t != nil || spec.Transformer != nil {
		ref := spec.Image
		if t != nil && t.Image != "" {
			ref = t.Image
		}
		images = append(images, images[0])
		images[1].at, images[1].ref = &out.Transformer, ref
	}
	if n.Explainer != nil {
		images = append(images, images[0])
		images[len(images)-1].at, images[len(images)-1].ref = &out.Explainer, n.Explainer.Image
	}
	for _, i := range images {
		if i.ref == "" {
			continue
		}
		img, err := d.artifacts.Client.Resolve(ctx, i.ref)
		if err != nil {
			return "", fmt.Errorf("image: %w", err)
		}
		*i.at = img.Ref[len(oci.Scheme):]
		if i.at == &out.Image {
			inside = img.Labels[modelLabel]
		}
	}
	return inside, nil
}

// bring stores the code of a command that is not in its image, and says what an init container has to fetch; "" when that is nothing.
func (d *deployment) bring(ctx context.Context, spec deploymentSpec, inside string, req providers.ApplyRequest) (string, error) {
	if len(spec.Command) == 0 || inside != "" {
		return "", nil // an image with a model in it is a package, and has its code, too
	}
	list, err := d.work.CodeFiles(spec.Exec)
	if err != nil || len(list) == 0 {
		return "", err
	}
	to, err := d.artifacts.Repo("code")
	if err != nil {
		return "", err
	}
	code, err := pod.PushCode(ctx, d.artifacts.Client, to, d.work.Root, list)
	if err != nil {
		return "", fmt.Errorf("store the code: %w", err)
	}
	if err := d.work.Unmoved(req, spec.Exec); err != nil {
		return "", err // what was stored is not what was planned
	}
	data, err := json.Marshal(pod.FetchTask{V: pod.TaskVersion, Dir: home, Code: &code, Insecure: d.settings.InsecureRegistry})
	return string(data), err
}

// preflight errors, before anything is changed, when the cluster cannot do what is asked or would pass over it in silence.
func (d *deployment) preflight(ctx context.Context, spec deploymentSpec, n nested, req providers.ApplyRequest) (can abilities, out resolved, err error) {
	sys, err := d.system()
	if err != nil {
		return can, out, err
	}
	say := func(text string) {
		req.Emit(resource.Event{Time: d.now(), Type: resource.EventLog, Address: req.Address.String(), Action: req.Action, Message: text})
	}
	if can, err = lookAt(ctx, sys, d.settings.SystemNamespace, d.settings.KnativeNamespace); err != nil {
		return can, out, err
	}
	mode, why, err := can.mode(n)
	if err != nil {
		return can, out, err
	}
	if why != "" {
		say(why)
	}
	out = resolved{Mode: mode, Headless: can.Headless, Code: req.Probed["code"]}
	if passed := can.ignored(spec, n, mode); len(passed) > 0 {
		return can, out, passed[0]
	}
	if n.Canary == bySpec {
		if err := can.lookAtStages(ctx, sys); err != nil {
			return can, out, err
		}
		if err := can.stageless(mode); err != nil {
			return can, out, err
		}
	}
	if spec.custom() {
		return can, out, nil
	}
	offers, note, err := runtimes(ctx, sys, n.Namespace)
	if err != nil {
		return can, out, err
	}
	offer, err := choose(offers, api.Model{Format: spec.Format, FormatVersion: n.FormatVersion, Runtime: n.Runtime, Protocol: n.ProtocolVersion})
	if err != nil && note != "" {
		say(fmt.Sprintf("whether a runtime serves %s is not known: %s", spec.Format, note))
		out.Runtime = n.Runtime
		return can, out, nil
	}
	out.Runtime = offer.Name
	out.Args, out.Env = offer.Renamed(rollout.ObjectName(req.Address, longestName))
	return can, out, err
}

// releaseOf is the version that an operation resolved.
func releaseOf(front rollout.Front, spec deploymentSpec, n nested, raw json.RawMessage, secret string) (release, error) {
	rel := release{Front: front, spec: spec, nested: n, number: spec.Model.Version, name: front.VersionName(spec.Model.Version)}
	if err := json.Unmarshal(raw, &rel.resolved); err != nil {
		return rel, fmt.Errorf("read what was resolved: %w", err)
	}
	var err error
	rel.envKey, err = envKeyOf(spec.Env, secret)
	return rel, err
}
