package kubernetes

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/serving"
	"github.com/continuo-ml/continuo/resource"
)

// LabelModel on an image says which model lies in it, by the digest of its content.
const LabelModel = "continuo.dev/model"

const (
	defaultDrain = 30 * time.Second
	// goneWithin is what a deletion may take besides the time that requests in flight have.
	goneWithin = 3 * time.Minute
)

// deployment serves model versions by Deployments behind a router. Rollouts are driven by Apply: it brings the new version up, moves
// weights, looks at what the routers counted and decides by the gateway's own machine. When it dies the weights stay as they are.
type deployment struct {
	*pods.Env
	now func() time.Time
}

// deploymentRef is what a record keeps of a deployment.
type deploymentRef struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Project   string `json:"project,omitempty"`
}

// Probe implements providers.Prober: the code of the server.
func (d *deployment) Probe(_ context.Context, req providers.ProbeRequest) (map[string]string, error) {
	return d.Work.ProbeCode(req)
}

// Apply implements providers.Typed. It returns when the rollout came to rest. A cancelled ctx leaves the weights as they are; the next
// call goes on from there.
func (d *deployment) Apply(ctx context.Context, spec deploymentSpec, req providers.ApplyRequest) (providers.Result, error) {
	r, err := d.begin(ctx, spec, req)
	if err != nil {
		return providers.Result{}, d.failure(req.Address, nil, err)
	}
	if err := r.drive(ctx); err != nil {
		return providers.Result{}, d.failure(req.Address, r.ref(), err)
	}
	live := r.live()
	res, err := serving.Outcome(r.state.asked(req.Address), live, d.now())
	if err != nil {
		return providers.Result{}, &providers.RunError{Err: fmt.Errorf("%s: %w", req.Address, err), Ref: r.ref()}
	}
	res.Ref = r.ref()
	return res, nil
}

// failure says whose error it is, and whether another try by itself may mend it.
func (d *deployment) failure(a resource.Address, ref any, err error) error {
	err = fmt.Errorf("%s: %w", a, err)
	var again *kube.Retryable
	switch {
	case errors.As(err, &again):
		return &providers.RetryableError{Err: err, After: again.After}
	case ref == nil, errors.Is(err, context.Canceled):
		return err
	}
	// The reference is what finds the objects again that are there by now.
	return &providers.RunError{Err: err, Ref: ref}
}

// begin works out what is to be served, and notes the operation in the deployment's ConfigMap before anything else is made.
func (d *deployment) begin(ctx context.Context, spec deploymentSpec, req providers.ApplyRequest) (*roll, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	c, err := d.Cluster()
	if err != nil {
		return nil, err
	}
	r := &roll{d: d, client: c, req: req, spec: spec}
	if r.front, err = d.front(c, spec, req); err != nil {
		return nil, err
	}
	if r.state, err = loadRollout(ctx, c, r.front); err != nil {
		return nil, err
	}
	mine := r.state != nil && r.state.Op == req.OpID
	if req.Adopt && !mine {
		return nil, fmt.Errorf("operation %s: %w", req.OpID, providers.ErrAbsent)
	}
	if !mine {
		if err := r.ask(ctx); err != nil {
			return nil, err
		}
	}
	return r, r.prepare(ctx)
}

// front is what stands before the versions of this block.
func (d *deployment) front(c *kube.Client, spec deploymentSpec, req providers.ApplyRequest) (front, error) {
	f := front{Name: objectName(req.Address), Address: req.Address, Port: int32(spec.Port), Drain: spec.Drain}
	if spec.Kubernetes != nil {
		f.serverSettings = *spec.Kubernetes
	}
	f.serverSettings = f.withDefaults(d.Settings, c.Namespace())
	if f.Port == 0 {
		f.Port = 80
	}
	if f.Drain <= 0 {
		f.Drain = defaultDrain
	}
	if req.State != nil {
		f.Project = req.State.Lineage
	}
	if req.Prior == nil || len(req.Prior.Ref) == 0 {
		return f, nil
	}
	// A block that was renamed keeps its objects.
	var ref deploymentRef
	if err := json.Unmarshal(req.Prior.Ref, &ref); err != nil {
		return f, fmt.Errorf("read its reference: %w", err)
	}
	if ref.Name != "" && ref.Namespace == f.Namespace {
		f.Name = ref.Name
	}
	return f, nil
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

// token guards the routers' admin ports. It follows from the project's key, so that no Secret need be read to know it.
func (d *deployment) token(f front) (string, error) {
	if len(d.Work.Key) == 0 {
		return "", errors.New("the project has no key (.ml/key), from which the routers' token follows: apply from the folder that holds its state")
	}
	mac := hmac.New(sha256.New, d.Work.Key)
	mac.Write([]byte("router of " + f.Namespace + "/" + f.Name)) // a hash never errors
	return hex.EncodeToString(mac.Sum(nil)), nil
}

// apply makes an object what it should be. Fields of ours that others changed are taken back; others are left, and are an error if we
// want them otherwise.
func apply(ctx context.Context, c *kube.Client, f front, u *unstructured.Unstructured) (kube.Applied, error) {
	live, err := c.Get(ctx, kube.RefOf(u))
	switch {
	case errors.Is(err, kube.ErrNotFound):
		return c.Apply(ctx, u, kube.ApplyOptions{})
	case err != nil:
		return kube.Applied{}, err
	}
	if err := ours(live, f); err != nil {
		return kube.Applied{}, err
	}
	if live.GetDeletionTimestamp() != nil { // what is applied to it would go with it
		if err := c.Delete(ctx, kube.RefOf(live), kube.DeleteOptions{Within: f.Drain + goneWithin}); err != nil {
			return kube.Applied{}, err
		}
		return c.Apply(ctx, u, kube.ApplyOptions{})
	}
	drift, err := kube.Drift(live)
	if err != nil {
		return kube.Applied{}, err
	}
	var force []string
	for _, change := range drift {
		force = append(force, change.Path)
	}
	return c.Apply(ctx, u, kube.ApplyOptions{Force: force})
}

// versionOf is the gateway's word for a model version.
func versionOf(m *config.Model) gateway.Version {
	return gateway.Version{Number: m.Version, Digest: m.Digest}
}
