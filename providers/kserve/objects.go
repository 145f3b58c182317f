package kserve

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/rollout"
)

const (
	// releaseNote on pods tells which servers they are: KServe hands the annotations of a component on to its pods.
	releaseNote = "continuo.dev/release"
	// envNote on an InferenceService names the Secret with the variables of its servers.
	envNote    = "continuo.dev/env"
	serverPort = 8080
	home       = "/continuo" // where code is put that an image does not have
	// credentials is where the init container finds those of the registry.
	credentials = "/continuo-registry"
)

var gvkSecret = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}

// resolved is what an operation found out before it made anything. It goes on with that.
type resolved struct {
	Mode     string `json:"mode"`               // Standard or Knative
	Headless bool   `json:"headless,omitempty"` // the Services of components have no address of their own
	Image    string `json:"image,omitempty"`    // by digest, of a server of the deployment's own
	Model    string `json:"model,omitempty"`    // oci:// by digest; "" when the image has it
	Code     string `json:"code,omitempty"`     // digest of the code
	// Fetch is the JSON of what an init container brings: code that the image lacks.
	Fetch   string `json:"fetch,omitempty"`
	FetchBy string `json:"fetch_by,omitempty"` // the image with this program that does it
	// Runtime serves the format; Args and Env have its server know the model by the deployment's name.
	Runtime string            `json:"runtime,omitempty"`
	Args    []string          `json:"args,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	// Transformer and Explainer are images by digest.
	Transformer string `json:"transformer,omitempty"`
	Explainer   string `json:"explainer,omitempty"`
}

// release is one model version as an InferenceService.
type release struct {
	rollout.Front
	resolved
	// name is that of the InferenceService.
	name   string
	spec   deploymentSpec
	nested nested
	number int
	// envKey stands for the user's variables: their values are in a Secret, and pods must be made anew when they move.
	envKey string
}

func (r release) labels() map[string]string {
	l := r.Labels(rollout.PartServer)
	l[rollout.LabelVersion] = strconv.Itoa(r.number)
	return l
}

// service is the InferenceService, and the key of its servers.
func (r release) service() (*unstructured.Unstructured, string, error) {
	s := api.Service{Meta: metav1.ObjectMeta{Name: r.name, Namespace: r.Namespace, Labels: r.labels(), Annotations: r.annotations()}}
	predictor, err := r.predictor()
	if err != nil {
		return nil, "", err
	}
	s.Predictor, s.Transformer, s.Explainer = predictor, r.transformer(), r.explainer()
	key, err := keyOf(s, r.nested.Graph)
	if err != nil {
		return nil, "", err
	}
	for _, c := range []*api.Component{s.Predictor, s.Transformer, s.Explainer} {
		if c != nil {
			c.Annotations = map[string]string{releaseNote: key}
		}
	}
	u, err := s.Object()
	if err != nil {
		return nil, "", err
	}
	return u, key, kube.Remember(u)
}

// keyOf is the same for services with the same pods. How many there are moves in place.
func keyOf(s api.Service, g *graph) (string, error) {
	for _, c := range []**api.Component{&s.Predictor, &s.Transformer, &s.Explainer} {
		if *c != nil {
			same := **c
			same.Min, same.Max, same.Target, same.Metric = nil, 0, nil, ""
			*c = &same
		}
	}
	data, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("encode servers: %w", err)
	}
	if g != nil {
		more, err := json.Marshal(g)
		if err != nil {
			return "", fmt.Errorf("encode graph: %w", err)
		}
		data = append(data, more...)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), nil
}

func (r release) annotations() map[string]string {
	notes := maps.Clone(r.nested.Annotations)
	if notes == nil {
		notes = map[string]string{}
	}
	notes[pods.LabelAddress], notes[api.ModeAnnotation] = r.Address.String(), r.Mode
	if metric, _ := r.spec.scaling(r.nested); metric == "" && r.Mode == standard {
		notes[api.ScalerAnnotation] = api.NoScaler
	}
	if r.nested.Canary == byRevisions {
		notes[api.TagAnnotation] = "true" // the newest revision gets an address of its own, at which it is asked before its turn
	}
	if name := r.envName(); name != "" {
		notes[envNote] = name
	}
	return notes
}

// component has what all components share.
func (r release) component() *api.Component {
	n := r.nested
	c := &api.Component{
		Labels: n.Labels,
		Pod: corev1.PodSpec{ServiceAccountName: n.ServiceAccount, NodeSelector: n.NodeSelector, Tolerations: n.tolerations(),
			ImagePullSecrets: rollout.PullSecrets(n.ImagePullSecrets)},
	}
	if r.Mode == standard { // Knative refuses it: a server has as long to end as a request may take
		c.Pod.TerminationGracePeriodSeconds = new(pods.Seconds(r.Drain) + 5)
	}
	return c
}

func (r release) predictor() (*api.Component, error) {
	res, err := pods.Quantities((*config.Resources)(r.spec.Resources))
	if err != nil {
		return nil, err
	}
	c, n := r.component(), r.nested
	low, high := r.spec.replicas(n)
	c.Min, c.Max = new(int32(low)), int32(high)
	if metric, target := r.spec.scaling(n); metric != "" {
		c.Metric, c.Target = metric, new(int32(target))
	}
	if n.ContainerConcurrency > 0 {
		c.ContainerConcurrency = new(int64(n.ContainerConcurrency))
	}
	if n.Timeout > 0 {
		c.Timeout = new(pods.Seconds(n.Timeout))
	}
	if l := n.Logger; l != nil {
		c.LogURL, c.LogMode = l.URL, l.Mode
	}
	if b := n.Batcher; b != nil {
		c.MaxBatchSize, c.MaxBatchLatency = b.MaxBatchSize, int(b.MaxLatency.Milliseconds())
	}
	c.Server = corev1.Container{Args: n.Args, Resources: res, EnvFrom: r.envFrom()}
	if !r.spec.custom() {
		c.Server.Env, c.Server.Args = r.env(r.Env), append(slices.Clone(r.Args), n.Args...)
		c.Model = &api.Model{Format: r.spec.Format, FormatVersion: n.FormatVersion, Runtime: r.Runtime, RuntimeVersion: n.RuntimeVersion,
			Protocol: n.ProtocolVersion, StorageURI: r.Model}
		return c, nil
	}
	extra := r.listening()
	if r.Model != "" {
		extra[api.StorageURI], extra["ML_MODEL_DIR"] = r.Model, api.ModelDir
	}
	c.Server.Name, c.Server.Image, c.Server.Command, c.Server.Env = api.Container, r.Image, r.spec.Command, r.env(extra)
	r.serve(&c.Server)
	r.fetched(c)
	return c, nil
}

// fetched has an init container put the code into a volume that the server sees read-only.
func (r release) fetched(c *api.Component) {
	if r.Fetch == "" {
		return
	}
	mount := corev1.VolumeMount{Name: "continuo", MountPath: home}
	c.Pod.Volumes = []corev1.Volume{{Name: "continuo", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	init := corev1.Container{Name: "continuo-fetch", Image: r.FetchBy, Command: []string{"/ml", "pod", "fetch"},
		Env: []corev1.EnvVar{{Name: pod.FetchVar, Value: r.Fetch}}, VolumeMounts: []corev1.VolumeMount{mount},
		SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: new(bool)}}
	if len(r.nested.ImagePullSecrets) > 0 {
		init.Env = append(init.Env, corev1.EnvVar{Name: "DOCKER_CONFIG", Value: credentials})
		init.VolumeMounts = append(init.VolumeMounts, corev1.VolumeMount{Name: "registry", MountPath: credentials, ReadOnly: true})
		c.Pod.Volumes = append(c.Pod.Volumes, corev1.Volume{Name: "registry", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: r.nested.ImagePullSecrets[0], Items: []corev1.KeyToPath{{Key: corev1.DockerConfigJsonKey, Path: "config.json"}}}}})
	}
	c.Pod.InitContainers = []corev1.Container{init}
	mount.ReadOnly = true
	c.Server.VolumeMounts, c.Server.WorkingDir = []corev1.VolumeMount{mount}, home+"/code"
}

// listening tells a server of our own where to listen.
func (r release) listening() map[string]string {
	all := map[string]string{"PYTHONDONTWRITEBYTECODE": "1"}
	if r.Mode != knative { // which sets it itself, by the container's port, and refuses who does
		all["PORT"] = strconv.Itoa(serverPort)
	}
	if _, ok := r.spec.Env["HOST"]; !ok {
		all["HOST"] = "0.0.0.0"
	}
	return all
}

// serve gives a container of our own its port and its probes. A runtime has its own.
func (r release) serve(c *corev1.Container) {
	c.Ports = []corev1.ContainerPort{{Name: "http1", ContainerPort: serverPort, Protocol: corev1.ProtocolTCP}}
	probe := func(period int32) *corev1.Probe {
		p := &corev1.Probe{PeriodSeconds: period, TimeoutSeconds: 2, FailureThreshold: 3}
		if s := r.spec.Readiness; s != nil && s.Path != "" {
			p.HTTPGet = &corev1.HTTPGetAction{Path: s.Path, Port: intstr.FromInt32(serverPort)}
		} else {
			p.TCPSocket = &corev1.TCPSocketAction{Port: intstr.FromInt32(serverPort)}
		}
		return p
	}
	c.ReadinessProbe = probe(2)
	if r.Mode == standard {
		c.StartupProbe = probe(1)
		c.StartupProbe.FailureThreshold = int32(max(pods.Seconds(r.spec.readyWithin()), 1))
	}
}

// transformer is the deployment's, with what the nested block adds.
func (r release) transformer() *api.Component {
	t, more := r.spec.Transformer, r.nested.Transformer
	if t == nil && more == nil {
		return nil
	}
	if more == nil {
		more = &component{}
	}
	command, env := more.Command, maps.Clone(more.Env)
	if t != nil {
		command = t.Command
		if env == nil {
			env = map[string]string{}
		}
		maps.Copy(env, t.Env)
	}
	host := fmt.Sprintf("%s-predictor.%s.svc.%s", r.name, r.Namespace, r.ClusterDomain)
	if r.Headless {
		host += ":" + strconv.Itoa(serverPort)
	}
	return r.beside(r.Transformer, command, more.Args, env, host)
}

func (r release) explainer() *api.Component {
	if e := r.nested.Explainer; e != nil {
		return r.beside(r.Explainer, e.Command, e.Args, e.Env, "")
	}
	return nil
}

// beside is a component that stands beside the predictor, once for each of its servers.
func (r release) beside(image string, command, args []string, env map[string]string, predictor string) *api.Component {
	c := r.component()
	low, high := r.spec.replicas(r.nested)
	c.Min, c.Max = new(int32(low)), int32(high)
	extra := r.listening()
	maps.Copy(extra, env)
	if predictor != "" {
		extra["PREDICTOR_HOST"] = predictor
	}
	c.Server = corev1.Container{Name: api.Container, Image: image, Command: command, Args: args, Env: r.env(extra), EnvFrom: r.envFrom()}
	r.serve(&c.Server)
	if predictor != "" && (r.nested.Transformer == nil || r.nested.Transformer.Image == "") {
		r.fetched(c) // the deployment's own code
	}
	return c
}

// env is the contract's variables, in an order that does not move.
func (r release) env(extra map[string]string) []corev1.EnvVar {
	all := map[string]string{"PYTHONUNBUFFERED": "1"} // a log that lags by a buffer is of no use when the server dies
	maps.Copy(all, extra)
	all["ML_RUN_ID"] = fmt.Sprintf("%s.v%d", r.Address.Slug(), r.number)
	if r.Code != "" {
		all["ML_CODE_DIGEST"] = r.Code
	}
	var out []corev1.EnvVar
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, corev1.EnvVar{Name: name, Value: all[name]})
	}
	return out
}

func (r release) envFrom() []corev1.EnvFromSource {
	var out []corev1.EnvFromSource
	for _, name := range append([]string{r.envName()}, r.nested.EnvFrom...) {
		if name != "" {
			out = append(out, corev1.EnvFromSource{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}})
		}
	}
	return out
}

func (r release) envName() string {
	if r.envKey == "" {
		return ""
	}
	if r.nested.Canary == bySpec { // whose service holds the variables of two versions
		return r.name + "-" + variant(r.number) + "-" + r.envKey
	}
	return r.name + "-" + r.envKey
}

// envKeyOf stands for the user's variables without telling them: key is known to nobody but the deployment.
func envKeyOf(env map[string]string, key string) (string, error) {
	if len(env) == 0 {
		return "", nil
	}
	data, err := json.Marshal(env) // maps are sorted
	if err != nil {
		return "", fmt.Errorf("encode env: %w", err)
	}
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(data)
	return hex.EncodeToString(mac.Sum(nil)[:5]), nil
}

// envSecret holds the user's variables: they may be sensitive, and nothing here could tell which.
func (r release) envSecret() (*unstructured.Unstructured, error) {
	m := r.Meta(r.envName(), rollout.PartServer)
	m.Labels = r.labels()
	data := map[string][]byte{}
	for name, value := range r.spec.Env {
		data[name] = []byte(value)
	}
	return kube.FromTyped(gvkSecret, corev1.Secret{ObjectMeta: m, Data: data})
}
