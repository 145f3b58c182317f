//go:build e2e

package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// manifestPlace applies one manifest block as the engine does, and counts what is sent.
type manifestPlace struct {
	*place
	writes, requests atomic.Int64
	driver           providers.Driver
	record           *state.Record
	said             []string
}

func manifestOnCluster(t *testing.T) *manifestPlace {
	t.Helper()
	m := &manifestPlace{place: inNamespace(t)}
	as, err := kube.Connect(context.WithoutCancel(t.Context()), kube.Config{Kubeconfig: m.settings.Kubeconfig, Namespace: m.namespace})
	if err != nil {
		t.Fatal(err)
	}
	providertest.WaitFor(t, func() bool { // an API server takes a moment to read a new role
		_, err := as.List(t.Context(), kube.Ref{Version: "v1", Kind: "ConfigMap"}.GVK(), m.namespace, kube.Selector{})
		return err == nil
	})
	m.connect(m.through(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		m.requests.Add(1)
		if (r.Method == http.MethodPatch || r.Method == http.MethodDelete) && r.URL.Query().Get("dryRun") == "" {
			m.writes.Add(1)
		}
		next.ServeHTTP(w, r)
	}))
	return m
}

// connect makes a driver as another `ml` would have it.
func (m *manifestPlace) connect(kubeconfig string) {
	m.T.Helper()
	m.driver = providers.For(&manifests{Env: m.fresh(kubeconfig), now: time.Now})
}

// everything allows all namespaces, as the cluster's administrator.
func (m *manifestPlace) everything() {
	m.settings.Kubeconfig = os.Getenv("ML_E2E_KUBECONFIG")
	m.settings.Namespaces = []string{kube.AllNamespaces}
	m.connect("")
}

// objectsOf are the objects of a YAML text by name, as the configuration hands them to a driver.
func objectsOf(t *testing.T, text string) map[string]any {
	t.Helper()
	out := map[string]any{}
	for _, doc := range strings.Split(text, "\n---\n") {
		raw, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON(raw); err != nil {
			t.Fatal(err)
		}
		key := u.GetKind()
		if g := u.GroupVersionKind().Group; g != "" {
			key += "." + g
		}
		if ns := u.GetNamespace(); ns != "" {
			key += "/" + ns
		}
		out[key+"/"+u.GetName()] = u.Object
	}
	return out
}

func block(t *testing.T, text string) config.Manifest {
	t.Helper()
	return config.Manifest{Objects: objectsOf(t, text), Prune: true, Timeout: time.Minute}
}

func (m *manifestPlace) request(op string, spec config.Manifest) providers.ApplyRequest {
	req := providers.ApplyRequest{
		OpID: op, Address: resource.Address{Kind: "manifest", Name: "m"}, Action: resource.Create, Spec: providertest.Encoded(m.T, spec),
		State: &state.Snapshot{Lineage: "manifest-test"}, Prior: m.record, Emit: func(e resource.Event) { m.said = append(m.said, e.Message) },
	}
	if m.record != nil {
		req.Action = resource.Update
	}
	return req
}

// apply applies a block and records the end as the engine does, with hashes in the place of a Secret's values.
func (m *manifestPlace) apply(op string, spec config.Manifest) (providers.Result, error) {
	m.T.Helper()
	res, err := m.driver.Apply(providertest.Within(m.T), m.request(op, spec))
	ref := res.Ref
	var run *providers.RunError
	if errors.As(err, &run) {
		ref = run.Ref
	}
	if err == nil {
		m.keep(ref, spec)
		return res, nil
	}
	rec := &state.Record{Address: m.request("", spec).Address}
	if m.record != nil {
		c := *m.record
		rec = &c
	}
	rec.Phase = resource.PhaseFailed
	if ref != nil {
		rec.Ref = encoded(m.T, ref)
	}
	m.record = rec
	return res, err
}

// keep records that a block was applied.
func (m *manifestPlace) keep(ref any, spec config.Manifest) {
	m.T.Helper()
	raw, err := state.EncodeValue(providertest.Encoded(m.T, hashedSecrets(spec)))
	if err != nil {
		m.T.Fatal(err)
	}
	m.record = &state.Record{Address: m.request("", spec).Address, Phase: resource.PhaseReady, Ref: encoded(m.T, ref), Spec: raw}
}

func encoded(t *testing.T, v any) json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// preflight asks what the plan of a block would say.
func (m *manifestPlace) preflight(spec config.Manifest) []providers.Finding {
	m.T.Helper()
	req := m.request("", spec)
	p, ok := providers.As[providers.Preflighter](m.driver)
	if !ok {
		m.T.Fatal("the driver has no Preflight")
	}
	found, err := p.Preflight(providertest.Within(m.T), providers.PreflightRequest{Address: req.Address, Action: req.Action, Spec: req.Spec, Prior: req.Prior, State: req.State})
	if err != nil {
		m.T.Fatal(err)
	}
	return found
}

func hashedSecrets(spec config.Manifest) config.Manifest {
	out := map[string]any{}
	for key, o := range spec.Objects.(map[string]any) {
		u := (&unstructured.Unstructured{Object: o.(map[string]any)}).DeepCopy()
		if u.GetKind() == "Secret" {
			for _, f := range []string{"data", "stringData"} {
				values, _ := u.Object[f].(map[string]any)
				for k := range values {
					values[k] = "hash:0123"
				}
			}
		}
		out[key] = u.Object
	}
	spec.Objects = out
	return spec
}

func (m *manifestPlace) mustApply(op string, spec config.Manifest) providers.Result {
	m.T.Helper()
	res, err := m.apply(op, spec)
	if err != nil {
		m.T.Fatal(err)
	}
	return res
}

func (m *manifestPlace) read() providers.Object {
	m.T.Helper()
	o, err := m.driver.Read(providertest.Within(m.T), providers.ReadRequest{Address: m.record.Address, Record: m.record})
	if err != nil {
		m.T.Fatal(err)
	}
	return o
}

func (m *manifestPlace) delete() {
	m.T.Helper()
	if err := m.driver.Delete(providertest.Within(m.T), providers.DeleteRequest{Address: m.record.Address, Record: m.record, Emit: func(resource.Event) {}}); err != nil {
		m.T.Fatal(err)
	}
}

// kubectl does something to an object as people do.
func (m *manifestPlace) kubectl(args ...string) string {
	m.T.Helper()
	program := os.Getenv("ML_E2E_KUBECTL")
	if program == "" {
		program = "kubectl"
	}
	cmd := exec.CommandContext(m.T.Context(), program, append([]string{"--kubeconfig", os.Getenv("ML_E2E_KUBECONFIG"), "-n", m.namespace}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.T.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// there lists the names of all objects of some types.
func (m *manifestPlace) there(types string) []string {
	m.T.Helper()
	out := strings.Fields(m.kubectl("get", types, "-o", "name"))
	return slices.DeleteFunc(out, func(n string) bool { return strings.HasSuffix(n, "kube-root-ca.crt") })
}

func driftText(o providers.Object) string {
	var out []string
	for _, d := range o.Drift {
		out = append(out, fmt.Sprintf("%s %s→%s %s", d.Path, d.Old, d.New, d.By))
	}
	return strings.Join(out, "\n")
}

const configs = `
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {one: "1", two: "2"}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {password: hunter2swordfish}
`

func TestOnAClusterAManifestKeepsTheContract(t *testing.T) {
	t.Parallel()
	m := manifestOnCluster(t)
	spec := block(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {k: v}}")
	before := 0
	providertest.Run(t, providertest.Case{
		Driver: m.driver, Kind: "manifest", Spec: providertest.Encoded(t, spec),
		Count: func() int { return int(m.writes.Load()) - before },
	})
	if left := m.there("configmaps,secrets"); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestOnAClusterAManifestIsMendedWhereOthersChangedIt(t *testing.T) {
	t.Parallel()
	m := manifestOnCluster(t)
	spec := block(t, configs)
	res := m.mustApply("op1", spec)
	if res.Message != "2 made" {
		t.Errorf("it says %q", res.Message)
	}
	if o := m.read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 || o.Message != "" {
		t.Fatalf("as applied it is %+v", o)
	}
	n := m.writes.Load()
	if res := m.mustApply("op2", spec); res.Message != "2 as before" || m.writes.Load() != n {
		t.Errorf("applied again: %q, %d writes", res.Message, m.writes.Load()-n)
	}
	m.kubectl("patch", "configmap/c", "-p", `{"data":{"one":"9","other":"x"}}`, "--field-manager=kubectl-edit")
	m.kubectl("patch", "secret/s", "-p", `{"stringData":{"password":"correcthorse"}}`, "--field-manager=kubectl-edit")
	want := "ConfigMap/c:data.one 1→9 kubectl-edit\nSecret/s:data.password (secret)→(secret) kubectl-edit"
	if d := cmp.Diff(want, driftText(m.read())); d != "" {
		t.Error(d)
	}
	m.mustApply("op3", spec)
	if o := m.read(); len(o.Drift) > 0 {
		t.Errorf("not mended: %s", driftText(o))
	}
	if got := m.kubectl("get", "configmap/c", "secret/s", "-o", "jsonpath={range .items[*]}{.data}{end}"); !strings.Contains(got, `"one":"1"`) || !strings.Contains(got, `"other":"x"`) || !strings.Contains(got, "aHVudGVyMnN3b3JkZmlzaA==") {
		t.Errorf("the objects hold %s", got)
	}
	m.kubectl("delete", "configmap/c")
	if o := m.read(); o.Phase != resource.PhaseMissing || o.Message != "ConfigMap "+m.namespace+"/c is not there" {
		t.Errorf("one is gone, and it is %+v", o)
	}
	m.mustApply("op4", spec)
	if o := m.read(); o.Phase != resource.PhaseReady {
		t.Errorf("made anew it is %+v", o)
	}
	for _, text := range append(m.said, string(m.record.Ref), string(m.record.Spec), m.kubectl("get", "secret/s", "-o", "jsonpath={.metadata}")) {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "aHVudGVyMn") {
			t.Errorf("the Secret's value stands in %s", text)
		}
	}
	m.delete()
	m.delete()
	if left := m.there("configmaps,secrets"); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestOnAClusterNothingOfAManifestIsAppliedWhenOneObjectIsRefused(t *testing.T) {
	t.Parallel()
	m := manifestOnCluster(t)
	_, err := m.apply("op1", block(t, configs+`---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 99999}]}
---
apiVersion: example.com/v1
kind: Nothing
metadata: {name: nothing}
`))
	if err == nil || !strings.Contains(err.Error(), "the cluster has no kind Nothing in example.com/v1") {
		t.Errorf("error %v", err)
	}
	if found := m.preflight(block(t, "{apiVersion: serving.kserve.io/v9, kind: InferenceService, metadata: {name: i}}")); len(found) != 1 || found[0].Summary != "The cluster lacks a kind" ||
		!strings.Contains(found[0].Detail, "the CustomResourceDefinition inferenceservices.serving.kserve.io, or this version of it, is not installed; it comes with KServe") {
		t.Errorf("the plan is told %+v", found)
	}
	_, err = m.apply("op2", block(t, configs+`---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 99999}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: "Not A Name"}
`))
	for _, want := range []string{"2 of 4 objects are refused, and none was changed", "99999", "Not A Name"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if left := m.there("configmaps,secrets,services"); len(left) > 0 || m.writes.Load() > 0 {
		t.Errorf("there are %v after %d writes", left, m.writes.Load())
	}
}

func TestOnAClusterWhatOthersOwnIsTakenOnlyIfItIsNamed(t *testing.T) {
	t.Parallel()
	m := manifestOnCluster(t)
	m.kubectl("create", "configmap", "c", "--from-literal=one=theirs", "--from-literal=two=theirs", "--from-literal=three=3")
	spec := block(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {one: ours, two: ours}}")
	_, err := m.apply("op1", spec)
	found := m.preflight(spec)
	if len(found) != 1 || found[0].Warning || found[0].Summary != "A field belongs to somebody else" {
		t.Fatalf("the plan is told %+v", found)
	}
	for _, want := range []string{`data.one belongs to "kubectl-create", data.two belongs to "kubectl-create"`, `force = ["ConfigMap/c:data.one", "ConfigMap/c:data.two"]`} {
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(found[0].Detail, want) {
			t.Errorf("the error does not say %q: %v\n%s", want, err, found[0].Detail)
		}
	}
	spec.Force = []string{"ConfigMap/c:data.one"}
	if _, err = m.apply("op2", spec); err == nil || strings.Contains(err.Error(), "data.one belongs") || !strings.Contains(err.Error(), "data.two belongs") {
		t.Errorf("one of two is forced: %v", err)
	}
	if got := m.kubectl("get", "configmap/c", "-o", "jsonpath={.data}"); got != `{"one":"theirs","three":"3","two":"theirs"}` {
		t.Errorf("after two refusals there is %s", got)
	}
	spec = block(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {one: ours}}")
	spec.Force = []string{"ConfigMap/c:data.one"}
	if found := m.preflight(spec); len(found) > 0 {
		t.Errorf("forced, and the plan is told %+v", found)
	}
	m.mustApply("op3", spec)
	if got := m.kubectl("get", "configmap/c", "-o", "jsonpath={.data}"); got != `{"one":"ours","three":"3","two":"theirs"}` {
		t.Errorf("forced: %s", got)
	}
	m.delete() // gives back: it was there before
	if got := m.kubectl("get", "configmap/c", "-o", "jsonpath={.data}{.metadata.labels}{.metadata.annotations}"); got != `{"three":"3","two":"theirs"}` {
		t.Errorf("given back it is %s", got)
	}
	spec.Force = []string{"ConfigMap/d:data.one"}
	if _, err := m.apply("op4", spec); err == nil || !strings.Contains(err.Error(), `force: "ConfigMap/d:data.one" names an object that the block does not hold`) {
		t.Errorf("error %v", err)
	}
}

func TestOnAClusterWhatIsNoLongerListedGoes(t *testing.T) {
	t.Parallel()
	m := manifestOnCluster(t)
	one, other := "{apiVersion: v1, kind: ConfigMap, metadata: {name: one}}", "{apiVersion: v1, kind: ConfigMap, metadata: {name: other}}"
	m.mustApply("op1", block(t, one+"\n---\n"+other))
	if res := m.mustApply("op2", block(t, one)); res.Message != "1 as before, 1 removed" {
		t.Errorf("it says %q", res.Message)
	}
	if got := m.there("configmaps"); !slices.Equal(got, []string{"configmap/one"}) {
		t.Errorf("there are %v", got)
	}
	m.mustApply("op3", block(t, one+"\n---\n"+other))
	// Another object of that name is none of ours.
	m.kubectl("delete", "configmap/other")
	m.kubectl("create", "configmap", "other")
	m.mustApply("op4", block(t, one))
	keep := block(t, other)
	keep.Prune = false
	m.mustApply("op5", keep)
	m.delete()
	if got := m.there("configmaps"); !slices.Equal(got, []string{"configmap/one", "configmap/other"}) {
		t.Errorf("there are %v", got)
	}
}

func TestOnAClusterAnotherBlocksObjectIsRefused(t *testing.T) {
	t.Parallel()
	m := manifestOnCluster(t)
	spec := block(t, configs)
	m.mustApply("op1", spec)
	req := m.request("op2", spec)
	req.Address.Name, req.Prior = "thief", nil
	if _, err := m.driver.Apply(t.Context(), req); err == nil || !strings.Contains(err.Error(), `belongs to manifest.m of project "manifest-test"`) {
		t.Errorf("error %v", err)
	}
	m.delete()
}

func TestOnAClusterAnAutoscalersReplicasAreNoDrift(t *testing.T) {
	t.Parallel()
	m := manifestOnCluster(t)
	image := os.Getenv("ML_E2E_REGISTRY") + "/python-sklearn:12"
	web := `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: "` + image + `", command: [sleep, "600"], resources: {requests: {cpu: 0.01}}, ports: [{containerPort: 80}]}]
`
	spec := block(t, web)
	spec.WaitFor = []string{"Deployment/web:Available"}
	m.mustApply("op1", spec)
	if o := m.read(); len(o.Drift) > 0 || o.Info["objects"] != "1 of 1 ready" {
		t.Fatalf("as applied: %s, %v", driftText(o), o.Info)
	}
	m.kubectl("scale", "deployment/web", "--replicas=2")
	if got := driftText(m.read()); got != "Deployment.apps/web:spec.replicas 1→2 kubectl (scale)" {
		t.Errorf("drift %q", got)
	}
	m.kubectl("autoscale", "deployment/web", "--min=2", "--max=3")
	if got := driftText(m.read()); got != "" {
		t.Errorf("with an autoscaler the drift is %q", got)
	}
	spec = block(t, strings.Replace(web, "[sleep, \"600\"]", "[sleep, \"700\"]", 1))
	m.mustApply("op2", spec)
	if got := m.kubectl("get", "deployment/web", "-o", "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].command[1]}"); got != "2 700" {
		t.Errorf("an apply beside an autoscaler made it %s", got)
	}
	m.delete()
}

func TestOnAClusterANamespaceAndAKindOfTheBlocksOwnComeFirst(t *testing.T) {
	t.Parallel()
	m := manifestOnCluster(t)
	m.everything()
	group := m.namespace + ".example.com"
	spec := block(t, `
apiVersion: `+group+`/v1
kind: Thing
metadata: {name: t, namespace: `+m.namespace+`-two}
spec: {size: 3}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c, namespace: `+m.namespace+`-two}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.`+group+`}
spec:
  group: `+group+`
  scope: Namespaced
  names: {kind: Thing, plural: things}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}}]
---
apiVersion: v1
kind: Namespace
metadata: {name: `+m.namespace+`-two}
`)
	m.mustApply("op1", spec)
	if o := m.read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("%+v", o)
	}
	m.delete()
	if o := m.read(); o.Phase != resource.PhaseMissing {
		t.Errorf("%+v", o)
	}
	if out := m.kubectl("get", "crd,namespaces", "-o", "name"); strings.Contains(out, group) || strings.Contains(out, m.namespace+"-two") {
		t.Errorf("left is %s", out)
	}
}

func TestOnAClusterOtherNamespacesAreRefused(t *testing.T) {
	t.Parallel()
	m := manifestOnCluster(t)
	n := m.requests.Load()
	_, err := m.apply("op1", block(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: kube-system}}"))
	if err == nil || !strings.Contains(err.Error(), `namespace "kube-system" is not allowed`) || m.requests.Load() != n {
		t.Errorf("error %v after %d requests", err, m.requests.Load()-n)
	}
	_, err = m.apply("op2", block(t, "{apiVersion: v1, kind: Namespace, metadata: {name: "+m.namespace+"-other}}"))
	if err == nil || !strings.Contains(err.Error(), "objects outside of namespaces") {
		t.Errorf("error %v", err)
	}
}

func TestOnAClusterAManifestThatDoesNotGetReadySaysWhy(t *testing.T) {
	t.Parallel()
	m := manifestOnCluster(t)
	image := os.Getenv("ML_E2E_REGISTRY") + "/python-sklearn:12"
	spec := block(t, `
apiVersion: batch/v1
kind: Job
metadata: {name: j}
spec:
  backoffLimit: 0
  template: {spec: {restartPolicy: Never, containers: [{name: main, image: "`+image+`", command: [sh, -c, "echo no disk left >&2; exit 4"]}]}}
`)
	_, err := m.apply("op1", spec)
	if err == nil || !strings.Contains(err.Error(), "no disk left") || !strings.Contains(err.Error(), "exited with 4") {
		t.Errorf("error %v", err)
	}
	if m.record.Phase != resource.PhaseFailed || len(m.record.Ref) == 0 {
		t.Errorf("of what was made nothing is kept: %+v", m.record)
	}
	// A field that cannot be changed is told as such, and without a plan that says so nothing is done for it.
	spec = block(t, `
apiVersion: batch/v1
kind: Job
metadata: {name: j}
spec:
  backoffLimit: 0
  template: {spec: {restartPolicy: Never, containers: [{name: main, image: "`+image+`", command: ["true"]}]}}
`)
	_, err = m.apply("op2", spec)
	if err == nil || !strings.Contains(err.Error(), "spec.template cannot be changed in place") || !strings.Contains(err.Error(), "plan again") || len(err.Error()) > 300 {
		t.Errorf("error %v", err)
	}
	found := m.preflight(spec)
	if len(found) != 1 || found[0].Immutable != "Job.batch/j:spec.template" || found[0].Summary != "Job.batch/j, for spec.template cannot be changed in place; the rest stays" {
		t.Fatalf("the plan is told %+v", found)
	}
	req := m.request("op3", spec)
	req.Reasons = []resource.Reason{{Code: resource.ReasonImmutable, Path: found[0].Immutable}}
	res, err := m.driver.Apply(providertest.Within(t), req) // waits until it has completed
	if err != nil || res.Message != "1 made" {
		t.Fatalf("%q, %v", res.Message, err)
	}
	m.keep(res.Ref, spec)
	if o := m.read(); o.Phase != resource.PhaseReady {
		t.Errorf("%+v", o)
	}
	m.delete()
	if left := m.there("jobs,pods"); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestOnAClusterAnInterruptedManifestGoesOn(t *testing.T) {
	t.Parallel()
	m := manifestOnCluster(t)
	spec := block(t, configs)
	applies := 0
	m.connect(m.through(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "" {
			if applies++; applies > 1 {
				panic(http.ErrAbortHandler)
			}
		}
		next.ServeHTTP(w, r)
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := m.driver.Apply(ctx, m.request("op1", spec)); err == nil {
		t.Fatal("the apply was not interrupted")
	}
	m.connect("")
	req := m.request("op1", spec)
	req.Adopt = true
	res, err := m.driver.Apply(providertest.Within(t), req)
	if err != nil || res.Message != "1 made, 1 as before" {
		t.Errorf("%q, %v", res.Message, err)
	}
	if got := m.there("configmaps,secrets"); len(got) != 2 {
		t.Errorf("there are %v", got)
	}
}

func TestOnAClusterManyManifestsAreReadWithOneListForEachType(t *testing.T) {
	t.Parallel()
	m := manifestOnCluster(t)
	var reqs []providers.ReadRequest
	for i := range 30 {
		m.record = nil
		req := m.request("op", block(t, fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: c%d}, data: {k: v}}", i)))
		req.Address.Name = fmt.Sprintf("m%d", i)
		res, err := m.driver.Apply(providertest.Within(t), req)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := json.Marshal(res.Ref)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := state.EncodeValue(req.Spec)
		if err != nil {
			t.Fatal(err)
		}
		reqs = append(reqs, providers.ReadRequest{Address: req.Address, Record: &state.Record{Address: req.Address, Phase: resource.PhaseReady, Ref: ref, Spec: spec}})
	}
	m.manyAtOnce()
	m.kubectl("patch", "configmap/c7", "-p", `{"data":{"k":"w"}}`)
	m.kubectl("delete", "configmap/c8")
	n := m.requests.Load()
	all, err := m.driver.(interface{ Unwrap() any }).Unwrap().(providers.BatchReader).ReadAll(providertest.Within(t), reqs)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.requests.Load() - n; got != 2 { // the list, and another look for what is not in it
		t.Errorf("%d requests", got)
	}
	for i, o := range all {
		want := resource.PhaseReady
		if i == 8 {
			want = resource.PhaseMissing
		}
		if o.Phase != want || (len(o.Drift) > 0) != (i == 7) || o.Err != nil {
			t.Errorf("%s: %+v", reqs[i].Address, o)
		}
	}
}

// manyAtOnce plans a thousand new blocks with the requests of a few.
func (m *manifestPlace) manyAtOnce() {
	m.T.Helper()
	p, _ := providers.As[providers.Preflighter](m.driver)
	look := &providers.Look{}
	n := m.requests.Load()
	for i := range 100 {
		m.record = nil
		req := m.request("", block(m.T, fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: new%d}, data: {k: v}}", i)))
		found, err := p.Preflight(providertest.Within(m.T), providers.PreflightRequest{Address: req.Address, Action: req.Action, Spec: req.Spec, State: req.State, Of: 1000, Look: look})
		if err != nil || len(found) > 0 {
			m.T.Fatalf("%+v, %v", found, err)
		}
	}
	if got := m.requests.Load() - n; got != 1 {
		m.T.Errorf("%d requests", got)
	}
}
