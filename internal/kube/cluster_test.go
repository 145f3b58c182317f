//go:build e2e

package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// cluster makes a namespace on the cluster of ML_E2E_KUBECONFIG, and a client for it. change may alter the configuration.
func cluster(t *testing.T, change func(*Config)) (*Client, string) {
	t.Helper()
	path := os.Getenv("ML_E2E_KUBECONFIG")
	if path == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("ML_E2E_KUBECONFIG is not set: it names the kubeconfig of a cluster to test on")
		}
		t.Skip("ML_E2E_KUBECONFIG is not set: it names the kubeconfig of a cluster to test on")
	}
	admin, err := Connect(context.Background(), Config{Kubeconfig: path, Allowed: []string{AllNamespaces}})
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("kube-test-%d-%d", os.Getpid(), time.Now().UnixNano()%1e9)
	ns, err := admin.Apply(context.Background(), object(t, "{apiVersion: v1, kind: Namespace, metadata: {name: "+name+"}}"), ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin.Delete(context.Background(), ns.Ref, DeleteOptions{Within: 2 * time.Minute}); err != nil {
			t.Error(err)
		}
	})
	cfg := Config{Kubeconfig: path, Namespace: name}
	if change != nil {
		change(&cfg)
	}
	c, err := Connect(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, name
}

func image(t *testing.T) string {
	t.Helper()
	host := os.Getenv("ML_E2E_REGISTRY")
	if host == "" {
		t.Fatal("ML_E2E_REGISTRY is not set: it names the registry that has busybox")
	}
	return host + "/python-sklearn:12"
}

// workloadOf is a Deployment of one container, with more in its pod's spec.
func workloadOf(image, command, more string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: x}
spec:
  replicas: 1
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: %q, command: ["sh", "-c", %q], resources: {limits: {memory: 64Mi}}%s}]
`, image, command, more)
}

// as writes like another manager would.
func as(t *testing.T, c *Client, manager, path, subresource, patch string) {
	t.Helper()
	r := request{call: call{verb: "patch"}, method: http.MethodPatch, path: path + subresource, query: url.Values{"fieldManager": {manager}}, body: []byte(patch), ctype: "application/merge-patch+json"}
	if _, err := c.do(context.Background(), r); err != nil {
		t.Fatal(err)
	}
}

func TestOnAClusterAnApplyTakesOnlyWhatIsNamed(t *testing.T) {
	c, ns := cluster(t, nil)
	ctx := context.Background()
	want := object(t, workloadOf(image(t), "sleep 600", ""))
	if err := Remember(want); err != nil {
		t.Fatal(err)
	}
	first, err := c.Apply(ctx, want, ApplyOptions{})
	if err != nil || !first.Created {
		t.Fatalf("%+v, %v", first, err)
	}
	drift := func() ([]FieldChange, error) {
		live, err := c.Get(ctx, first.Ref)
		if err != nil {
			return nil, err
		}
		return Drift(live)
	}
	if diff, err := drift(); err != nil || len(diff) > 0 {
		t.Errorf("what was just applied differs: %v, %v", diff, err)
	}
	if dry, err := c.Apply(ctx, object(t, workloadOf(image(t), "sleep 700", "")), ApplyOptions{DryRun: true}); err != nil || dry.Object.GetGeneration() != 2 {
		t.Errorf("dry run: %v, %v", dry.Object, err)
	}
	path := "/apis/apps/v1/namespaces/" + ns + "/deployments/x"
	as(t, c, "kubectl", path, "/scale", `{"spec":{"replicas":2}}`)
	as(t, c, "kubectl-edit", path, "", `{"spec":{"revisionHistoryLimit":3,"template":{"spec":{"terminationGracePeriodSeconds":7}}}}`)
	diff, err := drift()
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(diff)
	if got != "[{spec.replicas 1 2 kubectl (scale)} {spec.template.spec.terminationGracePeriodSeconds 0 7 kubectl-edit}]" {
		t.Errorf("the diff is %s", got)
	}
	var conflict *ConflictError
	if _, err := c.Apply(ctx, want, ApplyOptions{Force: []string{"spec.replicas"}}); !errors.As(err, &conflict) || len(conflict.Conflicts) != 1 ||
		conflict.Conflicts[0] != (Conflict{"spec.template.spec.terminationGracePeriodSeconds", "kubectl-edit"}) {
		t.Errorf("%v", err)
	}
	if u, err := c.Get(ctx, first.Ref); err != nil || fmt.Sprint(u.Object["spec"].(map[string]any)["replicas"]) != "2" {
		t.Errorf("an apply with one conflict too many changed something: %v", err)
	}
	if _, err := c.Apply(ctx, want, ApplyOptions{Force: []string{"spec.replicas", "spec.template.spec.terminationGracePeriodSeconds"}}); err != nil {
		t.Errorf("%v", err)
	}
	if diff, err := drift(); err != nil || len(diff) > 0 {
		t.Errorf("after the fields were taken over: %v, %v", diff, err)
	}
	stale := want.DeepCopy()
	stale.SetNamespace(ns)
	stale.SetResourceVersion("1")
	m, ref, err := c.locate(ctx, RefOf(stale), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.patch(ctx, m, ref, stale, false, true); !errors.Is(err, errMoved) {
		t.Errorf("a forced apply that rests on an old version must be refused: %v", err)
	}
}

func TestOnAClusterAWaitEndsWithTheCause(t *testing.T) {
	bad := func(more string) func(string) string {
		return func(image string) string { return workloadOf(image, "sleep 600", more) }
	}
	// A container without a probe is ready for as long as it runs, and one that ends at once for a moment that a watch may see.
	const never = `, readinessProbe: {exec: {command: ["false"]}}`
	for name, test := range map[string]struct {
		object func(image string) string
		before string // applied first
		code   string
		says   []string
	}{
		"an image that is not there": {func(i string) string {
			return workloadOf(strings.Replace(i, "python-sklearn", "nothere", 1), "true", "")
		}, "", CauseImage, []string{"nothere:12: not found"}},
		"a crash loop": {func(i string) string { return workloadOf(i, "echo reading; echo no column age; exit 3", never) }, "", CauseCrash, []string{"exited with 3", "no column age"}},
		"a kill for want of memory": {func(i string) string {
			return workloadOf(i, `exec python3 -c "x=bytearray(500<<20)"`, never)
		}, "", CauseMemory, []string{"want of memory"}},
		"a missing ConfigMap": {bad(`, envFrom: [{configMapRef: {name: settings}}]`), "", CauseConfig, []string{`configmap "settings" not found`}},
		"a quota":             {bad(""), "{apiVersion: v1, kind: ResourceQuota, metadata: {name: small}, spec: {hard: {pods: 0}}}", CauseQuota, []string{"exceeded quota: small"}},
		"no such serviceaccount": {func(i string) string {
			return strings.Replace(bad("")(i), "      containers:", "      serviceAccountName: runner\n      containers:", 1)
		}, "", CauseAccount, []string{`serviceaccount "runner" not found`}},
		"a node with a label": {func(i string) string {
			return strings.Replace(bad("")(i), "      containers:", "      nodeSelector: {gpu: h100}\n      containers:", 1)
		}, "", CauseUnschedulable, []string{"0/1 nodes are available"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := cluster(t, nil)
			ctx := context.Background()
			if test.before != "" {
				if _, err := c.Apply(ctx, object(t, test.before), ApplyOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			a, err := c.Apply(ctx, object(t, test.object(image(t))), ApplyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			err = c.Wait(ctx, []Ref{a.Ref}, 4*time.Minute, nil)
			var cause *CauseError
			if !errors.As(err, &cause) || cause.Cause.Code != test.code {
				t.Fatalf("after %s: %v", time.Since(start), err)
			}
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("the error lacks %q: %v", s, err)
				}
			}
			t.Logf("after %s: %v", time.Since(start).Round(time.Second), err)
		})
	}
}

func TestOnAClusterADeletionIsWaitedForAndSaysWhatHoldsIt(t *testing.T) {
	c, ns := cluster(t, nil)
	ctx := context.Background()
	a, err := c.Apply(ctx, object(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: x, finalizers: [example.com/hold]}}"), ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other := a.Ref
	other.UID = "00000000-0000-0000-0000-000000000000"
	if err := c.Delete(ctx, other, DeleteOptions{}); err != nil {
		t.Errorf("an object of that name with another uid: %v", err)
	}
	if u, err := c.Get(ctx, a.Ref); err != nil || u.GetDeletionTimestamp() != nil {
		t.Fatalf("the wrong object was deleted: %v", err)
	}
	if err := c.Delete(ctx, a.Ref, DeleteOptions{Within: time.Second}); err == nil || !strings.Contains(err.Error(), "finalizers example.com/hold") {
		t.Errorf("%v", err)
	}
	as(t, c, "kubectl-edit", "/api/v1/namespaces/"+ns+"/configmaps/x", "", `{"metadata":{"finalizers":null}}`)
	if err := c.Delete(ctx, a.Ref, DeleteOptions{}); err != nil {
		t.Errorf("%v", err)
	}
	d, err := c.Apply(ctx, object(t, workloadOf(image(t), "sleep 600", "")), ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(ctx, []Ref{d.Ref}, time.Minute, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(ctx, d.Ref, DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if left, err := c.List(ctx, podKind, ns, Selector{}); err != nil || len(left) > 0 {
		t.Errorf("%d pods outlived a foreground deletion, %v", len(left), err)
	}
}

func TestOnAClusterWhatIsMissingIsNamed(t *testing.T) {
	c, ns := cluster(t, nil)
	ctx := context.Background()
	var missing *MissingKindError
	if _, err := c.Apply(ctx, object(t, "{apiVersion: example.com/v1, kind: Rocket, metadata: {name: x}}"), ApplyOptions{}); !errors.As(err, &missing) {
		t.Errorf("kind: %v", err)
	}
	if _, err := c.Apply(ctx, object(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, dat: {a: b}}"), ApplyOptions{}); err == nil || !strings.Contains(err.Error(), ".dat") {
		t.Errorf("an unknown field: %v", err)
	}
	nowhere, _ := cluster(t, func(cfg *Config) { cfg.Namespace = "kube-test-nowhere" })
	if _, err := nowhere.Apply(ctx, object(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}"), ApplyOptions{}); err == nil || !strings.Contains(err.Error(), "kubectl create namespace kube-test-nowhere") {
		t.Errorf("namespace: %v", err)
	}
	nobody, _ := cluster(t, func(cfg *Config) { cfg.Namespace, cfg.Kubeconfig = ns, impersonating(t, cfg.Kubeconfig, "nobody") })
	var forbidden *ForbiddenError
	_, err := nobody.Apply(ctx, object(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}"), ApplyOptions{})
	if !errors.As(err, &forbidden) || forbidden.Verb != "patch" || forbidden.Resource != "configmaps" || forbidden.Namespace != ns {
		t.Errorf("right: %v", err)
	}
	admin, gone := cluster(t, func(cfg *Config) { cfg.Allowed = []string{AllNamespaces} })
	if _, err := admin.Apply(ctx, object(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: hold, namespace: "+gone+", finalizers: [example.com/hold]}}"), ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	u, err := admin.Get(ctx, Ref{Version: "v1", Kind: "Namespace", Name: gone})
	if err != nil {
		t.Fatal(err)
	}
	if err := admin.Delete(ctx, RefOf(u), DeleteOptions{Within: -1}); err != nil {
		t.Fatal(err)
	}
	var terminating *TerminatingError
	if _, err := admin.Apply(ctx, object(t, "{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: "+gone+"}}"), ApplyOptions{}); !errors.As(err, &terminating) {
		t.Errorf("namespace that goes: %v", err)
	}
	as(t, admin, "kubectl-edit", "/api/v1/namespaces/"+gone+"/configmaps/hold", "", `{"metadata":{"finalizers":null}}`)
}

// impersonating copies a kubeconfig for another user.
func impersonating(t *testing.T, path, user string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var cfg map[string]any
	if err := yaml.Unmarshal(b, &cfg); err != nil {
		t.Fatal(err)
	}
	for _, u := range cfg["users"].([]any) {
		u.(map[string]any)["user"].(map[string]any)["as"] = user
	}
	if b, err = yaml.Marshal(cfg); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir() + "/kubeconfig"
	if err := os.WriteFile(out, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOnAClusterTheBuiltinKindsAreWhereTheyAreSaidToBe(t *testing.T) {
	c, _ := cluster(t, nil)
	for gvk, want := range builtin {
		served, err := c.discover(context.Background(), gvk.GroupVersion())
		if err != nil {
			t.Fatal(err)
		}
		if served[gvk.Kind] != want {
			t.Errorf("%s: the cluster has %+v, not %+v", gvk, served[gvk.Kind], want)
		}
	}
}
