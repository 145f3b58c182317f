package kubernetes

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
	home       = "/continuo" // an empty volume: this program, and what a run reads and writes
	mainName   = "main"
	initName   = "continuo-runner"
	masterPort = 29500
	// podRetries is how often a pod that was lost with its node, or died of anything but its command, is made again.
	podRetries = 3
	// margin is what fetching images and inputs and storing results may take besides the command's own timeout.
	margin = 15 * time.Minute
	// credentials is where the first pull secret is mounted, in the layout of Docker's configuration.
	credentials = "/continuo-registry"
	// taskDir is where the Secret's key taskKey is mounted: a task can be larger than a variable, and holds parameters that may be sensitive.
	taskDir = "/continuo-task"
	taskKey = "task.json"
)

var (
	jobKind     = schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}
	serviceKind = schema.GroupVersionKind{Version: "v1", Kind: "Service"}
	secretKind  = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
)

// jobSpec is all that the objects of one stage are made of.
type jobSpec struct {
	Name        string
	Labels      map[string]string // ours; the user's are in Pod
	Annotations map[string]string
	Image       string // of the user
	Runner      string // holds this program as /ml
	// Env names the variables whose values are in the Secret of the Job's name, where the task is, too.
	Env       []string
	Nodes     int
	Resources *config.Resources
	Timeout   time.Duration
	Grace     time.Duration
	Pod       podSettings
	Suspend   bool
}

// job builds the Job of a stage. It is pure: the same spec makes the same object.
func job(s jobSpec) (*unstructured.Unstructured, error) {
	if err := s.Pod.check(); err != nil {
		return nil, err
	}
	podSpec, err := s.pod()
	if err != nil {
		return nil, err
	}
	j := batchv1.Job{ObjectMeta: s.meta()}
	j.Spec = batchv1.JobSpec{
		BackoffLimit: new(int32(podRetries)),
		Template:     corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: j.Labels, Annotations: j.Annotations}, Spec: podSpec},
		PodFailurePolicy: &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{
			// A pod that its node sent away has not failed, whatever code it left with.
			{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}},
			{Action: batchv1.PodFailurePolicyActionFailJob, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{
				ContainerName: new(mainName), Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{pod.ExitFailed}}},
		}},
	}
	if s.Suspend {
		j.Spec.Suspend = new(true)
	}
	if s.Timeout > 0 {
		j.Spec.ActiveDeadlineSeconds = new(seconds(s.Timeout + s.Grace + margin))
	}
	if s.Nodes > 1 {
		n := int32(s.Nodes)
		j.Spec.Completions, j.Spec.Parallelism, j.Spec.CompletionMode = &n, &n, new(batchv1.IndexedCompletion)
		j.Spec.Template.Spec.Subdomain = s.Name
	}
	return kube.FromTyped(jobKind, j)
}

func (s jobSpec) meta() metav1.ObjectMeta {
	m := metav1.ObjectMeta{Name: s.Name, Namespace: s.Pod.Namespace, Labels: map[string]string{}, Annotations: map[string]string{}}
	maps.Copy(m.Labels, s.Pod.Labels)
	maps.Copy(m.Labels, s.Labels)
	maps.Copy(m.Annotations, s.Pod.Annotations)
	maps.Copy(m.Annotations, s.Annotations)
	return m
}

func (s jobSpec) pod() (corev1.PodSpec, error) {
	resources, err := quantities(s.Resources)
	if err != nil {
		return corev1.PodSpec{}, err
	}
	p := corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, ServiceAccountName: s.Pod.ServiceAccount, PriorityClassName: s.Pod.PriorityClass,
		NodeSelector:                  s.Pod.NodeSelector,
		EnableServiceLinks:            new(false),
		TerminationGracePeriodSeconds: new(seconds(s.Grace + 20*time.Second)), // after the command's end its last state is still to be stored
		Volumes:                       []corev1.Volume{{Name: "continuo", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
	}
	if s.Pod.ServiceAccount == "" {
		p.AutomountServiceAccountToken = new(false) // a run has no business with the API server
	}
	for _, name := range s.Pod.ImagePullSecrets {
		p.ImagePullSecrets = append(p.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	for _, t := range s.Pod.Tolerations {
		p.Tolerations = append(p.Tolerations, corev1.Toleration{Key: t.Key, Operator: corev1.TolerationOperator(t.Operator), Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
	}
	mount := corev1.VolumeMount{Name: "continuo", MountPath: home}
	tight := &corev1.SecurityContext{AllowPrivilegeEscalation: new(false)}
	p.InitContainers = []corev1.Container{{Name: initName, Image: s.Runner, Command: []string{"/" + pod.Program, "pod", "install", home}, VolumeMounts: []corev1.VolumeMount{mount}, SecurityContext: tight}}
	main := corev1.Container{
		Name: mainName, Image: s.Image, Command: []string{path.Join(home, pod.Program), "pod", "run"}, Env: s.env(), Resources: resources,
		VolumeMounts: []corev1.VolumeMount{mount}, SecurityContext: tight,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
	if err := s.volumes(&p, &main); err != nil {
		return p, err
	}
	p.Containers = []corev1.Container{main}
	return p, nil
}

// env is the environment of the program in the pod; what the command gets of it is the task's affair.
func (s jobSpec) env() []corev1.EnvVar {
	var env []corev1.EnvVar
	for i, name := range s.Env {
		env = append(env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: s.Name}, Key: envKey(i)}}})
	}
	// Ours come last: of two variables of one name the last counts.
	env = append(env, corev1.EnvVar{Name: pod.TaskFileVar, Value: path.Join(taskDir, taskKey)}, corev1.EnvVar{Name: pod.WorkVar, Value: path.Join(home, "work")})
	if len(s.Pod.ImagePullSecrets) > 0 {
		env = append(env, corev1.EnvVar{Name: "DOCKER_CONFIG", Value: credentials})
	}
	if s.Nodes > 1 {
		env = append(env, corev1.EnvVar{Name: "MASTER_ADDR", Value: s.Name + "-0." + s.Name}, corev1.EnvVar{Name: "MASTER_PORT", Value: strconv.Itoa(masterPort)})
	}
	return env
}

// envKey is where the Secret has the value of the i-th variable: names of variables may hold what keys may not.
func envKey(i int) string { return fmt.Sprintf("env-%03d", i) }

// volumes adds what the block mounts.
func (s jobSpec) volumes(p *corev1.PodSpec, main *corev1.Container) error {
	add := func(name, at string, readOnly bool, source corev1.VolumeSource) {
		p.Volumes = append(p.Volumes, corev1.Volume{Name: name, VolumeSource: source})
		main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: at, ReadOnly: readOnly})
	}
	add("task", taskDir, true, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: s.Name, Items: []corev1.KeyToPath{{Key: taskKey, Path: taskKey}}}})
	if len(s.Pod.ImagePullSecrets) > 0 {
		add("registry", credentials, true, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: s.Pod.ImagePullSecrets[0],
			Items: []corev1.KeyToPath{{Key: corev1.DockerConfigJsonKey, Path: "config.json"}}}})
	}
	if s.Pod.SharedMemory != "" {
		size, err := quantity("kubernetes.shared_memory", s.Pod.SharedMemory)
		if err != nil {
			return err
		}
		add("shm", "/dev/shm", false, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &size}})
	}
	for i, v := range s.Pod.Volumes {
		// Names of volumes are narrower than names of blocks.
		add(fmt.Sprintf("claim-%d", i), v.Path, v.ReadOnly, corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: v.Claim, ReadOnly: v.ReadOnly}})
	}
	return nil
}

// service is the headless Service that gives the pods of several nodes their names.
func service(s jobSpec, owner metav1.OwnerReference) (*unstructured.Unstructured, error) {
	svc := corev1.Service{ObjectMeta: s.meta()}
	svc.OwnerReferences = []metav1.OwnerReference{owner}
	svc.Spec = corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, PublishNotReadyAddresses: true,
		Selector: map[string]string{batchv1.JobNameLabel: s.Name}, Ports: []corev1.ServicePort{{Name: "master", Port: masterPort}}}
	return kube.FromTyped(serviceKind, svc)
}

// secret holds the task and the values of variables, which must not stand in the Job.
func secret(s jobSpec, owner metav1.OwnerReference, task []byte, values map[string]string) (*unstructured.Unstructured, error) {
	sec := corev1.Secret{ObjectMeta: s.meta(), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{taskKey: task}}
	sec.OwnerReferences = []metav1.OwnerReference{owner}
	for i, name := range s.Env {
		sec.Data[envKey(i)] = []byte(values[name])
	}
	return kube.FromTyped(secretKind, sec)
}

// owner refers to the Job, with which what belongs to it goes.
func owner(j kube.Ref) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: jobKind.GroupVersion().String(), Kind: jobKind.Kind, Name: j.Name, UID: uidOf(j)}
}
