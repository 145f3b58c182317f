package pods

import (
	"fmt"
	"maps"
	"path"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/pod"
)

// What a pod of a run looks like from inside.
const (
	Home     = "/continuo" // an empty volume: this program, and what a run reads and writes
	initName = "continuo-runner"
	// MasterPort is where the first node of several listens.
	MasterPort = 29500
	// Retries is how often a pod that was lost with its node, or died of anything but its command, is made again.
	Retries = 3
	// margin is what fetching images and inputs and storing results may take besides the command's own timeout.
	margin = 15 * time.Minute
	// Credentials is where the first pull secret is mounted, in the layout of Docker's configuration.
	Credentials = "/continuo-registry"
	// taskDir is where the Secret's key taskKey is mounted: a task can be larger than a variable, and holds parameters that may be sensitive.
	taskDir = "/continuo-task"
	taskKey = "task.json"
)

var secretKind = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}

// Spec is all that the objects of one stage are made of.
type Spec struct {
	Name        string
	Labels      map[string]string // ours; the user's are in Block
	Annotations map[string]string
	Image       string // of the user
	Runner      string // holds this program as /ml
	// Env names the variables whose values are in the Secret of the object's name, where the task is, too.
	Env       []string
	Nodes     int
	Processes int // on each node; 0: one
	Resources *config.Resources
	Timeout   time.Duration
	Grace     time.Duration
	Block     Block
	// Master is the host name of the first of several nodes; "" leaves it to others to say.
	Master string
}

// Judge sets which end of a pod is the end of the run: a command that failed fails it, whatever else befalls a pod makes another.
func (s Spec) Judge(j *batchv1.JobSpec, container string) {
	j.BackoffLimit = new(int32(Retries))
	j.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
		// A pod that its node sent away has not failed, whatever code it left with.
		{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
			{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}},
		{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
			ContainerName: &container, Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{pod.ExitFailed}}},
	}}
	if s.Timeout > 0 {
		j.ActiveDeadlineSeconds = new(Seconds(s.Timeout + s.Grace + margin))
	}
}

// Meta is the name, and the labels and annotations, of all objects of a stage.
func (s Spec) Meta() metav1.ObjectMeta {
	m := metav1.ObjectMeta{Name: s.Name, Namespace: s.Block.Namespace, Labels: map[string]string{}, Annotations: map[string]string{}}
	maps.Copy(m.Labels, s.Block.Labels)
	maps.Copy(m.Labels, s.Labels)
	maps.Copy(m.Annotations, s.Block.Annotations)
	maps.Copy(m.Annotations, s.Annotations)
	return m
}

// Pod is what a pod of the stage needs. container names that of the command.
func (s Spec) Pod(container string) (corev1.PodSpec, error) {
	resources, err := Quantities(s.Resources)
	if err != nil {
		return corev1.PodSpec{}, err
	}
	p := s.base()
	p.TerminationGracePeriodSeconds = new(Seconds(s.Grace + 20*time.Second)) // after the command's end its last state is still to be stored
	p.Volumes = []corev1.Volume{{Name: "continuo", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	mount := corev1.VolumeMount{Name: "continuo", MountPath: Home}
	tight := &corev1.SecurityContext{AllowPrivilegeEscalation: new(false)}
	p.InitContainers = []corev1.Container{{Name: initName, Image: s.Runner, Command: []string{"/" + pod.Program, "pod", "install", Home}, VolumeMounts: []corev1.VolumeMount{mount}, SecurityContext: tight}}
	main := corev1.Container{
		Name: container, Image: s.Image, Command: []string{path.Join(Home, pod.Program), "pod", "run"}, Env: s.env(), Resources: resources,
		VolumeMounts: []corev1.VolumeMount{mount}, SecurityContext: tight,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
	if err := s.volumes(&p, &main); err != nil {
		return p, err
	}
	p.Containers = []corev1.Container{main}
	return p, nil
}

// base is what the block says of any pod.
func (s Spec) base() corev1.PodSpec {
	p := corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, ServiceAccountName: s.Block.ServiceAccount, PriorityClassName: s.Block.PriorityClass,
		NodeSelector: s.Block.NodeSelector, EnableServiceLinks: new(false),
	}
	if s.Block.ServiceAccount == "" {
		p.AutomountServiceAccountToken = new(false) // a run has no business with the API server
	}
	for _, name := range s.Block.ImagePullSecrets {
		p.ImagePullSecrets = append(p.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	for _, t := range s.Block.Tolerations {
		p.Tolerations = append(p.Tolerations, corev1.Toleration{Key: t.Key, Operator: corev1.TolerationOperator(t.Operator), Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
	}
	return p
}

// env is the environment of the program in the pod; what the command gets of it is the task's affair.
func (s Spec) env() []corev1.EnvVar {
	var env []corev1.EnvVar
	for i, name := range s.Env {
		env = append(env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: s.Name}, Key: envKey(i)}}})
	}
	// Ours come last: of two variables of one name the last counts.
	env = append(env, corev1.EnvVar{Name: pod.TaskFileVar, Value: path.Join(taskDir, taskKey)}, corev1.EnvVar{Name: pod.WorkVar, Value: path.Join(Home, "work")})
	if len(s.Block.ImagePullSecrets) > 0 {
		env = append(env, corev1.EnvVar{Name: "DOCKER_CONFIG", Value: Credentials})
	}
	if s.Nodes > 1 && s.Master != "" {
		env = append(env, corev1.EnvVar{Name: "MASTER_ADDR", Value: s.Master}, corev1.EnvVar{Name: "MASTER_PORT", Value: strconv.Itoa(MasterPort)})
	}
	return env
}

// envKey is where the Secret has the value of the i-th variable: names of variables may hold what keys may not.
func envKey(i int) string { return fmt.Sprintf("env-%03d", i) }

func mount(p *corev1.PodSpec, main *corev1.Container, name, at string, readOnly bool, source corev1.VolumeSource) {
	p.Volumes = append(p.Volumes, corev1.Volume{Name: name, VolumeSource: source})
	main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: at, ReadOnly: readOnly})
}

// credentials mounts those of the registry, if the block names any.
func (s Spec) credentials(p *corev1.PodSpec, main *corev1.Container) {
	if len(s.Block.ImagePullSecrets) > 0 {
		mount(p, main, "registry", Credentials, true, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: s.Block.ImagePullSecrets[0],
			Items: []corev1.KeyToPath{{Key: corev1.DockerConfigJsonKey, Path: "config.json"}}}})
	}
}

// volumes adds what the block mounts.
func (s Spec) volumes(p *corev1.PodSpec, main *corev1.Container) error {
	add := func(name, at string, readOnly bool, source corev1.VolumeSource) {
		mount(p, main, name, at, readOnly, source)
	}
	add("task", taskDir, true, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: s.Name, Items: []corev1.KeyToPath{{Key: taskKey, Path: taskKey}}}})
	s.credentials(p, main)
	if s.Block.SharedMemory != "" {
		size, err := Quantity("shared_memory", s.Block.SharedMemory)
		if err != nil {
			return err
		}
		add("shm", "/dev/shm", false, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &size}})
	}
	for i, v := range s.Block.Volumes {
		// Names of volumes are narrower than names of blocks.
		add(fmt.Sprintf("claim-%d", i), v.Path, v.ReadOnly, corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: v.Claim, ReadOnly: v.ReadOnly}})
	}
	return nil
}

// secret holds the task and the values of variables, which must not stand in the object.
func secret(s Spec, task []byte, values map[string]string) (*unstructured.Unstructured, error) {
	sec := corev1.Secret{ObjectMeta: s.Meta(), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{taskKey: task}}
	for i, name := range s.Env {
		sec.Data[envKey(i)] = []byte(values[name])
	}
	return kube.FromTyped(secretKind, sec)
}

// owned makes an object go with its owner.
func owned(u *unstructured.Unstructured, by kube.Ref) *unstructured.Unstructured {
	u = u.DeepCopy()
	u.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: by.GVK().GroupVersion().String(), Kind: by.Kind, Name: by.Name, UID: uidOf(by)}})
	return u
}
