package kserve

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers/rollout"
)

// defaultBase is what a model's image stands on: KServe runs sh in it. It is public, and small.
const defaultBase = "docker.io/library/busybox:1.37"

// settings is the `provider "kserve"` block.
type settings struct {
	Kubeconfig       string        `ml:"kubeconfig" doc:"Kubeconfig file. Default: KUBECONFIG, then ~/.kube/config, then the pod's service account. One that a project names may not start programs or read tokens from files."`
	Context          string        `ml:"context" doc:"Context in the kubeconfig. Default: the current one."`
	Namespace        string        `ml:"namespace" doc:"Namespace of what a block does not put elsewhere. Default: the context's."`
	Namespaces       []string      `ml:"namespaces" doc:"Namespaces that may be changed at all. Default: the one above. What all may read of KServe itself is read besides: its configuration and its runtimes."`
	SystemNamespace  string        `ml:"system_namespace,default=kserve" doc:"Namespace that KServe itself runs in."`
	ModelcarBase     string        `ml:"modelcar_base" doc:"Image with sh that a model is put on, so that KServe can mount it. Default: docker.io/library/busybox:1.37."`
	Image            string        `ml:"image" doc:"Container image of servers whose block has a command and names no image."`
	RunnerImage      string        `ml:"runner_image" doc:"Image that holds this program as /ml, for the routers. Default: this very executable, pushed to the artifact store."`
	ServiceAccount   string        `ml:"service_account" doc:"Service account of the servers."`
	ImagePullSecrets []string      `ml:"image_pull_secrets" doc:"Secrets with registry credentials."`
	InsecureRegistry []string      `ml:"insecure_registries" doc:"Registry hosts that are spoken to without TLS. Loopback and private addresses may be anyway."`
	KnativeNamespace string        `ml:"knative_namespace,default=knative-serving" doc:"Namespace that Knative Serving runs in, where there is one."`
	KnativeIngress   string        `ml:"knative_ingress" doc:"URL at which this machine reaches Knative's ingress, such as \"http://203.0.113.7\". With it, golden requests go through the ingress besides. Default: they go to the pods alone."`
	RequestTimeout   time.Duration `ml:"request_timeout,default=30s" doc:"How long one answer of the API server may take before the request is sent again. Logs that are followed have no such end."`
}

// deploymentSpec is a deployment with the block that only this provider understands.
type deploymentSpec struct {
	config.Deployment
	KServe *nested `ml:"kserve,block"`
}

// nested is the block `kserve { … }` of a deployment.
type nested struct {
	Namespace            string            `ml:"namespace,immutable" doc:"Namespace of the deployment."`
	DeploymentMode       string            `ml:"deployment_mode" enum:"Standard|Knative" doc:"How KServe runs the servers. Default: what the cluster's configuration says."`
	Runtime              string            `ml:"runtime" doc:"ServingRuntime or ClusterServingRuntime. Default: KServe chooses one that offers itself for the format."`
	RuntimeVersion       string            `ml:"runtime_version" doc:"Version of the runtime's image."`
	FormatVersion        string            `ml:"format_version" doc:"Version of the model's format."`
	ProtocolVersion      string            `ml:"protocol_version" enum:"v1|v2|grpc-v1|grpc-v2" doc:"Protocol that the server speaks. Default: v1."`
	Args                 []string          `ml:"args" doc:"Further arguments of the server."`
	MinReplicas          *int              `ml:"min_replicas,min=0,max=1000" doc:"Least number of servers; 0 needs Knative. Default: replicas, or scale.min."`
	MaxReplicas          *int              `ml:"max_replicas,min=1,max=1000" doc:"Greatest number of servers. Default: replicas, or scale.max."`
	ScaleMetric          string            `ml:"scale_metric" enum:"cpu|memory|concurrency|rps" doc:"What is scaled by; concurrency and rps need Knative."`
	ScaleTarget          int               `ml:"scale_target,min=1" doc:"Value to hold."`
	ContainerConcurrency int               `ml:"container_concurrency,min=0" doc:"Requests that one server takes at a time; needs Knative."`
	Timeout              time.Duration     `ml:"timeout" doc:"How long a request may take; needs Knative, or a Gateway API route of KServe's own."`
	ServiceAccount       string            `ml:"service_account" doc:"Service account of the servers."`
	ImagePullSecrets     []string          `ml:"image_pull_secrets" doc:"Secrets with registry credentials."`
	Labels               map[string]string `ml:"labels" doc:"Further labels of the servers' pods."`
	Annotations          map[string]string `ml:"annotations" doc:"Further annotations of the InferenceService, which KServe hands on to the pods."`
	NodeSelector         map[string]string `ml:"node_selector" doc:"Labels that a node must have to run a server."`
	Tolerations          []toleration      `ml:"toleration,block" doc:"A taint that is put up with."`
	EnvFrom              []string          `ml:"env_from" doc:"Secrets whose entries are variables of the server: values that must not stand in a file."`
	ModelcarBase         string            `ml:"modelcar_base" doc:"Image with sh that the model is put on. Default: the provider's."`
	Logger               *logger           `ml:"logger,block" doc:"Sends requests and answers to a URL as CloudEvents, by KServe's agent."`
	Batcher              *batcher          `ml:"batcher,block" doc:"Joins requests into batches, by KServe's agent."`
	Transformer          *component        `ml:"transformer,block" doc:"Image and arguments of the deployment's transformer, or all of one."`
	Graph                *graph            `ml:"graph,block" doc:"A graph of servers that answers in the version's place: it calls this version, and others, one after another, side by side, by weight or by condition. Clients post to any path."`
	Explainer            *component        `ml:"explainer,block" doc:"A server that explains predictions: requests to the deployment whose path ends in :explain go to that of their version. KServe tells it by --predictor_host whom to ask."`
	Golden               *golden           `ml:"golden,block" doc:"A request that a new version must answer before it gets traffic. A rollback does not send it."`
	Canary               string            `ml:"canary,default=auto" enum:"auto|router|graph|spec|knative" doc:"What carries the requests to the versions. router: routers of this program's, which count what each version answers, so that rollout { abort } can judge. graph: an InferenceGraph of KServe's with a splitter, without anything of this program in the way of a request; steps then go by time, a version is judged by its pods and its golden request, and nothing is captured for monitors. spec: one InferenceService with KServe's spec.canary (0.20 and newer, mode Standard), and an HTTPRoute of the Gateway API that carries the weights: nothing of this program and no more of KServe's in the way of a request, judged as with graph. knative: Knative's own ingress; the versions are revisions of one InferenceService, and KServe's canaryTrafficPercent shifts the requests; judged as with graph. auto: the routers."`
	Route                *routeSettings    `ml:"route,block" doc:"Where requests come in with canary = \"spec\"."`
	ClusterDomain        string            `ml:"cluster_domain,default=cluster.local" doc:"Domain of the cluster's names."`
	ServiceType          string            `ml:"service_type,default=ClusterIP" enum:"ClusterIP|NodePort|LoadBalancer" doc:"Type of the Service in front."`
	Force                []string          `ml:"force,policy" doc:"Fields that are taken over from another field manager: KIND/NAME:PATH, such as \"InferenceService/tumors-v3:spec.predictor.minReplicas\". A conflict about any other field is an error of the plan that names its manager."`
	Router               *router           `ml:"router,block" doc:"The router in front of the versions."`
}

type logger struct {
	URL  string `ml:"url,required" doc:"Where they go."`
	Mode string `ml:"mode,default=all" enum:"all|request|response" doc:"What goes."`
}

type batcher struct {
	MaxBatchSize int           `ml:"max_batch_size,min=1" doc:"Requests that make a batch."`
	MaxLatency   time.Duration `ml:"max_latency" doc:"How long a request may wait for a batch."`
}

// component is a server beside the predictor.
type component struct {
	Image   string            `ml:"image" doc:"Container image. Default: the deployment's."`
	Command []string          `ml:"command" doc:"Argument list. KServe appends --model_name, --predictor_host and --http_port."`
	Args    []string          `ml:"args" doc:"Further arguments."`
	Env     map[string]string `ml:"env" doc:"Environment variables."`
}

type golden struct {
	Path   string `ml:"path,required" doc:"Path, such as \"/v1/models/churn:predict\"."`
	Body   string `ml:"body" doc:"Body to POST; without one it is a GET."`
	Answer string `ml:"answer" doc:"JSON that must come back; numbers may differ by a millionth. Default: any 2xx answer will do."`
}

type toleration struct {
	Key      string `ml:"key" doc:"Key of the taint; empty with operator Exists means all."`
	Operator string `ml:"operator,default=Equal" enum:"Equal|Exists" doc:"How key and value are compared."`
	Value    string `ml:"value" doc:"Value of the taint."`
	Effect   string `ml:"effect" enum:"NoSchedule|PreferNoSchedule|NoExecute" doc:"Effect of the taint; default all."`
}

type router struct {
	Replicas int    `ml:"replicas,default=1,min=1,max=50" doc:"Number of router pods."`
	CPU      string `ml:"cpu,default=100m" doc:"CPU that is asked for."`
	Memory   string `ml:"memory,default=128Mi" doc:"Memory that is asked for; four times as much is the limit."`
}

// reserved are the variables that a server gets from the runner contract, or from KServe.
var reserved = []string{"ML_CODE_DIGEST", "ML_MODEL_DIR", "ML_RUN_ID", "PORT", "PREDICTOR_HOST", "STORAGE_URI"}

// nest is the nested block, empty if there is none, over the provider's settings.
func (s deploymentSpec) nest(p settings, namespace string) nested {
	var n nested
	if s.KServe != nil {
		n = *s.KServe
	}
	or := func(v *string, defs ...string) {
		for _, d := range defs {
			if *v == "" {
				*v = d
			}
		}
	}
	if n.Canary == byRevisions {
		or(&n.DeploymentMode, knative)
	}
	or(&n.Namespace, namespace)
	or(&n.ServiceAccount, p.ServiceAccount)
	or(&n.ModelcarBase, p.ModelcarBase, defaultBase)
	if len(n.ImagePullSecrets) == 0 {
		n.ImagePullSecrets = p.ImagePullSecrets
	}
	if n.Router == nil {
		n.Router = &router{}
	}
	return n
}

// custom reports whether the deployment brings its own server.
func (s deploymentSpec) custom() bool { return s.Image != "" || len(s.Command) > 0 }

// check says what of a deployment this provider cannot serve, whatever the cluster.
func (s deploymentSpec) check() error {
	n := s.nest(settings{}, "")
	switch {
	case s.custom() && s.Image == "":
		return errors.New("command: KServe runs containers; give image beside it, such as image = package.NAME.image, or set image in provider \"kserve\"; or give a format for a serving runtime")
	case !s.custom() && s.Format == "":
		return errors.New("format: give the model's format for a serving runtime, or an image with a server")
	case s.custom() && n.Runtime != "":
		return errors.New("kserve.runtime: a serving runtime is for a format; remove it, or image and command")
	case s.Model == nil || s.Model.Digest == "" || s.Model.Version < 1:
		return errors.New("there is no model version to serve yet")
	case s.Replicas < 1 && s.Scale == nil && n.MinReplicas == nil:
		return errors.New("replicas: 0 servers cannot answer; destroy the deployment to stop serving, or let Knative wake them: kserve { min_replicas = 0 }")
	case s.Sink != nil && s.Sink.File != "":
		return errors.New("sink.file: the router runs in a pod and has no file of the project; give sink.url")
	case len(s.PassEnv) > 0:
		return errors.New("pass_env: servers in a cluster do not have the environment of who applies; put secret values into a Secret and name it in kserve { env_from = […] }")
	case n.Explainer != nil && n.Explainer.Image == "":
		return errors.New("kserve.explainer.image: missing")
	case n.Transformer != nil && s.Transformer == nil && (n.Transformer.Image == "" || s.Image != "" && len(n.Transformer.Command) == 0):
		return errors.New("kserve.transformer: it needs an image, or a transformer { command } of the deployment beside it")
	case s.Transformer != nil && s.Image == "" && (n.Transformer == nil || n.Transformer.Image == ""):
		return errors.New("transformer: KServe runs containers; give image, or kserve { transformer { image } }")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		if slices.Contains(reserved, name) {
			return fmt.Errorf("env: %s is set by the runner contract; choose another name", name)
		}
	}
	for name := range n.Annotations {
		if strings.HasPrefix(name, "continuo.dev/") || strings.HasPrefix(name, "serving.kserve.io/deploymentMode") {
			return fmt.Errorf("kserve.annotations: %s is set by this program; use the attribute for it", name)
		}
	}
	if err := n.Graph.check(); err != nil {
		return err
	}
	if err := errors.Join(s.uncounted(n), s.unstaged(n), s.unrevised(n)); err != nil {
		return err
	}
	return s.bounds(n)
}

func (s deploymentSpec) bounds(n nested) error {
	low, high := s.replicas(n)
	if high < low {
		return fmt.Errorf("kserve.max_replicas: %d is less than the least number, which is %d", high, low)
	}
	if s.Scale != nil && n.MinReplicas != nil {
		return errors.New("kserve.min_replicas: scale says so already; remove one of them")
	}
	return nil
}

// replicas are the bounds of the number of servers.
func (s deploymentSpec) replicas(n nested) (low, high int) {
	low, high = s.Replicas, s.Replicas
	if c := s.Scale; c != nil {
		low, high = c.Min, c.Max
	}
	if n.MinReplicas != nil {
		low, high = *n.MinReplicas, max(high, *n.MinReplicas)
	}
	if n.MaxReplicas != nil {
		high = *n.MaxReplicas
	}
	return low, high
}

// scaling is the metric and the target; "" when the number of servers is fixed.
func (s deploymentSpec) scaling(n nested) (metric string, target int) {
	if c := s.Scale; c != nil {
		metric, target = c.Metric, int(c.Target)
	}
	if n.ScaleMetric != "" {
		metric = n.ScaleMetric
	}
	if n.ScaleTarget > 0 {
		target = n.ScaleTarget
	}
	return metric, target
}

// readyWithin is how long a server may take to start.
func (s deploymentSpec) readyWithin() time.Duration {
	if r := s.Readiness; r != nil && r.Timeout > 0 {
		return r.Timeout
	}
	return time.Minute
}

func (n nested) tolerations() []corev1.Toleration {
	var out []corev1.Toleration
	for _, t := range n.Tolerations {
		out = append(out, corev1.Toleration{Key: t.Key, Operator: corev1.TolerationOperator(t.Operator), Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
	}
	return out
}

// routers are the settings of the routers.
func (n nested) routers() rollout.Routers {
	return rollout.Routers{Replicas: n.Router.Replicas, CPU: n.Router.CPU, Memory: n.Router.Memory}
}
