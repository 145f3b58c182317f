package kubernetes

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/rollout"
)

// The kinds that a version consists of, besides its Service.
var (
	gvkDeployment = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	gvkScaler     = schema.GroupVersionKind{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"}
)

const (
	serverPort    = 8080
	predictorPort = 8090 // behind a transformer
)

// version is one model version with its servers.
type version struct {
	rollout.Front
	resolved
	Spec   deploymentSpec
	Nest   serverSettings
	Number int
	// ModelDir is where the server finds its model; "" when the image says so itself.
	ModelDir string
	// WorkDir is where the command runs; "" for the image's own.
	WorkDir    string
	CodeDigest string
	// Port is where the server listens; 0 is serverPort.
	Port int
	// EnvKey stands for the user's variables: their values are in a Secret, and pods must be made anew when they move.
	EnvKey string
}

func (v version) name() string { return v.VersionName(v.Number) }

func (v version) labels() map[string]string {
	l := v.Labels(rollout.PartServer)
	l[rollout.LabelVersion] = strconv.Itoa(v.Number)
	return l
}

func (v version) meta() metav1.ObjectMeta {
	m := v.Meta(v.name(), rollout.PartServer)
	m.Labels = v.labels()
	return m
}

// service is what the router passes this version's requests to.
func (v version) service() (*unstructured.Unstructured, error) {
	return rollout.Remembered(serviceKind, corev1.Service{ObjectMeta: v.meta(), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Selector: v.labels(),
		Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http")}}}})
}

// deployment runs the version's servers. With replicas nil their number is left to whoever scales them.
func (v version) deployment(replicas *int32) (*unstructured.Unstructured, error) {
	template, err := v.template()
	if err != nil {
		return nil, err
	}
	return rollout.Remembered(gvkDeployment, appsv1.Deployment{ObjectMeta: v.meta(), Spec: appsv1.DeploymentSpec{
		Replicas: replicas, Selector: &metav1.LabelSelector{MatchLabels: v.labels()}, Strategy: rollout.OneMore(),
		ProgressDeadlineSeconds: new(int32(pods.Seconds(v.readyWithin() + rollout.PullAllowance))), Template: template,
	}})
}

// replicas is how many servers the spec asks for; nil when an autoscaler decides.
func (v version) replicas() *int32 {
	if v.Spec.Scale != nil {
		return nil
	}
	return new(int32(v.Spec.Replicas))
}

// readyWithin is how long a server may take to start.
func (v version) readyWithin() time.Duration {
	if r := v.Spec.Readiness; r != nil && r.Timeout > 0 {
		return r.Timeout
	}
	return time.Minute
}

// key is the same for versions that the same pods serve.
func (v version) key() (string, error) {
	template, err := v.template()
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(template)
	if err != nil {
		return "", fmt.Errorf("encode pods: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), nil
}

func (v version) template() (corev1.PodTemplateSpec, error) {
	res, err := pods.Quantities((*config.Resources)(v.Spec.Resources))
	if err != nil {
		return corev1.PodTemplateSpec{}, err
	}
	labels := maps.Clone(v.Nest.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, v.labels()) // ours are what Services select by
	p := corev1.PodSpec{
		TerminationGracePeriodSeconds: new(pods.Seconds(v.Drain) + rollout.QuietPause + 5),
		ServiceAccountName:            v.Nest.ServiceAccount, AutomountServiceAccountToken: new(v.Nest.ServiceAccount != ""),
		NodeSelector: v.Nest.NodeSelector, Tolerations: tolerations(v.Nest.Tolerations), ImagePullSecrets: rollout.PullSecrets(v.Nest.ImagePullSecrets),
		Containers: v.containers(res),
	}
	if v.Fetch != "" {
		v.fetched(&p)
	}
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: v.Nest.Annotations}, Spec: p}, nil
}

// fetched has an init container put code and model into a volume that the server sees read-only.
func (v version) fetched(p *corev1.PodSpec) {
	mount := corev1.VolumeMount{Name: "continuo", MountPath: pods.Home}
	p.Volumes = []corev1.Volume{{Name: "continuo", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	init := corev1.Container{Name: "continuo-fetch", Image: v.FetchBy, Command: []string{"/ml", "pod", "fetch"},
		Env: []corev1.EnvVar{{Name: pod.FetchVar, Value: v.Fetch}}, VolumeMounts: []corev1.VolumeMount{mount},
		SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: new(bool)}}
	if len(v.Nest.ImagePullSecrets) > 0 {
		init.Env = append(init.Env, corev1.EnvVar{Name: "DOCKER_CONFIG", Value: pods.Credentials})
		init.VolumeMounts = append(init.VolumeMounts, corev1.VolumeMount{Name: "registry", MountPath: pods.Credentials, ReadOnly: true})
		p.Volumes = append(p.Volumes, corev1.Volume{Name: "registry", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: v.Nest.ImagePullSecrets[0], Items: []corev1.KeyToPath{{Key: corev1.DockerConfigJsonKey, Path: "config.json"}}}}})
	}
	p.InitContainers = []corev1.Container{init}
	mount.ReadOnly = true
	for i := range p.Containers {
		p.Containers[i].VolumeMounts = []corev1.VolumeMount{mount}
	}
}

// containers are the server and, behind it, the predictor when there is a transformer.
func (v version) containers(res corev1.ResourceRequirements) []corev1.Container {
	main := v.container("server", v.Spec.Command, cmp.Or(v.Port, serverPort), nil)
	main.Resources = res
	out := []corev1.Container{main}
	if t := v.Spec.Transformer; t != nil {
		main = v.container("predictor", v.Spec.Command, predictorPort, nil)
		main.Resources, main.Ports = res, nil
		main.ReadinessProbe, main.StartupProbe = v.probe(predictorPort, "", 1), nil
		extra := map[string]string{"PREDICTOR_HOST": "127.0.0.1:" + strconv.Itoa(predictorPort)}
		out = []corev1.Container{v.container("server", t.Command, serverPort, extra), main}
	}
	return out
}

func (v version) container(name string, command []string, port int, extra map[string]string) corev1.Container {
	path := ""
	if r := v.Spec.Readiness; r != nil {
		path = r.Path
	}
	const period = 1
	startup := v.probe(port, path, period)
	startup.FailureThreshold = int32(max(pods.Seconds(v.readyWithin())/period, 1))
	c := corev1.Container{
		Name: name, Image: v.Image, Command: command, WorkingDir: v.WorkDir, Env: v.env(port, extra),
		Ports:          []corev1.ContainerPort{{Name: "http", ContainerPort: int32(port), Protocol: corev1.ProtocolTCP}},
		ReadinessProbe: v.probe(port, path, 2), StartupProbe: startup,
		// Balancers learn of a pod's end while it is told to end: until then it answers.
		Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: rollout.QuietPause}}},
	}
	if v.EnvKey != "" {
		c.EnvFrom = append(c.EnvFrom, corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: v.envName()}}})
	}
	for _, s := range v.Nest.EnvFrom {
		c.EnvFrom = append(c.EnvFrom, corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: s}}})
	}
	return c
}

// probe asks the path, or, with none, whether somebody listens: any answer would do, and no probe can say that.
func (v version) probe(port int, path string, period int32) *corev1.Probe {
	p := &corev1.Probe{PeriodSeconds: period, TimeoutSeconds: 2, FailureThreshold: 3}
	if path != "" {
		p.HTTPGet = &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt(port)}
	} else {
		p.TCPSocket = &corev1.TCPSocketAction{Port: intstr.FromInt(port)}
	}
	return p
}

// env is the contract's variables, in an order that does not move. They go before those of Secrets.
func (v version) env(port int, extra map[string]string) []corev1.EnvVar {
	// A log that lags by a buffer is of no use when the server dies; code and model are read-only.
	all := map[string]string{"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
	maps.Copy(all, extra)
	all["PORT"] = strconv.Itoa(port)
	if _, ok := v.variables()["HOST"]; !ok { // the user's own is in the Secret, over which this would win
		all["HOST"] = "0.0.0.0"
	}
	all["ML_RUN_ID"] = fmt.Sprintf("%s.v%d", v.Address.Slug(), v.Number)
	if v.ModelDir != "" {
		all["ML_MODEL_DIR"] = v.ModelDir
	}
	if v.CodeDigest != "" {
		all["ML_CODE_DIGEST"] = v.CodeDigest
	}
	var out []corev1.EnvVar
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, corev1.EnvVar{Name: name, Value: all[name]})
	}
	return out
}

func (v version) envName() string { return v.name() + "-" + v.EnvKey }

// variables are the user's: they may be sensitive, and nothing here could tell which.
func (v version) variables() map[string]string {
	all := maps.Clone(v.Spec.Env)
	if t := v.Spec.Transformer; t != nil {
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, t.Env)
	}
	return all
}

// envKey stands for the user's variables without telling them: key is known to nobody but the routers.
func (v version) envKey(key string) (string, error) {
	all := v.variables()
	if len(all) == 0 {
		return "", nil
	}
	data, err := json.Marshal(all) // maps are sorted
	if err != nil {
		return "", fmt.Errorf("encode env: %w", err)
	}
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(data)
	return hex.EncodeToString(mac.Sum(nil)[:5]), nil
}

// envSecret holds the user's variables. It goes with its owner, the version's Service.
func (v version) envSecret(owner metav1.OwnerReference) (*unstructured.Unstructured, error) {
	m := v.meta()
	m.Name, m.OwnerReferences = v.envName(), []metav1.OwnerReference{owner}
	data := map[string][]byte{}
	for name, value := range v.variables() {
		data[name] = []byte(value)
	}
	return kube.FromTyped(secretKind, corev1.Secret{ObjectMeta: m, Data: data})
}

// scaler is the autoscaler of one version.
func (v version) scaler() (*unstructured.Unstructured, error) {
	return rollout.Remembered(gvkScaler, autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: v.meta(), Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: v.name()},
		MinReplicas:    new(int32(v.Spec.Scale.Min)), MaxReplicas: int32(v.Spec.Scale.Max), Metrics: metrics(v.Spec.Scale),
	}})
}
