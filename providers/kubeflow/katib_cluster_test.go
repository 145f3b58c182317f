//go:build e2e

package kubeflow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
)

var crdKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// katibOn gives the namespace a Katib: the cluster's own if it has one, else a stand-in, for Katib's program cannot be had from a module
// whose checksum anybody has recorded. The stand-in does with real objects, on the real API server, what Katib's documentation says of
// Katib: it makes a Trial and a Job from the template for each choice of parameters, and reads the metric that a container beside
// the command finds in the file; a deaf one reads none. It reports whether this is the stand-in. That not search: it takes the least, the greatest and the middle.
func katibOn(t *testing.T, p *place, deaf bool) bool {
	t.Helper()
	ctx := t.Context()
	if err := label(ctx, p); err != nil {
		t.Fatal(err)
	}
	crd, err := p.admin.Get(ctx, kube.Ref{Group: crdKind.Group, Version: crdKind.Version, Kind: crdKind.Kind, Name: "experiments.kubeflow.org"})
	if err == nil && crd.GetLabels()["continuo.dev/stand-in"] != "katib" {
		t.Log("the cluster has a Katib of its own")
		return false
	}
	text, err := os.ReadFile("testdata/katib-crds.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var refs []kube.Ref
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		made, err := p.admin.Apply(ctx, object(t, string(doc)), kube.ApplyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, made.Ref)
	}
	if err := p.admin.Wait(ctx, refs, time.Minute, nil); err != nil {
		t.Fatal(err)
	}
	s := newStandIn(t, p, deaf)
	t.Cleanup(func() {
		for _, r := range refs {
			if err := p.admin.Delete(context.Background(), r, kube.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		}
	})
	t.Cleanup(s.stop)
	return true
}

// label lets Katib's collector into the namespace.
func label(ctx context.Context, p *place) error {
	ns, err := kube.FromTyped(namespaceKind, map[string]any{"metadata": map[string]any{"name": p.ns, "labels": map[string]any{labelInjection: "enabled"}}})
	if err == nil {
		_, err = p.admin.Apply(ctx, ns, kube.ApplyOptions{})
	}
	return err
}

// standIn plays Katib's controller in one namespace.
type standIn struct {
	*place
	http *http.Client
	host string
	quit chan struct{}
	done chan struct{}
	deaf bool // its collector sends nothing
}

func newStandIn(t *testing.T, p *place, deaf bool) *standIn {
	t.Helper()
	conf, err := clientcmd.BuildConfigFromFlags("", os.Getenv("ML_E2E_KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	s := &standIn{place: p, host: strings.TrimSuffix(conf.Host, "/"), quit: make(chan struct{}), done: make(chan struct{}), deaf: deaf}
	if s.http, err = rest.HTTPClientFor(conf); err != nil {
		t.Fatal(err)
	}
	go s.run()
	return s
}

func (s *standIn) stop() {
	close(s.quit)
	<-s.done
}

func (s *standIn) run() {
	defer close(s.done)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-tick.C:
		}
		all, err := s.admin.List(ctx, experimentKind, s.ns, kube.Selector{})
		for _, e := range all {
			err = errors.Join(err, s.conduct(ctx, e))
		}
		if err != nil {
			s.T.Logf("the stand-in: %v", err)
		}
	}
}

// conduct does the next step of an experiment.
func (s *standIn) conduct(ctx context.Context, e *unstructured.Unstructured) error {
	if r := kube.Ready(e); r.Ready || r.Failed || e.GetDeletionTimestamp() != nil {
		return nil
	}
	trials, err := s.admin.List(ctx, trialKind, s.ns, kube.Selector{Labels: labelExperiment + "=" + e.GetName()})
	if err != nil {
		return err
	}
	open, failed, best, value := 0, 0, "", 0.0
	for _, t := range trials {
		before, _ := ended(t)
		end, err := s.measure(ctx, e, t)
		switch {
		case err == nil && before != end:
			return nil // the next look sees what was written
		case err != nil:
			return err
		case end == "":
			open++
		case end != "Succeeded":
			failed++
		}
		if v, ok := metricOf(t); ok && (best == "" || v < value) {
			best, value = t.GetName(), v
		}
	}
	spec := e.Object["spec"].(map[string]any)
	limit := func(name string) int { n, _ := spec[name].(int64); return int(n) }
	switch {
	case failed > limit("maxFailedTrialCount"):
		return s.status(ctx, e, map[string]any{"conditions": condition("Failed", "ExperimentMaxFailedTrialsReached", "Experiment has failed because max failed count has reached")})
	case open == 0 && len(trials) == min(3, limit("maxTrialCount")):
		return s.status(ctx, e, map[string]any{"conditions": condition("Succeeded", "ExperimentMaxTrialsReached", ""), "currentOptimalTrial": map[string]any{"bestTrialName": best}})
	case len(trials) < min(3, limit("maxTrialCount")) && open < limit("parallelTrialCount"):
		return s.begin(ctx, e, len(trials))
	}
	return nil
}

func condition(kind, reason, message string) []any {
	return []any{map[string]any{"type": "Created", "status": "True"}, map[string]any{"type": kind, "status": "True", "reason": reason, "message": message}}
}

// begin makes trial n: its Trial, and its Job out of the template.
func (s *standIn) begin(ctx context.Context, e *unstructured.Unstructured, n int) error {
	spec := e.Object["spec"].(map[string]any)
	name := fmt.Sprintf("%s-t%d", e.GetName(), n)
	values := map[string]string{"${trialSpec.Name}": name}
	var assigned []any
	for _, one := range spec["parameters"].([]any) {
		p := one.(map[string]any)
		space := p["feasibleSpace"].(map[string]any)
		var v string
		if list, ok := space["list"].([]any); ok {
			v = list[n%len(list)].(string)
		} else {
			low, err1 := strconv.ParseFloat(space["min"].(string), 64)
			high, err2 := strconv.ParseFloat(space["max"].(string), 64)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			v = strconv.FormatFloat([]float64{low, high, (low + high) / 2}[n], 'g', -1, 64)
		}
		values[p["name"].(string)] = v
		assigned = append(assigned, map[string]any{"name": p["name"], "value": v})
	}
	template := spec["trialTemplate"].(map[string]any)
	b, err := json.Marshal(template["trialSpec"])
	if err != nil {
		return err
	}
	text := string(b)
	for _, one := range template["trialParameters"].([]any) {
		p := one.(map[string]any)
		text = strings.ReplaceAll(text, "${trialParameters."+p["name"].(string)+"}", values[p["reference"].(string)])
	}
	owner := func(u *unstructured.Unstructured) []any {
		return []any{map[string]any{"apiVersion": u.GetAPIVersion(), "kind": u.GetKind(), "name": u.GetName(), "uid": string(u.GetUID()), "controller": true, "blockOwnerDeletion": true}}
	}
	trial, err := kube.FromTyped(trialKind, map[string]any{
		"metadata": map[string]any{"name": name, "namespace": s.ns, "labels": map[string]any{labelExperiment: e.GetName()}, "ownerReferences": owner(e)},
		"spec":     map[string]any{"parameterAssignments": assigned},
	})
	if err != nil {
		return err
	}
	made, err := s.admin.Apply(ctx, trial, kube.ApplyOptions{})
	if err != nil {
		return err
	}
	job := &unstructured.Unstructured{}
	if err := job.UnmarshalJSON([]byte(text)); err != nil {
		return err
	}
	job.SetName(name)
	job.SetNamespace(s.ns)
	job.Object["metadata"].(map[string]any)["ownerReferences"] = owner(made.Object)
	if err := s.inject(job, template["primaryContainerName"].(string), spec["metricsCollectorSpec"].(map[string]any)); err != nil {
		return err
	}
	_, err = s.admin.Apply(ctx, job, kube.ApplyOptions{})
	return err
}

// inject does what Katib's webhook does to a pod: the command says when it is over, a volume is mounted where the metric goes, and a container
// beside it reads that.
func (s *standIn) inject(job *unstructured.Unstructured, primary string, spec map[string]any) error {
	path, _, err := unstructured.NestedString(spec, "source", "fileSystemPath", "path")
	if err != nil {
		return err
	}
	dir := path[:strings.LastIndex(path, "/")]
	pod, _, err := unstructured.NestedMap(job.Object, "spec", "template", "spec")
	if err != nil {
		return err
	}
	mount := map[string]any{"name": "metrics-volume", "mountPath": dir}
	containers := pod["containers"].([]any)
	for _, one := range containers {
		c := one.(map[string]any)
		if c["name"] != primary {
			continue
		}
		var words []string
		for _, w := range c["command"].([]any) {
			words = append(words, w.(string))
		}
		c["command"] = []any{"sh", "-c", strings.Join(words, " ") + "; code=$?; echo completed > " + dir + "/over; exit $code"}
		c["volumeMounts"] = append(c["volumeMounts"].([]any), mount)
		containers = append(containers, map[string]any{
			"name": collector, "image": c["image"], "volumeMounts": []any{mount},
			"command": []any{"sh", "-c", "until test -e " + dir + "/over; do sleep 0.2; done; cat " + path + " || true"},
		})
		break
	}
	pod["containers"] = containers
	pod["volumes"] = append(pod["volumes"].([]any), map[string]any{"name": "metrics-volume", "emptyDir": map[string]any{}})
	return unstructured.SetNestedMap(job.Object, pod, "spec", "template", "spec")
}

// measure judges a trial by its Job, and takes the metric from the container that reads it.
func (s *standIn) measure(ctx context.Context, e, t *unstructured.Unstructured) (string, error) {
	if end, _ := ended(t); end != "" {
		return end, nil
	}
	job, err := s.admin.Get(ctx, kube.Ref{Group: "batch", Version: "v1", Kind: "Job", Namespace: s.ns, Name: t.GetName()})
	if err != nil {
		return "", err
	}
	r := kube.Ready(job)
	if r.Failed {
		return "Failed", s.status(ctx, t, map[string]any{"conditions": condition("Failed", "TrialFailed", "Trial has failed")})
	}
	if !r.Ready || s.deaf {
		return "", nil
	}
	pods, err := s.admin.Pods(ctx, job)
	if err != nil || len(pods) == 0 {
		return "", err
	}
	log, err := s.admin.PodLogs(ctx, s.ns, pods[0].Name, collector, kube.LogOptions{})
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(log)
	if err = errors.Join(err, log.Close()); err != nil {
		return "", err
	}
	metric, _, err := unstructured.NestedString(e.Object, "spec", "objective", "objectiveMetricName")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), metric+"="); ok {
			return "Succeeded", s.status(ctx, t, map[string]any{"conditions": condition("Succeeded", "TrialSucceeded", ""),
				"observation": map[string]any{"metrics": []any{map[string]any{"name": metric, "latest": v, "min": v, "max": v}}}})
		}
	}
	return "MetricsUnavailable", s.status(ctx, t, map[string]any{"conditions": condition("MetricsUnavailable", "MetricsUnavailable", "Metrics are not available")})
}

func metricOf(t *unstructured.Unstructured) (float64, bool) {
	list, _, err := unstructured.NestedSlice(t.Object, "status", "observation", "metrics")
	if err != nil || len(list) == 0 {
		return 0, false
	}
	text, _ := list[0].(map[string]any)["latest"].(string)
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil
}

// status writes an object's status, which no other part of the provider may.
func (s *standIn) status(ctx context.Context, u *unstructured.Unstructured, status map[string]any) error {
	body, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	plural := strings.ToLower(u.GetKind()) + "s"
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, fmt.Sprintf("%s/apis/%s/namespaces/%s/%s/%s/status", s.host, u.GetAPIVersion(), s.ns, plural, u.GetName()), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/merge-patch+json")
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("write the status of %s: %s: %s", u.GetName(), resp.Status, text)
	}
	return err
}

// byKatib is a training whose search Katib conducts.
func byKatib(t config.Training) any {
	t.Tuning.Method = "random"
	return struct {
		config.Training
		Kubeflow block `ml:"kubeflow,block"`
	}{t, block{Runtime: "torch-distributed", RuntimeKind: clusterKind.Kind, Katib: &katib{}}}
}

func TestOnAClusterKatibSearchesAndTheBestIsTrained(t *testing.T) {
	p, c := onCluster(t), providertest.NewCounter(t)
	katibOn(t, p, false)
	c.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	d := p.env.Drivers("training")["training"]
	r, err := d.Apply(ctx, p.request("op", byKatib(searched(c.Counted(), "loss"))))
	if err != nil {
		t.Fatal(err)
	}
	if v := r.Version; v == nil || fmt.Sprint(v.Params) != "map[base:7 x:3]" || v.Metrics["loss"] != 0 {
		t.Errorf("made %+v", v)
	}
	if n := c.Begun(); n != 4 {
		t.Errorf("the command began %d times, want three trials and the run that counts", n)
	}
	_, err = d.Apply(ctx, p.request("other", byKatib(searched("", "accuracy"))))
	var failed *providers.RunError
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "max failed count") || !strings.Contains(err.Error(), `the metric "accuracy" is not in ML_METRICS`) {
		t.Errorf("without the metric: %v", err)
	}
	p.nothingLeft()
}

func TestOnAClusterASearchOfKatibsIsSettledAndCancelled(t *testing.T) {
	p, c := onCluster(t), providertest.NewCounter(t)
	katibOn(t, p, false)
	d := p.env.Drivers("training")["training"]
	req := p.request("op", byKatib(searched(c.Counted()+c.Slowly(), "loss")))
	interrupted := func(req providers.ApplyRequest, begun int) {
		ctx, kill := context.WithCancel(t.Context())
		died := make(chan error, 1)
		go func() {
			_, err := d.Apply(ctx, req)
			died <- err
		}()
		providertest.WaitFor(t, func() bool { return c.Begun() == begun })
		kill()
		if err := <-died; err == nil {
			t.Fatal("it ended although its trials go on")
		}
	}
	interrupted(req, 2)
	c.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	req.Adopt = true
	r, err := d.Apply(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Begun(); n != 4 || fmt.Sprint(r.Version.Params) != "map[base:7 x:3]" {
		t.Errorf("the command began %d times for %+v", n, r.Version.Params)
	}
	c.Hold()
	req.OpID, req.Adopt = "cancelled", false
	interrupted(req, 6)
	stop, ok := providers.As[providers.Canceller](d)
	if !ok {
		t.Fatal("it cannot be cancelled")
	}
	if err := stop.Cancel(ctx, req.Address, req.OpID); err != nil {
		t.Fatal(err)
	}
	if left, err := p.admin.List(ctx, experimentKind, p.ns, kube.Selector{}); err != nil || len(left) > 0 {
		t.Errorf("%d experiments are left, %v", len(left), err)
	}
	req.Adopt = true
	if _, err := d.Apply(ctx, req); !errors.Is(err, providers.ErrCancelled) {
		t.Errorf("adopted after a cancel: %v", err)
	}
	p.nothingLeft()
}

func TestOnAClusterAMetricThatDoesNotArriveIsAnError(t *testing.T) {
	p := onCluster(t)
	if !katibOn(t, p, true) {
		t.Skip("only a stand-in loses a metric on demand")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	_, err := p.env.Drivers("training")["training"].Apply(ctx, p.request("op", byKatib(searched("", "loss"))))
	if err == nil || !strings.Contains(err.Error(), "its metric has not arrived") {
		t.Errorf("%v", err)
	}
	p.nothingLeft()
}
