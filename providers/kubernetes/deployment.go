package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/rollout"
	monitors "github.com/continuo-ml/continuo/providers/watch"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// LabelModel on an image says which model lies in it, by the digest of its content.
const LabelModel = "continuo.dev/model"

// longestName leaves room for "-v12345" in the name of a Service.
const longestName = 48

// deployment serves model versions by Deployments behind routers.
type deployment struct {
	*pods.Env
	now func() time.Time
}

// Probe implements providers.Prober: the code of the server.
func (d *deployment) Probe(_ context.Context, req providers.ProbeRequest) (map[string]string, error) {
	return d.Work.ProbeCode(req)
}

// Apply implements providers.Typed. It returns when the rollout came to rest. A cancelled ctx leaves the weights as they are; the next
// call goes on from there.
func (d *deployment) Apply(ctx context.Context, spec deploymentSpec, req providers.ApplyRequest) (providers.Result, error) {
	ref, err := importedBy(req.Prior)
	if err == nil && ref != nil {
		return d.direct(ctx, spec, req, ref)
	}
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	r, err := d.rollout(spec, req)
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	return rollout.Apply(ctx, r, spec.Deployment, req, r.Front.Ref())
}

// rollout is the operation as providers/rollout carries it out.
func (d *deployment) rollout(spec deploymentSpec, req providers.ApplyRequest) (rollout.Request, error) {
	if err := spec.check(); err != nil {
		return rollout.Request{}, err
	}
	c, err := d.Cluster()
	if err != nil {
		return rollout.Request{}, err
	}
	nest := spec.nest(d.Settings, c.Namespace())
	front, err := d.front(spec, nest, req)
	return rollout.Request{
		Client: c, Front: front, Key: d.Work.Key, Now: d.now,
		Resolve: func(ctx context.Context) (json.RawMessage, string, error) { return d.resolve(ctx, spec, req) },
		Servers: func(raw json.RawMessage, secret string) (rollout.Servers, error) {
			return newFleet(c, version{Front: front, Spec: spec, Nest: nest, Number: spec.Model.Version, CodeDigest: req.Probed["code"]}, raw, secret)
		},
	}, err
}

// front is what stands before the versions of this block.
func (d *deployment) front(spec deploymentSpec, nest serverSettings, req providers.ApplyRequest) (rollout.Front, error) {
	f := rollout.Front{
		Name: rollout.ObjectName(req.Address, longestName), Namespace: nest.Namespace, Address: req.Address, Port: int32(spec.Port), Drain: spec.Drain,
		ServiceType: nest.ServiceType, ClusterDomain: nest.ClusterDomain, Routers: rollout.Routers(nest.Router.orNone()),
		NodeSelector: nest.NodeSelector, Tolerations: tolerations(nest.Tolerations), ImagePullSecrets: nest.ImagePullSecrets, Route: nest.Route.front(),
		Force: nest.Force, Block: name,
	}.WithDefaults()
	if req.State != nil {
		f.Project = req.State.Lineage
	}
	return f.Kept(req.Prior)
}

// resolved is what an operation found out before it made anything. It goes on with that.
type resolved struct {
	Image string `json:"image"` // by digest, as pods pull it
	// Fetch is the JSON of what the init container brings; "" when the image has code and model itself.
	Fetch string `json:"fetch,omitempty"`
	// FetchBy is the image with this program that does it.
	FetchBy string `json:"fetch_by"`
}

func (d *deployment) resolve(ctx context.Context, spec deploymentSpec, req providers.ApplyRequest) (json.RawMessage, string, error) {
	img, err := d.image(ctx, spec)
	if err != nil {
		return nil, "", err
	}
	out := resolved{Image: strings.TrimPrefix(img.Ref, oci.Scheme)}
	if out.FetchBy, err = d.Runner.Image(ctx); err != nil {
		return nil, "", err
	}
	brought, err := d.bring(ctx, spec, img, req)
	if err != nil {
		return nil, "", err
	}
	if brought != nil {
		data, err := json.Marshal(brought)
		if err != nil {
			return nil, "", fmt.Errorf("encode what to fetch: %w", err)
		}
		out.Fetch = string(data)
	}
	raw, err := json.Marshal(out)
	return raw, out.FetchBy, err
}

// image resolves what the servers run, by digest.
func (d *deployment) image(ctx context.Context, spec deploymentSpec) (oci.Image, error) {
	ref := spec.Image
	if ref == "" {
		ref = d.Settings.Image
	}
	if ref == "" {
		return oci.Image{}, errors.New("image: a server in a pod needs one; set image in the block, or in provider \"kubernetes\" for all")
	}
	img, err := d.Artifacts.Client.Resolve(ctx, ref)
	if err != nil {
		return img, fmt.Errorf("image: %w", err)
	}
	return img, nil
}

// bring says what a server's init container gets out of the registry: what the image lacks; nil when that is nothing.
func (d *deployment) bring(ctx context.Context, spec deploymentSpec, img oci.Image, req providers.ApplyRequest) (*pod.FetchTask, error) {
	t := pod.FetchTask{V: pod.TaskVersion, Dir: pods.Home, Insecure: d.Settings.InsecureRegistry}
	inside := img.Labels[LabelModel]
	if inside != spec.Model.Digest {
		if !strings.HasPrefix(spec.Model.URI, oci.Scheme) {
			return nil, fmt.Errorf("model version %d lies at %q, where no pod reaches it: set ml { artifacts = \"oci://HOST/NAME\" } and train it again, or put it into the image", spec.Model.Version, spec.Model.URI)
		}
		t.Model = &pod.Artifact{Ref: spec.Model.URI, Digest: spec.Model.Digest, Prefix: pod.ModelPrefix}
	}
	if len(spec.Command) > 0 && inside == "" {
		list, err := d.Work.CodeFiles(spec.Exec)
		if err != nil {
			return nil, err
		}
		if t.Code, err = d.pushCode(ctx, list); err != nil {
			return nil, err
		}
		if err := d.Work.Unmoved(req, spec.Exec); err != nil {
			return nil, err // what was stored is not what was planned
		}
	}
	if t.Model == nil && t.Code == nil {
		return nil, nil
	}
	return &t, nil
}

func (d *deployment) pushCode(ctx context.Context, list []string) (*pod.Artifact, error) {
	if len(list) == 0 {
		return nil, nil
	}
	repo, err := d.Artifacts.Repo("code")
	if err != nil {
		return nil, err
	}
	a, err := pod.PushCode(ctx, d.Artifacts.Client, repo, d.Work.Root, list)
	if err != nil {
		return nil, fmt.Errorf("store the code: %w", err)
	}
	return &a, nil
}

// Captured implements watch.Traffic: what the routers captured since the last look is copied to this machine.
func (d *deployment) Captured(ctx context.Context, addr resource.Address, rec *state.Record) (monitors.Captured, error) {
	if err := rollout.Monitored(addr, rec, name); err != nil {
		return monitors.Captured{}, err
	}
	if ref, err := importedBy(rec); err != nil || ref != nil {
		return monitors.Captured{}, errors.Join(err, fmt.Errorf("%s: it was imported and has no router before it: nothing of its traffic is captured", addr))
	}
	c, front, err := d.recorded(addr, rec)
	if err != nil {
		return monitors.Captured{}, err
	}
	return front.Captured(ctx, c, d.Work.Key, d.Work.Dir)
}

// Logs implements providers.Logger.
func (d *deployment) Logs(ctx context.Context, req providers.LogRequest, w io.Writer) error {
	if req.Record == nil {
		return errors.New("this deployment is not applied yet and has no log")
	}
	c, front, err := d.recorded(req.Record.Address, req.Record)
	if err != nil {
		return err
	}
	return front.Logs(ctx, c, req, w)
}

// recorded is what stands before the versions of a record.
func (d *deployment) recorded(a resource.Address, rec *state.Record) (*kube.Client, rollout.Front, error) {
	c, err := d.Cluster()
	if err != nil {
		return nil, rollout.Front{}, err
	}
	f, err := rollout.Front{Name: rollout.ObjectName(a, longestName), Namespace: c.Namespace(), Address: a}.Recorded(rec, name)
	if err != nil {
		return nil, f, fmt.Errorf("%s: %w", a, err)
	}
	return c, f, nil
}
