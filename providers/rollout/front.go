package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
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
	gvkService    = schema.GroupVersionKind{Version: "v1", Kind: "Service"}
	gvkConfigMap  = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	gvkSecret     = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
	gvkPod        = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
)

// Labels on everything that is made, besides those of every object (package pods).
const (
	LabelPart    = "continuo.dev/part"    // PartRouter or PartServer
	LabelVersion = "continuo.dev/version" // of the model, on a server's objects
	PartRouter   = "router"
	PartServer   = "server"
)

const (
	routesKey = "routes.json"
	stateKey  = "rollout.json"
	tokenKey  = "token"
	nobody    = 65532
	// QuietPause is how many seconds a pod that is to end still takes what balancers send it.
	QuietPause = 5
)

// Front is what stands in front of a deployment's versions, whichever they are.
type Front struct {
	Name, Namespace string
	Address         resource.Address
	Project         string
	// Runner is the image of the routers; an operation resolves it.
	Runner string
	Port   int32
	Drain  time.Duration
	// Carried says that the Servers are a Carrier, and that no router of ours is wanted.
	Carried bool
	// Single says besides that one object of the provider's holds all versions, under the deployment's own name, and that clients come
	// in through Route alone: there is no Service of that name.
	Single bool
	// Entry is the URL of clients where it is not that of the Service.
	Entry string
	// ServiceType and ClusterDomain are ClusterIP and cluster.local unless set.
	ServiceType, ClusterDomain string
	Routers                    Routers
	// NodeSelector, Tolerations and ImagePullSecrets are those of the router's pods.
	NodeSelector     map[string]string
	Tolerations      []corev1.Toleration
	ImagePullSecrets []string
	// Route has a Gateway take requests from outside; nil = none does.
	Route *Route
	// Force lists fields that are taken over from other managers, KIND/NAME:PATH; Block is the nested block in which they stand.
	Force []string
	Block string
}

// Routers say what the routers may use.
type Routers struct {
	Replicas    int
	CPU, Memory string // asked for; four times the memory is the limit
}

// Labels mark everything of one deployment.
func (f Front) Labels(part string) map[string]string {
	l := map[string]string{kube.ManagedBy: kube.FieldManager, pods.LabelAddress: pods.LabelValue(f.Address.Slug()), LabelPart: part}
	if f.Project != "" {
		l[pods.LabelProject] = pods.LabelValue(f.Project)
	}
	return l
}

// Selector finds everything of one deployment.
func (f Front) Selector() string {
	l := f.Labels("")
	delete(l, LabelPart)
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(l)) {
		parts = append(parts, k+"="+l[k])
	}
	return strings.Join(parts, ",")
}

// Meta is what all of its objects have in common.
func (f Front) Meta(name, part string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: f.Namespace, Labels: f.Labels(part), Annotations: map[string]string{pods.LabelAddress: f.Address.String()}}
}

// WithDefaults returns f with every zero that means something written out.
func (f Front) WithDefaults() Front {
	or := func(s *string, def string) {
		if *s == "" {
			*s = def
		}
	}
	or(&f.ServiceType, string(corev1.ServiceTypeClusterIP))
	or(&f.ClusterDomain, "cluster.local")
	or(&f.Routers.CPU, "100m")
	or(&f.Routers.Memory, "128Mi")
	f.Routers.Replicas = max(f.Routers.Replicas, 1)
	if f.Port == 0 {
		f.Port = 80
	}
	if f.Drain <= 0 {
		f.Drain = 30 * time.Second
	}
	return f
}

// endpoint is the URL that never changes.
func (f Front) endpoint() string {
	if f.Entry != "" {
		return f.Entry
	}
	url := fmt.Sprintf("http://%s.%s.svc.%s", f.Name, f.Namespace, f.ClusterDomain)
	if f.Port != 80 {
		url += ":" + strconv.Itoa(int(f.Port))
	}
	return url
}

func (f Front) admin() string {
	return fmt.Sprintf("http://%s.%s.svc.%s:%d", f.Name, f.Namespace, f.ClusterDomain, gateway.RouterAdminPort)
}

// VersionName names the objects of a version.
func (f Front) VersionName(version int) string {
	if f.Single {
		return f.Name
	}
	return f.Name + "-v" + strconv.Itoa(version)
}

// Remembered makes an object that knows what was applied to it.
func Remembered(gvk schema.GroupVersionKind, obj any) (*unstructured.Unstructured, error) {
	u, err := kube.FromTyped(gvk, obj)
	if err != nil {
		return nil, err
	}
	return u, kube.Remember(u)
}

// routerService is the stable endpoint.
func (f Front) routerService() (*unstructured.Unstructured, error) {
	ports := []corev1.ServicePort{
		{Name: "http", Port: f.Port, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("http")},
		{Name: "admin", Port: gateway.RouterAdminPort, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString("admin")},
	}
	for _, p := range f.sidePorts() {
		ports = append(ports, corev1.ServicePort{Name: p.Name, Port: p.ContainerPort, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString(p.Name)})
	}
	return Remembered(gvkService, corev1.Service{ObjectMeta: f.Meta(f.Name, PartRouter), Spec: corev1.ServiceSpec{
		Type: corev1.ServiceType(f.ServiceType), Selector: f.Labels(PartRouter), Ports: ports,
	}})
}

// sidePorts are those at which a Gateway has decided between the versions.
func (f Front) sidePorts() []corev1.ContainerPort {
	if f.Route == nil {
		return nil
	}
	return []corev1.ContainerPort{
		{Name: "current", ContainerPort: gateway.RouterCurrentPort, Protocol: corev1.ProtocolTCP},
		{Name: "candidate", ContainerPort: gateway.RouterCandidatePort, Protocol: corev1.ProtocolTCP},
	}
}

// tokenName is a name that nobody else would give a Secret: it is written without a look, for no Secret is ever read.
func (f Front) tokenName() string { return f.Name + "-continuo-token" }

// tokenSecret holds what guards the router's admin port. It goes with the ConfigMap that holds the rollout.
func (f Front) tokenSecret(token string, owner metav1.OwnerReference) (*unstructured.Unstructured, error) {
	meta := f.Meta(f.tokenName(), PartRouter)
	meta.OwnerReferences = []metav1.OwnerReference{owner}
	return kube.FromTyped(gvkSecret, corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{tokenKey: []byte(token)}})
}

// OwnedBy makes an object go with another, which waits for it.
func OwnedBy(r kube.Ref) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: r.GVK().GroupVersion().String(), Kind: r.Kind, Name: r.Name, UID: types.UID(r.UID), BlockOwnerDeletion: new(true)}
}

// configMap holds the routes, which the routers mount, and the rollout's state, which apply goes on from. One write moves both.
func (f Front) configMap(routes gateway.Routes, rollout any) (*unstructured.Unstructured, error) {
	data := map[string]string{}
	for key, v := range map[string]any{routesKey: routes, stateKey: rollout} {
		text, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", key, err)
		}
		data[key] = string(text)
	}
	return Remembered(gvkConfigMap, corev1.ConfigMap{ObjectMeta: f.Meta(f.Name, PartRouter), Data: data})
}

// routerDeployment runs the routers. Nothing in it moves with the routes: they must not restart when a weight changes.
func (f Front) routerDeployment() (*unstructured.Unstructured, error) {
	res, err := f.routerResources()
	if err != nil {
		return nil, err
	}
	labels := f.Labels(PartRouter)
	probe := func(path string) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("admin")}}, PeriodSeconds: 2, FailureThreshold: 3}
	}
	live := probe("/healthz")
	live.PeriodSeconds = 10
	container := corev1.Container{
		Name: PartRouter, Image: f.Runner,
		Command: []string{"/ml", "gateway", "route", "-dir", "/data", "-routes", "/etc/continuo/routes/" + routesKey,
			"-token-file", "/etc/continuo/token/" + tokenKey, "-lame-duck", strconv.Itoa(QuietPause) + "s", "-drain", f.Drain.String()},
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
	for _, p := range f.sidePorts() {
		container.Ports = append(container.Ports, p)
		container.Command = append(container.Command, "-"+p.Name+"-port", strconv.Itoa(int(p.ContainerPort)))
	}
	d := appsv1.Deployment{ObjectMeta: f.Meta(f.Name, PartRouter), Spec: appsv1.DeploymentSpec{
		Replicas: new(int32(f.Routers.Replicas)), Selector: &metav1.LabelSelector{MatchLabels: labels}, Strategy: OneMore(),
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{
				"prometheus.io/scrape": "true", "prometheus.io/port": strconv.Itoa(gateway.RouterAdminPort), "prometheus.io/path": "/metrics"}},
			Spec: corev1.PodSpec{
				AutomountServiceAccountToken: new(bool), TerminationGracePeriodSeconds: new(pods.Seconds(f.Drain) + QuietPause + 10),
				SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), RunAsUser: new(int64(nobody)), RunAsGroup: new(int64(nobody)), FSGroup: new(int64(nobody)),
					SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
				Containers: []corev1.Container{container}, NodeSelector: f.NodeSelector, Tolerations: f.Tolerations, ImagePullSecrets: PullSecrets(f.ImagePullSecrets),
				Volumes: []corev1.Volume{
					{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
					{Name: "routes", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
						LocalObjectReference: corev1.LocalObjectReference{Name: f.Name}, Items: []corev1.KeyToPath{{Key: routesKey, Path: routesKey}}}}},
					{Name: "token", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: f.tokenName()}}},
				},
			},
		},
	}}
	return Remembered(gvkDeployment, d)
}

func (f Front) routerResources() (corev1.ResourceRequirements, error) {
	cpu, err := pods.Quantity("router.cpu", f.Routers.CPU)
	if err != nil {
		return corev1.ResourceRequirements{}, err
	}
	memory, err := pods.Quantity("router.memory", f.Routers.Memory)
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

// OneMore replaces pods one by one, each after its successor is ready.
func OneMore() appsv1.DeploymentStrategy {
	return appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
		MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1))}}
}
