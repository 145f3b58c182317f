package kubernetes

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/rollout"
)

// deploymentSpec is a deployment with the block that only this provider understands.
type deploymentSpec struct {
	config.Deployment
	Kubernetes *serverSettings `ml:"kubernetes,block"`
}

// serverSettings is the block `kubernetes { … }` of a deployment.
type serverSettings struct {
	Namespace        string            `ml:"namespace,immutable" doc:"Namespace of the deployment."`
	ServiceType      string            `ml:"service_type,default=ClusterIP" enum:"ClusterIP|NodePort|LoadBalancer" doc:"Type of the Service in front."`
	ClusterDomain    string            `ml:"cluster_domain,default=cluster.local" doc:"Domain of the cluster's names."`
	Labels           map[string]string `ml:"labels" doc:"Further labels of the server's pods."`
	Annotations      map[string]string `ml:"annotations" doc:"Further annotations of the server's pods."`
	NodeSelector     map[string]string `ml:"node_selector" doc:"Labels that a node must have to run a server."`
	Tolerations      []serverTolerance `ml:"toleration,block" doc:"A taint that is put up with."`
	ServiceAccount   string            `ml:"service_account" doc:"Service account of the servers; its token is in their pods then."`
	ImagePullSecrets []string          `ml:"image_pull_secrets" doc:"Secrets with registry credentials."`
	EnvFrom          []string          `ml:"env_from" doc:"Secrets whose entries are variables of the server: values that must not stand in a file."`
	Force            []string          `ml:"force,policy" doc:"Fields that are taken over from another field manager: KIND/NAME:PATH, such as \"Deployment/tumors-v3:spec.replicas\". A conflict about any other field is an error of the plan that names its manager."`
	Router           *routerSettings   `ml:"router,block" doc:"The router in front of the versions."`
	Route            *routeSettings    `ml:"route,block" doc:"A Gateway that takes requests from outside, and divides them by the weights of an HTTPRoute."`
}

// serverTolerance is a toleration whose change makes new pods: those of a run never move, those of a server do.
type serverTolerance struct {
	Key      string `ml:"key" doc:"Key of the taint; empty with operator Exists means all."`
	Operator string `ml:"operator,default=Equal" enum:"Equal|Exists" doc:"How key and value are compared."`
	Value    string `ml:"value" doc:"Value of the taint."`
	Effect   string `ml:"effect" enum:"NoSchedule|PreferNoSchedule|NoExecute" doc:"Effect of the taint; default all."`
}

// routerSettings say what the router may use.
type routerSettings struct {
	Replicas int    `ml:"replicas,default=1,min=1,max=50" doc:"Number of router pods."`
	CPU      string `ml:"cpu,default=100m" doc:"CPU that is asked for."`
	Memory   string `ml:"memory,default=128Mi" doc:"Memory that is asked for; four times as much is the limit."`
}

// routeSettings say which Gateway takes requests.
type routeSettings struct {
	Gateway   string   `ml:"gateway,required" doc:"The Gateway, as NAME or NAMESPACE/NAME."`
	Listener  string   `ml:"listener" doc:"Name of one of its listeners. Default: all that match."`
	Hostnames []string `ml:"hostnames" doc:"Names of hosts whose requests are for this deployment. Default: all of the listener."`
	Path      string   `ml:"path,default=/" doc:"What the paths of its requests begin with."`
}

// front is r as the rollout has it.
func (r *routeSettings) front() *rollout.Route {
	if r == nil {
		return nil
	}
	return (*rollout.Route)(r)
}

// check says what is wrong with it.
func (r *routeSettings) check() error {
	parts := strings.Split(r.Gateway, "/")
	if len(parts) > 2 || slices.Contains(parts, "") {
		return fmt.Errorf("kubernetes.route.gateway = %q: write NAME or NAMESPACE/NAME", r.Gateway)
	}
	if r.Path != "" && !strings.HasPrefix(r.Path, "/") {
		return fmt.Errorf("kubernetes.route.path = %q: a path begins with /", r.Path)
	}
	return nil
}

// orNone is r, empty if there is none.
func (r *routerSettings) orNone() routerSettings {
	if r == nil {
		return routerSettings{}
	}
	return *r
}

// nest is the nested block, empty if there is none, over the provider's configuration.
func (s deploymentSpec) nest(p pods.Settings, namespace string) serverSettings {
	var n serverSettings
	if s.Kubernetes != nil {
		n = *s.Kubernetes
	}
	n.Namespace, n.ServiceAccount = cmp.Or(n.Namespace, namespace), cmp.Or(n.ServiceAccount, p.ServiceAccount)
	if len(n.ImagePullSecrets) == 0 {
		n.ImagePullSecrets = p.ImagePullSecrets
	}
	return n
}

func tolerations(list []serverTolerance) []corev1.Toleration {
	var out []corev1.Toleration
	for _, t := range list {
		out = append(out, corev1.Toleration{Key: t.Key, Operator: corev1.TolerationOperator(t.Operator), Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
	}
	return out
}

// reserved are the variables that a server gets from the runner contract.
var reserved = []string{"ML_CODE_DIGEST", "ML_MODEL_DIR", "ML_RUN_ID", "PORT", "PREDICTOR_HOST"}

// check says what of a deployment this provider cannot serve, before anything is changed.
func (s deploymentSpec) check() error {
	switch {
	case s.Format != "" && len(s.Command) == 0 && s.Image == "":
		return errors.New("format: a serving runtime for a format is KServe's; give an image or a command, or use provider = \"kserve\"")
	case s.Model == nil || s.Model.Digest == "" || s.Model.Version < 1:
		return errors.New("there is no model version to serve yet")
	case s.Replicas < 1 && s.Scale == nil:
		return errors.New("replicas: 0 servers cannot answer; destroy the deployment to stop serving")
	case s.Sink != nil && s.Sink.File != "":
		return errors.New("sink.file: the router runs in a pod and has no file of the project; give sink.url")
	case len(s.PassEnv) > 0:
		return errors.New("pass_env: servers in a cluster do not have the environment of who applies; put secret values into a Secret and name it in kubernetes { env_from = […] }")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		if slices.Contains(reserved, name) {
			return fmt.Errorf("env: %s is set by the runner contract; choose another name", name)
		}
	}
	if s.Kubernetes != nil && s.Kubernetes.Route != nil {
		if err := s.Kubernetes.Route.check(); err != nil {
			return err
		}
	}
	return s.checkScale()
}

func (s deploymentSpec) checkScale() error {
	c := s.Scale
	switch {
	case c == nil:
		return nil
	case c.Metric != "" && c.Metric != "cpu" && c.Metric != "memory":
		return fmt.Errorf("scale.metric: a HorizontalPodAutoscaler cannot scale by %s on its own; use cpu or memory, or provider = \"kserve\"", c.Metric)
	case c.Min < 1:
		return errors.New("scale.min: 0 servers cannot answer the request that would wake one; use at least 1, or provider = \"kserve\" with Knative")
	case c.Max < c.Min:
		return fmt.Errorf("scale.max: %d is less than min, which is %d", c.Max, c.Min)
	case s.Resources == nil || c.Metric != "memory" && s.Resources.CPU == "" || c.Metric == "memory" && s.Resources.Memory == "":
		return fmt.Errorf("scale: the target is a share of what a server asks for; set resources { %s }", cmp.Or(c.Metric, "cpu"))
	}
	return nil
}

// metrics are the autoscaler's target.
func metrics(c *config.Scale) []autoscalingv2.MetricSpec {
	target := int32(c.Target)
	return []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
		Name:   corev1.ResourceName(cmp.Or(c.Metric, "cpu")),
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &target},
	}}}
}
