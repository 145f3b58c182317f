package pods

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/continuo-ml/continuo/config"
)

// Settings is the `provider` block of a provider that runs commands in pods.
type Settings struct {
	Kubeconfig       string        `ml:"kubeconfig" doc:"Kubeconfig file. Default: KUBECONFIG, then ~/.kube/config, then the pod's service account. One that a project names may not start programs or read tokens from files."`
	Context          string        `ml:"context" doc:"Context in the kubeconfig. Default: the current one."`
	Namespace        string        `ml:"namespace" doc:"Namespace of what a block does not put elsewhere. Default: the context's."`
	Namespaces       []string      `ml:"namespaces" doc:"Namespaces that may be touched at all. Default: the one above. \"*\" allows all, and objects that belong to none."`
	Image            string        `ml:"image" doc:"Container image of commands whose block names none."`
	RunnerImage      string        `ml:"runner_image" doc:"Image that holds this program as /ml. Default: this very executable, pushed to the artifact store."`
	ServiceAccount   string        `ml:"service_account" doc:"Service account of pods. Default: the namespace's default, without its token."`
	ImagePullSecrets []string      `ml:"image_pull_secrets" doc:"Secrets with registry credentials. The first also serves to fetch inputs and to store models."`
	InsecureRegistry []string      `ml:"insecure_registries" doc:"Registry hosts that are spoken to without TLS. Loopback and private addresses may be anyway."`
	RequestTimeout   time.Duration `ml:"request_timeout,default=30s" doc:"How long one answer of the API server may take before the request is sent again. Logs that are followed have no such end."`
	MaxParallel      int           `ml:"max_parallel,min=1" doc:"Greatest number of runs at the same time. Default: as many as the plan allows."`
}

// Block is what the nested block of a provider says of pods.
type Block struct {
	Namespace        string            `ml:"namespace,policy" doc:"Namespace of the run."`
	Labels           map[string]string `ml:"labels,policy" doc:"Further labels of the run's objects and pods."`
	Annotations      map[string]string `ml:"annotations,policy" doc:"Further annotations of the run's objects and pods."`
	NodeSelector     map[string]string `ml:"node_selector,policy" doc:"Labels that a node must have."`
	Tolerations      []Toleration      `ml:"toleration,block,policy" doc:"A taint that is put up with."`
	ServiceAccount   string            `ml:"service_account,policy" doc:"Service account; its token is in the pod then."`
	ImagePullSecrets []string          `ml:"image_pull_secrets,policy" doc:"Secrets with registry credentials."`
	PriorityClass    string            `ml:"priority_class,policy" doc:"Priority class of the pods."`
	SharedMemory     string            `ml:"shared_memory,policy" doc:"Size of /dev/shm, such as \"2Gi\"; data loaders of PyTorch need it."`
	StartTimeout     time.Duration     `ml:"start_timeout,policy,default=10m" doc:"How long the pods may wait for a node, their image and volumes."`
	Volumes          []Volume          `ml:"volume,block,policy" doc:"A persistent volume claim that is mounted."`
}

// Toleration is one taint that is put up with.
type Toleration struct {
	Key      string `ml:"key,policy" doc:"Key of the taint; empty with operator Exists means all."`
	Operator string `ml:"operator,policy,default=Equal" enum:"Equal|Exists" doc:"How key and value are compared."`
	Value    string `ml:"value,policy" doc:"Value of the taint."`
	Effect   string `ml:"effect,policy" enum:"NoSchedule|PreferNoSchedule|NoExecute" doc:"Effect of the taint; default all."`
}

// Volume is one mounted claim.
type Volume struct {
	Name     string `ml:"name,label"`
	Claim    string `ml:"claim,required,policy" doc:"Name of the PersistentVolumeClaim."`
	Path     string `ml:"path,required,policy" doc:"Where it is mounted."`
	ReadOnly bool   `ml:"read_only,policy" doc:"Whether it is mounted read-only."`
}

// Attributes are what the kinds that run a command say of where they run.
type Attributes struct {
	Image     string            `ml:"image"`
	Nodes     int               `ml:"nodes"`
	Resources *config.Resources `ml:"resources,block"`
}

// fill puts the provider's defaults where the block says nothing.
func (p *Block) fill(s Settings, namespace string) {
	if p.Namespace == "" {
		p.Namespace = namespace
	}
	if p.StartTimeout == 0 {
		p.StartTimeout = 10 * time.Minute
	}
	if p.ServiceAccount == "" {
		p.ServiceAccount = s.ServiceAccount
	}
	if len(p.ImagePullSecrets) == 0 {
		p.ImagePullSecrets = s.ImagePullSecrets
	}
}

const gpuResource = "nvidia.com/gpu"

// Quantities are a block's resources as Kubernetes takes them: what is asked for is also the limit, except of CPU, which can be shared
// when others leave it.
func Quantities(r *config.Resources) (corev1.ResourceRequirements, error) {
	var out corev1.ResourceRequirements
	if r == nil {
		return out, nil
	}
	out.Requests, out.Limits = corev1.ResourceList{}, corev1.ResourceList{}
	for name, text := range map[corev1.ResourceName]string{corev1.ResourceCPU: r.CPU, corev1.ResourceMemory: r.Memory} {
		if text == "" {
			continue
		}
		q, err := Quantity("resources."+string(name), text)
		if err != nil {
			return out, err
		}
		out.Requests[name] = q
		if name != corev1.ResourceCPU {
			out.Limits[name] = q
		}
	}
	if r.GPU > 0 {
		q := *resource.NewQuantity(int64(r.GPU), resource.DecimalSI)
		out.Requests[gpuResource], out.Limits[gpuResource] = q, q
	}
	return out, nil
}

// Quantity reads the amount of an attribute, which must be above 0.
func Quantity(what, text string) (resource.Quantity, error) {
	q, err := resource.ParseQuantity(text)
	if err == nil && q.Sign() <= 0 {
		err = fmt.Errorf("it is not above 0")
	}
	if err != nil {
		return q, fmt.Errorf("%s = %q: %w; write it like \"2\", \"500m\" or \"4Gi\"", what, text, err)
	}
	return q, nil
}

// Check looks at what the schema alone cannot say. name is the nested block's.
func (p *Block) Check(name string) error {
	seen := map[string]string{}
	for _, v := range p.Volumes {
		if !strings.HasPrefix(v.Path, "/") || within(v.Path, Home) || within(Home, v.Path) {
			return fmt.Errorf("%s.volume.%s: path %q: give an absolute path outside of %s", name, v.Name, v.Path, Home)
		}
		if other, ok := seen[v.Path]; ok {
			return fmt.Errorf("%s.volume.%s: %s is mounted at %s already", name, v.Name, other, v.Path)
		}
		seen[v.Path] = v.Name
	}
	if p.SharedMemory != "" {
		_, err := Quantity(name+".shared_memory", p.SharedMemory)
		return err
	}
	return nil
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// Seconds rounds up.
func Seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
