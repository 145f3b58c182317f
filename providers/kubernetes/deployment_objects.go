package kubernetes

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/resource"
)

// The kinds that a deployment consists of.
var (
	gvkDeployment = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	gvkScaler     = schema.GroupVersionKind{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"}
	gvkConfigMap  = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	gvkPod        = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
)

// Labels of a deployment's objects, besides those of names.go.
const (
	labelPart    = "continuo.dev/part"    // partRouter or partServer
	labelVersion = "continuo.dev/version" // of the model, on a server's objects
	partRouter   = "router"
	partServer   = "server"
)

const (
	serverPort    = 8080
	predictorPort = 8090 // behind a transformer
	routesKey     = "routes.json"
	stateKey      = "rollout.json"
	tokenKey      = "token"
	quietPause    = 5 // seconds in which a pod that is to end still takes what balancers send it
	nobody        = 65532
)

// front is what stands in front of a deployment's versions, whichever they are.
type front struct {
	Name    string
	Address resource.Address
	Project string
	Runner  string // image that holds this program as /ml
	Port    int32
	Drain   time.Duration
	serverSettings
}

// labels mark everything of one deployment.
func (f front) labels(part string) map[string]string {
	l := map[string]string{kube.ManagedBy: kube.FieldManager, pods.LabelAddress: pods.LabelValue(f.Address.Slug()), labelPart: part}
	if f.Project != "" {
		l[pods.LabelProject] = pods.LabelValue(f.Project)
	}
	return l
}

func (f front) selector() string {
	l := f.labels("")
	delete(l, labelPart)
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(l)) {
		parts = append(parts, k+"="+l[k])
	}
	return strings.Join(parts, ",")
}

func (f front) meta(name, part string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: f.Namespace, Labels: f.labels(part), Annotations: map[string]string{pods.LabelAddress: f.Address.String()}}
}

// endpoint is the URL that never changes.
func (f front) endpoint() string {
	url := fmt.Sprintf("http://%s.%s.svc.%s", f.Name, f.Namespace, f.ClusterDomain)
	if f.Port != 80 {
		url += ":" + strconv.Itoa(int(f.Port))
	}
	return url
}

func (f front) admin() string {
	return fmt.Sprintf("http://%s.%s.svc.%s:%d", f.Name, f.Namespace, f.ClusterDomain, gateway.RouterAdminPort)
}

// backend is where a version answers. The dot that ends the name saves a resolver its search list.
func (f front) backend(version int, digest string) *gateway.Backend {
	return &gateway.Backend{Version: version, Digest: digest, URL: fmt.Sprintf("http://%s.%s.svc.%s.:80", f.versionName(version), f.Namespace, f.ClusterDomain)}
}

func (f front) versionName(version int) string { return f.Name + "-v" + strconv.Itoa(version) }

// remembered makes an object that knows what was applied to it.
func remembered(gvk schema.GroupVersionKind, obj any) (*unstructured.Unstructured, error) {
	u, err := kube.FromTyped(gvk, obj)
	if err != nil {
		return nil, err
	}
	return u, kube.Remember(u)
}

// routerService is the stable endpoint.
func (f front) routerService() (*unstructured.Unstructured, error) {
	return remembered(serviceKind, corev1.Service{ObjectMeta: f.meta(f.Name, partRouter), Spec: corev1.ServiceSpec{
		Type: corev1.ServiceType(f.ServiceType), Selector: f.labels(partRouter),
		Ports: []corev1.ServicePort{
			{Name: "http", Port: f.Port, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http")},
			{Name: "admin", Port: gateway.RouterAdminPort, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("admin")},
		},
	}})
}

// tokenName is a name that nobody else would give a Secret: it is written without a look, for no Secret is ever read.
func (f front) tokenName() string { return f.Name + "-continuo-token" }

// tokenSecret holds what guards the router's admin port. It goes with the ConfigMap that holds the rollout.
func (f front) tokenSecret(token string, owner metav1.OwnerReference) (*unstructured.Unstructured, error) {
	meta := f.meta(f.tokenName(), partRouter)
	meta.OwnerReferences = []metav1.OwnerReference{owner}
	return kube.FromTyped(secretKind, corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{tokenKey: []byte(token)}})
}

// ownedBy makes an object go with another, which waits for it.
func ownedBy(r kube.Ref) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: r.GVK().GroupVersion().String(), Kind: r.Kind, Name: r.Name, UID: types.UID(r.UID), BlockOwnerDeletion: new(true)}
}

// configMap holds the routes, which the routers mount, and the rollout's state, which apply goes on from. One write moves both.
func (f front) configMap(routes gateway.Routes, rollout any) (*unstructured.Unstructured, error) {
	data := map[string]string{}
	for key, v := range map[string]any{routesKey: routes, stateKey: rollout} {
		text, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", key, err)
		}
		data[key] = string(text)
	}
	return remembered(gvkConfigMap, corev1.ConfigMap{ObjectMeta: f.meta(f.Name, partRouter), Data: data})
}

// routerDeployment runs the routers. Nothing in it moves with the routes: they must not restart when a weight changes.
func (f front) routerDeployment() (*unstructured.Unstructured, error) {
	res, err := f.routerResources()
	if err != nil {
		return nil, err
	}
	labels := f.labels(partRouter)
	probe := func(path string) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("admin")}}, PeriodSeconds: 2, FailureThreshold: 3}
	}
	live := probe("/healthz")
	live.PeriodSeconds = 10
	container := corev1.Container{
		Name: partRouter, Image: f.Runner,
		Command: []string{"/ml", "gateway", "route", "-dir", "/data", "-routes", "/etc/continuo/routes/" + routesKey,
			"-token-file", "/etc/continuo/token/" + tokenKey, "-lame-duck", strconv.Itoa(quietPause) + "s", "-drain", f.Drain.String()},
		Ports: []corev1.ContainerPort{
			{Name: "http", ContainerPort: gateway.RouterPort, Protocol: corev1.ProtocolTCP},
			{Name: "admin", ContainerPort: gateway.RouterAdminPort, Protocol: corev1.ProtocolTCP},
		},
		Resources: res, ReadinessProbe: probe("/readyz"), LivenessProbe: live,
		SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: new(bool), ReadOnlyRootFilesystem: new(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "data", MountPath: "/data"},
			{Name: "routes", MountPath: "/etc/continuo/routes", ReadOnly: true},
			{Name: "token", MountPath: "/etc/continuo/token", ReadOnly: true},
		},
	}
	d := appsv1.Deployment{ObjectMeta: f.meta(f.Name, partRouter), Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(f.Router.Replicas)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Strategy: oneMore(),
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{
				"prometheus.io/scrape": "true", "prometheus.io/port": strconv.Itoa(gateway.RouterAdminPort), "prometheus.io/path": "/metrics"}},
			Spec: corev1.PodSpec{
				AutomountServiceAccountToken: new(bool), TerminationGracePeriodSeconds: new(pods.Seconds(f.Drain) + quietPause + 10),
				SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), RunAsUser: new(int64(nobody)), RunAsGroup: new(int64(nobody)), FSGroup: new(int64(nobody)),
					SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
				Containers: []corev1.Container{container}, NodeSelector: f.NodeSelector, Tolerations: tolerations(f.Tolerations), ImagePullSecrets: pullSecrets(f.ImagePullSecrets),
				Volumes: []corev1.Volume{
					{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
					{Name: "routes", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
						LocalObjectReference: corev1.LocalObjectReference{Name: f.Name}, Items: []corev1.KeyToPath{{Key: routesKey, Path: routesKey}}}}},
					{Name: "token", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: f.tokenName()}}},
				},
			},
		},
	}}
	return remembered(gvkDeployment, d)
}

func (f front) routerResources() (corev1.ResourceRequirements, error) {
	cpu, err := pods.Quantity("kubernetes.router.cpu", f.Router.CPU)
	if err != nil {
		return corev1.ResourceRequirements{}, err
	}
	memory, err := pods.Quantity("kubernetes.router.memory", f.Router.Memory)
	if err != nil {
		return corev1.ResourceRequirements{}, err
	}
	limit := memory.DeepCopy()
	limit.Mul(4)
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory},
		Limits:   corev1.ResourceList{corev1.ResourceMemory: limit},
	}, nil
}

// oneMore replaces pods one by one, each after its successor is ready.
func oneMore() appsv1.DeploymentStrategy {
	return appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
		MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1))}}
}

func tolerations(list []serverTolerance) []corev1.Toleration {
	var out []corev1.Toleration
	for _, t := range list {
		out = append(out, corev1.Toleration{Key: t.Key, Operator: corev1.TolerationOperator(t.Operator), Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
	}
	return out
}

func pullSecrets(names []string) []corev1.LocalObjectReference {
	var out []corev1.LocalObjectReference
	for _, n := range names {
		out = append(out, corev1.LocalObjectReference{Name: n})
	}
	return out
}

// scaler is the autoscaler of one version.
func (v version) scaler() (*unstructured.Unstructured, error) {
	name := v.versionName(v.Number)
	return remembered(gvkScaler, autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: v.meta(), Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name},
		MinReplicas:    new(int32(v.Spec.Scale.Min)), MaxReplicas: int32(v.Spec.Scale.Max), Metrics: metrics(v.Spec.Scale),
	}})
}
