package pods

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/pod"
)

const (
	scanName = "scan"
	claimDir = "/continuo-claim" // where the claim is mounted
	// scanRetries is how often a pod is made again that was lost before it answered.
	scanRetries = 2
	// keptFor is how long the cluster keeps a Job that has ended while nobody was left to delete it.
	keptFor = 5 * time.Minute
	// scanGrace is how long a pod gets to end that nobody waits for any more: it has nothing to save.
	scanGrace = 2 * time.Second
)

var scanKind = schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}

// scanJob builds the Job whose pod reads a claim.
func scanJob(r reading, image, task string) (*unstructured.Unstructured, error) {
	// Each look has a name of its own: two people may plan at the same time.
	name := objectName(r.addr, scanName+"-"+strings.ToLower(rand.Text()[:12]), 52)
	block := r.block.block()
	s := Spec{Name: name, Block: block,
		Labels:      map[string]string{kube.ManagedBy: kube.FieldManager, LabelAddress: LabelValue(r.addr.Slug()), labelStage: scanName},
		Annotations: map[string]string{LabelAddress: r.addr.String()},
	}
	p := s.base()
	p.TerminationGracePeriodSeconds = new(Seconds(scanGrace))
	p.Volumes = append(p.Volumes, corev1.Volume{Name: "claim", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: r.claim.Name, ReadOnly: true}}})
	main := corev1.Container{
		Name: scanName, Image: image, Command: []string{"/" + pod.Program, "pod", "scan"},
		Env:                      []corev1.EnvVar{{Name: pod.ScanVar, Value: task}},
		VolumeMounts:             []corev1.VolumeMount{{Name: "claim", MountPath: claimDir, ReadOnly: true}},
		SecurityContext:          &corev1.SecurityContext{AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true)},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
	if len(block.ImagePullSecrets) > 0 {
		main.Env = append(main.Env, corev1.EnvVar{Name: "DOCKER_CONFIG", Value: Credentials})
	}
	s.credentials(&p, &main)
	p.Containers = []corev1.Container{main}
	j := batchv1.Job{ObjectMeta: s.Meta()}
	j.Spec.Template = corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: j.Labels, Annotations: j.Annotations}, Spec: p}
	s.Judge(&j.Spec, scanName)
	j.Spec.BackoffLimit = new(int32(scanRetries))
	j.Spec.ActiveDeadlineSeconds = new(Seconds(r.block.StartTimeout + r.block.ReadTimeout))
	j.Spec.TTLSecondsAfterFinished = new(int32(keptFor / time.Second))
	u, err := kube.FromTyped(scanKind, j)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", name, err)
	}
	return u, nil
}
