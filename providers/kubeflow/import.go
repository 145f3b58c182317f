package kubeflow

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/resource"
)

const (
	// trainJobID begins an id that names a TrainJob and not a folder.
	trainJobID = "trainjob/"
	// annotationModel says on a TrainJob of somebody else's where the model is that it made: an image with the files in /models.
	annotationModel = "continuo.dev/model"
)

// trainings serves kind training as providers/runs does, and takes over TrainJobs that somebody else has run.
type trainings struct {
	providers.Driver
	env *pods.Env
}

// Unwrap gives what else the driver can.
func (t trainings) Unwrap() any {
	if u, ok := t.Driver.(interface{ Unwrap() any }); ok {
		return u.Unwrap()
	}
	return t.Driver
}

// Import implements providers.Importer: id is a folder inside the project with a model's files, or trainjob/NAME, or trainjob/NAMESPACE/NAME,
// of a TrainJob that has ended well. What it made becomes version 1, if the block says what the TrainJob ran: a record must not hold
// inputs that the version did not have. The TrainJob is left as it is.
func (t trainings) Import(ctx context.Context, id string, req providers.ApplyRequest) (providers.Result, error) {
	inner, ok := t.Unwrap().(providers.Importer)
	if !ok {
		return providers.Result{}, fmt.Errorf("%s: a training cannot be imported", req.Address)
	}
	name, ok := strings.CutPrefix(id, trainJobID)
	if !ok {
		return inner.Import(ctx, id, req)
	}
	dir, err := t.model(ctx, name, req)
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: import %s: %w", req.Address, id, err)
	}
	res, err := inner.Import(ctx, filepath.ToSlash(t.env.Work.Rel(dir)), req)
	return res, errors.Join(err, os.RemoveAll(dir))
}

// model brings the model of a TrainJob into a folder of this machine.
func (t trainings) model(ctx context.Context, id string, req providers.ApplyRequest) (string, error) {
	var spec struct {
		config.Training
		Kubeflow *block `ml:"kubeflow,block"`
	}
	if err := resource.Decode(req.Spec, &spec); err != nil {
		return "", fmt.Errorf("read its attributes: %w", err)
	}
	c, err := t.env.Cluster()
	if err != nil {
		return "", err
	}
	namespace, name, ok := strings.Cut(id, "/")
	if !ok {
		namespace, name = c.Namespace(), id
		if spec.Kubeflow != nil && spec.Kubeflow.Namespace != "" {
			namespace = spec.Kubeflow.Namespace
		}
	}
	u, err := c.Get(ctx, kube.Ref{Group: group, Version: version, Kind: trainJobKind.Kind, Namespace: namespace, Name: name})
	if err != nil {
		return "", err
	}
	if spec.Image == "" {
		spec.Image = t.env.Settings.Image
	}
	if err := sameAs(spec.Training, u); err != nil {
		return "", err
	}
	if r := kube.Ready(u); !r.Ready {
		return "", fmt.Errorf("it has not ended well: %s", r.Message)
	}
	from := u.GetAnnotations()[annotationModel]
	if from == "" {
		return "", fmt.Errorf("where its model is nobody knows: kubectl annotate trainjob -n %s %s %s=oci://HOST/REPOSITORY@sha256:…, an image with the files in /models", namespace, name, annotationModel)
	}
	img, err := t.env.Artifacts.Client.Resolve(ctx, from)
	if err != nil {
		return "", fmt.Errorf("%s: %w", annotationModel, err)
	}
	dir := filepath.Join(t.env.Work.Dir, "runs", req.OpID+".import")
	return dir, errors.Join(os.RemoveAll(dir), t.env.Artifacts.Client.PullDir(ctx, img.Ref, "models", dir))
}

// sameAs errs with what the block says otherwise than the TrainJob.
func sameAs(spec config.Training, job *unstructured.Unstructured) error {
	trainer, _, err := unstructured.NestedMap(job.Object, "spec", "trainer")
	if err != nil {
		return fmt.Errorf("read its spec.trainer: %w", err)
	}
	var diff []string
	differ := func(attr, here, there string) {
		if here != there {
			diff = append(diff, fmt.Sprintf("%s is %s, and the TrainJob had %s", attr, here, there))
		}
	}
	image, _ := trainer["image"].(string)
	if image != "" {
		differ("image", strings.TrimPrefix(spec.Image, oci.Scheme), image)
	}
	var words []string
	for _, field := range []string{"command", "args"} {
		list, _, err := unstructured.NestedStringSlice(trainer, field)
		if err != nil {
			return fmt.Errorf("read its spec.trainer.%s: %w", field, err)
		}
		words = slices.Concat(words, list)
	}
	if len(words) > 0 {
		differ("command", fmt.Sprintf("%q", spec.Command), fmt.Sprintf("%q", words))
	}
	count := func(field string) string {
		if v, ok := trainer[field]; ok {
			return fmt.Sprint(v)
		}
		return "1"
	}
	differ("nodes", fmt.Sprint(max(spec.Nodes, 1)), count("numNodes"))
	differ("processes_per_node", fmt.Sprint(max(spec.ProcessesPerNode, 1)), count("numProcPerNode"))
	if len(diff) > 0 {
		return fmt.Errorf("the block does not say what it ran: %s; write the block so, and change it when it is imported", strings.Join(diff, "; "))
	}
	return nil
}
