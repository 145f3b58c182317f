package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/internal/source"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
)

// ClaimBlock is what the nested block of a provider says of the pod that reads a dataset's claim.
type ClaimBlock struct {
	Namespace        string            `ml:"namespace,policy" doc:"Namespace of the claim."`
	Labels           map[string]string `ml:"labels,policy" doc:"Further labels of the Job and its pod."`
	Annotations      map[string]string `ml:"annotations,policy" doc:"Further annotations of the Job and its pod."`
	NodeSelector     map[string]string `ml:"node_selector,policy" doc:"Labels that a node must have."`
	Tolerations      []Toleration      `ml:"toleration,block,policy" doc:"A taint that is put up with."`
	ServiceAccount   string            `ml:"service_account,policy" doc:"Service account; its token is in the pod then."`
	ImagePullSecrets []string          `ml:"image_pull_secrets,policy" doc:"Secrets with registry credentials."`
	PriorityClass    string            `ml:"priority_class,policy" doc:"Priority class of the pod."`
	StartTimeout     time.Duration     `ml:"start_timeout,policy,default=2m" doc:"How long the pod may wait for a node, its image and the volume."`
	ReadTimeout      time.Duration     `ml:"read_timeout,policy,default=1h" doc:"How long reading the data once may take."`
}

// block is the claim's block as that of any pod.
func (b *ClaimBlock) block() Block {
	return Block{
		Namespace: b.Namespace, Labels: b.Labels, Annotations: b.Annotations, NodeSelector: b.NodeSelector, Tolerations: b.Tolerations,
		ServiceAccount: b.ServiceAccount, ImagePullSecrets: b.ImagePullSecrets, PriorityClass: b.PriorityClass, StartTimeout: b.StartTimeout,
	}
}

// Dataset is the driver of datasets on claims. block reads a dataset's nested block; nil is one that says nothing.
func (e *Env) Dataset(block func(spec runs.ClaimRequest) (*ClaimBlock, error)) (providers.Driver, func()) {
	c := &claims{Env: e, block: block, seen: map[string]*readClaim{}}
	return runs.ClaimData(e.Work, e.Executor(), c), c.forget
}

// claims is the runs.Claims of a cluster: a pod of this program, with the claim mounted read-only, digests what is there, and stores it in
// the registry when an apply wants it. Its Job is deleted when it has answered; the cluster does so should this process die.
type claims struct {
	*Env
	block func(runs.ClaimRequest) (*ClaimBlock, error)

	mu   sync.Mutex
	seen map[string]*readClaim
}

// readClaim is one source, which is read by one caller while others wait.
type readClaim struct {
	sync.Mutex
	have *source.Version
}

// forget has every source read anew.
func (c *claims) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.seen)
}

// reading is one source, and how it is read.
type reading struct {
	claim source.Claim
	block ClaimBlock
	addr  resource.Address
	text  string
}

func (c *claims) reading(q runs.ClaimRequest) (r reading, client *kube.Client, err error) {
	r.addr, r.text = q.Address, q.Source
	if r.claim, err = source.ParseClaim(q.Source); err != nil {
		return r, nil, err
	}
	b, err := c.block(q)
	if err != nil {
		return r, nil, err
	}
	if b != nil {
		r.block = *b
	}
	if client, err = c.Cluster(); err != nil {
		return r, nil, err
	}
	all := r.block.block()
	all.fill(c.Settings, client.Namespace())
	r.block.Namespace, r.block.ServiceAccount, r.block.ImagePullSecrets = all.Namespace, all.ServiceAccount, all.ImagePullSecrets
	if r.block.StartTimeout == 0 {
		r.block.StartTimeout = 2 * time.Minute
	}
	if r.block.ReadTimeout == 0 {
		r.block.ReadTimeout = time.Hour
	}
	return r, client, client.Allow(r.block.Namespace)
}

// Digest implements runs.Claims.
func (c *claims) Digest(ctx context.Context, q runs.ClaimRequest) (source.Version, error) {
	r, client, err := c.reading(q)
	if err != nil {
		return source.Version{}, err
	}
	c.mu.Lock()
	key := r.block.Namespace + " " + q.Source
	one := c.seen[key]
	if one == nil {
		one = &readClaim{}
		c.seen[key] = one
	}
	c.mu.Unlock()
	one.Lock()
	defer one.Unlock()
	if one.have != nil {
		return *one.have, nil
	}
	s, err := c.scan(ctx, client, r, pod.ScanTask{})
	if err != nil {
		return source.Version{}, err
	}
	one.have = &source.Version{Hex: s.Hex, Files: s.Files, Bytes: s.Bytes, IsDir: s.IsDir}
	return *one.have, nil
}

// Fetch implements runs.Claims: through the registry, for nothing but pods reaches the claim.
func (c *claims) Fetch(ctx context.Context, q runs.ClaimRequest, dir string) (source.Version, error) {
	r, client, err := c.reading(q)
	if err != nil {
		return source.Version{}, err
	}
	t := pod.ScanTask{Want: q.Want.Hex(), Insecure: c.Settings.InsecureRegistry}
	if t.Repo, err = c.Artifacts.Repo("data"); err != nil {
		return source.Version{}, err
	}
	s, err := c.scan(ctx, client, r, t)
	if err != nil {
		return source.Version{}, err
	}
	if err := c.Artifacts.Client.PullDir(ctx, s.Ref, pod.DataPrefix, dir); err != nil {
		return source.Version{}, fmt.Errorf("fetch what the pod stored: %w", err)
	}
	return source.Version{Hex: s.Hex, Files: s.Files, Bytes: s.Bytes, IsDir: s.IsDir}, nil
}

// scan has a pod do t, and returns what it found.
func (c *claims) scan(ctx context.Context, client *kube.Client, r reading, t pod.ScanTask) (pod.Scanned, error) {
	fail := func(err error) (pod.Scanned, error) {
		return pod.Scanned{}, fmt.Errorf("read %s in namespace %s: %w", r.text, r.block.Namespace, err)
	}
	if _, err := c.Artifacts.base(); err != nil {
		return fail(err)
	}
	if err := bound(ctx, client, r); err != nil {
		return fail(err)
	}
	image, err := c.Runner.Image(ctx)
	if err != nil {
		return fail(err)
	}
	t.V, t.Root, t.Path = pod.TaskVersion, claimDir, r.claim.Path
	task, err := json.Marshal(t)
	if err != nil {
		return fail(err)
	}
	job, err := scanJob(r, image, string(task))
	if err != nil {
		return fail(err)
	}
	made, err := client.Apply(ctx, job, kube.ApplyOptions{})
	if err != nil {
		return fail(err)
	}
	s, err := awaitScan(ctx, client, made.Ref, r)
	// Whatever became of it, and also when the caller has given up: nothing of it stays.
	away, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteWithin)
	defer cancel()
	if gone := client.Delete(away, made.Ref, kube.DeleteOptions{}); err == nil {
		err = gone
	}
	if err != nil {
		return fail(err)
	}
	switch {
	case s.Missing:
		err = fmt.Errorf("there is nothing on the claim under that name; correct the path, or write the data first: %s", s.Error)
	case s.Moved:
		err = fmt.Errorf("%w: %s", files.ErrMoved, s.Error)
	case s.Error != "":
		err = errors.New(s.Error)
	case t.Repo != "" && s.Ref == "":
		err = errors.New("the pod says that it stored the data, and not where; give the provider a runner_image of this version of ml")
	}
	if err != nil {
		return fail(err)
	}
	return s, nil
}

// bound errs unless a claim has a volume. One that waits for its first consumer is not made into a volume by a plan: it holds nothing to read.
func bound(ctx context.Context, c *kube.Client, r reading) error {
	u, err := c.Get(ctx, kube.Ref{Version: "v1", Kind: "PersistentVolumeClaim", Namespace: r.block.Namespace, Name: r.claim.Name})
	if errors.Is(err, kube.ErrNotFound) {
		return fmt.Errorf("there is no claim %s; correct its name, or the namespace in the block or the provider", r.claim.Name)
	}
	if err != nil {
		return err
	}
	var claim corev1.PersistentVolumeClaim
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &claim); err != nil {
		return err
	}
	switch {
	case claim.DeletionTimestamp != nil:
		return fmt.Errorf("claim %s is being deleted", r.claim.Name)
	case claim.Status.Phase == corev1.ClaimLost:
		return fmt.Errorf("claim %s has lost its volume %s; restore the volume, or make the claim anew", r.claim.Name, claim.Spec.VolumeName)
	case claim.Status.Phase != corev1.ClaimBound:
		return fmt.Errorf("claim %s is bound to no volume yet, so there is no data on it; one whose storage class waits for its first consumer is bound by the pod that writes the data", r.claim.Name)
	}
	return nil
}

// awaitScan waits for the pod's last word.
func awaitScan(ctx context.Context, c *kube.Client, ref kube.Ref, r reading) (pod.Scanned, error) {
	limit := r.block.StartTimeout + r.block.ReadTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit+time.Minute, fmt.Errorf("%s has not answered within %s; raise read_timeout in the block", ref, limit))
	defer cancel()
	late := starting{client: c, container: scanName, within: r.block.StartTimeout}
	tick := time.NewTicker(firstLook)
	defer tick.Stop()
	seen := time.Now()
	for {
		s, done, err := lookScan(ctx, c, ref, &late)
		var again *kube.Retryable
		switch {
		case err == nil && done:
			return s, nil
		case err == nil:
			seen = time.Now()
		case ctx.Err() != nil:
			return s, context.Cause(ctx)
		case !errors.As(err, &again) || time.Since(seen) > unseenFor:
			return s, err
		}
		select {
		case <-ctx.Done():
			return s, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// lookScan looks once whether the pod has answered. A cause that will not pass is a *kube.CauseError.
func lookScan(ctx context.Context, c *kube.Client, ref kube.Ref, late *starting) (pod.Scanned, bool, error) {
	job, err := c.Get(ctx, ref)
	if errors.Is(err, kube.ErrNotFound) {
		return pod.Scanned{}, false, fmt.Errorf("%s is gone before it answered: somebody deleted it; plan again", ref)
	}
	if err != nil {
		return pod.Scanned{}, false, err
	}
	list, err := c.Pods(ctx, job)
	if err != nil {
		return pod.Scanned{}, false, err
	}
	if !over(job) {
		return pod.Scanned{}, false, late.look(ctx, job, list)
	}
	s, err := answer(ctx, c, job, list)
	return s, err == nil, err
}

// answer is the last word of the pods of a Job that is over.
func answer(ctx context.Context, c *kube.Client, job *unstructured.Unstructured, list []corev1.Pod) (pod.Scanned, error) {
	for _, code := range []int32{pod.ExitDone, pod.ExitFailed, pod.ExitLost} { // one that was lost says nothing when another came after it
		for _, p := range list {
			end := stateOf(p, scanName).Terminated
			if end == nil || end.ExitCode != code {
				continue
			}
			return pod.ParseScanned([]byte(end.Message))
		}
	}
	if FailedFor(job) == batchv1.JobReasonDeadlineExceeded {
		return pod.Scanned{}, errors.New("the pod took longer than start_timeout and read_timeout allow; raise read_timeout in the block")
	}
	message := kube.Ready(job).Message
	cause, found, err := c.Diagnose(ctx, job)
	if err != nil {
		return pod.Scanned{}, err
	}
	if found {
		message = cause.String()
	}
	return pod.Scanned{}, fmt.Errorf("the pod gave no answer: %s", message)
}
