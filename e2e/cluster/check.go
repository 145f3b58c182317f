//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/api"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/host"
)

// check is one proof that the cluster works.
type check struct {
	name  string
	limit time.Duration
	quick bool
	extra bool // needs KServe, JobSet or Trainer
	run   func(ctx context.Context, w *workspace) error
}

func (c *cluster) checks() []check {
	return []check{
		{name: "node", limit: 30 * time.Second, quick: true, run: func(ctx context.Context, _ *workspace) error { return c.nodeReady(ctx) }},
		{name: "kinds", limit: 30 * time.Second, quick: true, extra: true, run: hasKinds},
		{name: "webhooks", limit: 30 * time.Second, quick: true, extra: true, run: webhooksAnswer},
		{name: "job", limit: 2 * time.Minute, run: runsJob},
		{name: "service", limit: 3 * time.Minute, run: servesPods},
		{name: "inferenceservice", limit: 4 * time.Minute, extra: true, run: servesModel},
		{name: "trainjob", limit: 6 * time.Minute, extra: true, run: trainsOnTwoNodes},
	}
}

// workspace is what a check works with: a namespace of its own.
type workspace struct {
	*api.Client
	namespace string
	registry  string
}

// quick runs the checks that start no pod.
func (c *cluster) quick(ctx context.Context, base bool) error {
	return c.runChecks(ctx, func(k check) bool { return k.quick && (!base || !k.extra) })
}

// check runs all checks, or those that are named.
func (c *cluster) check(ctx context.Context, names []string) error {
	for _, n := range names {
		if !slices.ContainsFunc(c.checks(), func(k check) bool { return k.name == n }) {
			return fmt.Errorf("there is no check %q", n)
		}
	}
	return c.runChecks(ctx, func(k check) bool { return len(names) == 0 || slices.Contains(names, k.name) })
}

func (c *cluster) runChecks(ctx context.Context, pick func(check) bool) error {
	client, err := c.admin()
	if err != nil {
		return fmt.Errorf("%w: make cluster starts one", err)
	}
	registry := registryHost
	if given := os.Getenv("ML_E2E_REGISTRY"); given != "" {
		registry = given
	}
	var errs []error
	for _, k := range c.checks() {
		if !pick(k) {
			continue
		}
		began := time.Now()
		w := &workspace{Client: client, registry: registry}
		if err := w.within(ctx, k); err != nil {
			errs = append(errs, fmt.Errorf("check %s: %w", k.name, err))
			fmt.Fprintf(c.out, "bad %s %.1f\n", k.name, time.Since(began).Seconds())
			continue
		}
		fmt.Fprintf(c.out, "ok  %s %.1f\n", k.name, time.Since(began).Seconds())
	}
	return errors.Join(errs...)
}

// within runs the check in a namespace of its own, which is deleted afterwards.
func (w *workspace) within(ctx context.Context, k check) (err error) {
	ctx, cancel := context.WithTimeout(ctx, k.limit)
	defer cancel()
	if !k.quick {
		w.namespace = "e2e-check-" + strings.ToLower(rand.Text()[:8])
		if err := w.Apply(ctx, api.Object{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": w.namespace}}); err != nil {
			return err
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, w.Delete(ctx, "/api/v1/namespaces/"+w.namespace))
		}()
	}
	return k.run(ctx, w)
}

// object returns an object in the workspace's namespace.
func (w *workspace) object(version, kind, name string, spec any) api.Object {
	return api.Object{
		"apiVersion": version, "kind": kind, "metadata": map[string]any{"name": name, "namespace": w.namespace, "labels": map[string]any{"app": name}},
		"spec": spec,
	}
}

// until asks ready until ctx ends and adds what the pods say to the error.
func (w *workspace) until(ctx context.Context, what string, ready func(context.Context) error) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		return fmt.Errorf("%s: no deadline", what)
	}
	// The last seconds are for asking the pods why.
	err := host.Until(ctx, time.Until(deadline)-5*time.Second, ready)
	if err != nil {
		return fmt.Errorf("%s: %w%s", what, err, w.podsSay(ctx))
	}
	return nil
}

// podsSay returns the messages of the pods that are not ready.
func (w *workspace) podsSay(ctx context.Context) string {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Phase, Message    string
				Conditions        []struct{ Type, Status, Message string }
				ContainerStatuses []struct {
					State map[string]struct{ Reason, Message string }
				}
			}
		}
	}
	if err := w.Get(ctx, "/api/v1/namespaces/"+w.namespace+"/pods", &list); err != nil {
		return "; pods: " + err.Error()
	}
	var b strings.Builder
	for _, p := range list.Items {
		if p.Status.Phase == "Succeeded" {
			continue
		}
		fmt.Fprintf(&b, "; pod %s is %s", p.Metadata.Name, p.Status.Phase)
		for _, cond := range p.Status.Conditions {
			if cond.Status != "True" && cond.Message != "" {
				fmt.Fprintf(&b, ", %s", cond.Message)
			}
		}
		for _, cs := range p.Status.ContainerStatuses {
			for _, s := range cs.State {
				if s.Reason != "" {
					fmt.Fprintf(&b, ", %s: %s", s.Reason, s.Message)
				}
			}
		}
	}
	return b.String()
}

// jobDone returns nil when the Job has completed; a failed one is final.
func (w *workspace) jobDone(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		var job struct {
			Status struct {
				Conditions []struct{ Type, Status, Message string }
			}
		}
		if err := w.Get(ctx, "/apis/batch/v1/namespaces/"+w.namespace+"/jobs/"+name, &job); err != nil {
			return err
		}
		for _, cond := range job.Status.Conditions {
			switch {
			case cond.Type == "Complete" && cond.Status == "True":
				return nil
			case cond.Type == "Failed" && cond.Status == "True":
				return host.Final(fmt.Errorf("it failed: %s: %s", cond.Message, w.logs(ctx, "job-name="+name)))
			}
		}
		return errors.New("it has not completed")
	}
}

// logs returns the log of the first pod with this label, in one line.
func (w *workspace) logs(ctx context.Context, label string) string {
	var list struct {
		Items []struct{ Metadata struct{ Name string } }
	}
	if err := w.Get(ctx, "/api/v1/namespaces/"+w.namespace+"/pods?labelSelector="+label, &list); err != nil {
		return err.Error()
	}
	if len(list.Items) == 0 {
		return "no pod"
	}
	var text []byte
	if err := w.Get(ctx, "/api/v1/namespaces/"+w.namespace+"/pods/"+list.Items[0].Metadata.Name+"/log?tailLines=20", &text); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// runJob runs a shell command in a pod and waits until it has completed.
func (w *workspace) runJob(ctx context.Context, name, image string, command ...string) error {
	job := w.object("batch/v1", "Job", name, map[string]any{
		"backoffLimit": 0,
		"template": map[string]any{"spec": map[string]any{
			"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
			"containers": []any{map[string]any{"name": "main", "image": w.registry + "/" + image, "command": command}},
		}},
	})
	if err := w.Apply(ctx, job); err != nil {
		return err
	}
	return w.until(ctx, "job "+name, w.jobDone(name))
}

func runsJob(ctx context.Context, w *workspace) error {
	if err := w.runJob(ctx, "sum", "python-sklearn:12", "python3", "-c", "import sklearn; print('sum', 1 + 1)"); err != nil {
		return err
	}
	if got := w.logs(ctx, "job-name=sum"); got != "sum 2" {
		return fmt.Errorf("the job's log is %q, not %q", got, "sum 2")
	}
	return nil
}

// servesPods asks a Service by address and by name from inside a pod, by address from this machine, and the registry from inside a pod.
func servesPods(ctx context.Context, w *workspace) error {
	labels := map[string]any{"app": "web"}
	err := w.Apply(ctx,
		w.object("apps/v1", "Deployment", "web", map[string]any{
			"replicas": 2, "selector": map[string]any{"matchLabels": labels},
			"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{
				"terminationGracePeriodSeconds": 1,
				"containers": []any{map[string]any{
					"name": "web", "image": w.registry + "/busybox:1", "command": []string{"sh", "-c", "echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"},
					"readinessProbe": map[string]any{"httpGet": map[string]any{"path": "/index.html", "port": 8080}, "periodSeconds": 1},
				}},
			}},
		}),
		w.object("v1", "Service", "web", map[string]any{"selector": labels, "ports": []any{map[string]any{"port": 80, "targetPort": 8080}}}),
	)
	if err != nil {
		return err
	}
	err = w.until(ctx, "deployment web", func(ctx context.Context) error {
		var d struct {
			Status struct{ ReadyReplicas int }
		}
		if err := w.Get(ctx, "/apis/apps/v1/namespaces/"+w.namespace+"/deployments/web", &d); err != nil {
			return err
		}
		if d.Status.ReadyReplicas != 2 {
			return fmt.Errorf("%d of 2 replicas are ready", d.Status.ReadyReplicas)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var s struct{ Spec struct{ ClusterIP string } }
	if err := w.Get(ctx, "/api/v1/namespaces/"+w.namespace+"/services/web", &s); err != nil {
		return err
	}
	if err := w.until(ctx, "service web from this machine", answers("http://"+s.Spec.ClusterIP+"/index.html", http.StatusOK)); err != nil {
		return err
	}
	return w.runJob(ctx, "ask", "python-sklearn:12", "python3", "-c", fmt.Sprintf(asks, s.Spec.ClusterIP, w.namespace, w.registry))
}

// asks is the program of a pod that asks a Service by address and by each of its names, and the registry.
const asks = `
import urllib.request
for host in "%s", "web", "web.%s.svc.cluster.local":
    got = urllib.request.urlopen("http://" + host + "/index.html", timeout=5).read()
    assert got == b"hello\n", (host, got)
urllib.request.urlopen("http://%s/v2/", timeout=5)
`

// hasKinds looks for the kinds that scenarios need.
func hasKinds(ctx context.Context, w *workspace) error {
	for _, o := range []api.Object{
		{"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService"},
		{"apiVersion": "serving.kserve.io/v1alpha1", "kind": "InferenceGraph"},
		{"apiVersion": "serving.kserve.io/v1alpha1", "kind": "ClusterServingRuntime"},
		{"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet"},
		{"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob"},
	} {
		if _, err := w.Path(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// dryRun asks the API server to create an object without keeping it, which asks the webhooks, too.
func (w *workspace) dryRun(ctx context.Context, o api.Object) error {
	path, err := w.Path(ctx, o)
	if err != nil {
		return err
	}
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	path = path[:strings.LastIndex(path, "/")]
	return w.Do(ctx, http.MethodPost, path+"?dryRun=All", "application/json", body, nil)
}
