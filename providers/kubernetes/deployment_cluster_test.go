//go:build e2e

package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// site is a deployment on a real cluster: the one of ML_E2E_KUBECONFIG, with the registry ML_E2E_REGISTRY, in a namespace of its own.
type site struct {
	t      *testing.T
	client *kube.Client
	d      *deployment
	addr   resource.Address
	snap   *state.Snapshot
	server string // image of a model server
	record *state.Record
	ops    int
	log    []string
	mu     sync.Mutex
}

func newSite(t *testing.T) *site {
	t.Helper()
	registry := os.Getenv("ML_E2E_REGISTRY")
	if registry == "" || os.Getenv("ML_E2E_KUBECONFIG") == "" || os.Getenv("ML_E2E_KUBECTL") == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("ML_E2E_KUBECONFIG, ML_E2E_REGISTRY and ML_E2E_KUBECTL name no cluster to test on")
		}
		t.Skip("ML_E2E_KUBECONFIG, ML_E2E_REGISTRY and ML_E2E_KUBECTL name no cluster to test on")
	}
	namespace := ownNamespace(t)
	c, err := kube.Connect(t.Context(), kube.Config{Kubeconfig: os.Getenv("ML_E2E_KUBECONFIG"), Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	images := oci.New(oci.Options{Insecure: []string{registry}})
	s := &site{t: t, client: c, addr: resource.Address{Kind: "deployment", Name: "tumors"}, snap: &state.Snapshot{Lineage: "router-dev-test"}}
	base := registry + "/deployment-test"
	runner := s.build(images, base+"/runner", "../../cmd/ml", "ml", nil)
	s.server = s.build(images, base+"/server", "./testdata/server", "server", nil)
	root := t.TempDir()
	work, err := runs.NewWorkspace(providers.Env{Root: root, Dir: filepath.Join(root, ".ml"), Now: time.Now, LookupEnv: os.LookupEnv, Environ: os.Environ, Key: []byte("a project's key")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	store := pods.Store{URI: oci.Scheme + base, Client: images}
	s.d = &deployment{now: time.Now, Env: &pods.Env{Kind: jobs{}, Work: work, Artifacts: store, Runner: &pods.Runner{Store: store, Given: runner},
		Cluster: func() (*kube.Client, error) { return c, nil }}}
	t.Cleanup(func() {
		if s.record != nil {
			s.remove()
		}
		if t.Failed() {
			t.Log(strings.Join(s.log, "\n"))
		}
	})
	return s
}

// ownNamespace makes a namespace for the test, which goes with it.
func ownNamespace(t *testing.T) string {
	t.Helper()
	admin, err := kube.Connect(context.Background(), kube.Config{Kubeconfig: os.Getenv("ML_E2E_KUBECONFIG"), Allowed: []string{kube.AllNamespaces}})
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("deployment-test-%d", os.Getpid())
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}}
	made, err := admin.Apply(context.Background(), u, kube.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin.Delete(context.Background(), made.Ref, kube.DeleteOptions{Within: 3 * time.Minute}); err != nil {
			t.Error(err)
		}
	})
	return name
}

// build makes an image of one Go program.
func (s *site) build(c *oci.Client, repo, pkg, name string, labels map[string]string) string {
	s.t.Helper()
	dir := s.t.TempDir()
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, name), pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	img, err := c.Build(s.t.Context(), oci.BuildRequest{Layers: []oci.Layer{{Dir: dir}}, Entrypoint: []string{"/" + name}, Labels: labels, Repo: repo, Tags: []string{"test"}})
	if err != nil {
		s.t.Fatal(err)
	}
	return img.Ref
}

// image is the model server's image for one version: its label says that it has the model.
func (s *site) image(n int) string {
	s.t.Helper()
	img, err := s.d.Artifacts.Client.Build(s.t.Context(), oci.BuildRequest{Base: s.server, Entrypoint: []string{"/server"},
		Labels: map[string]string{LabelModel: digestOf(n)}, Repo: strings.TrimPrefix(strings.SplitN(s.server, "@", 2)[0], oci.Scheme), Tags: []string{fmt.Sprintf("v%d", n)}})
	if err != nil {
		s.t.Fatal(err)
	}
	return img.Ref
}

func digestOf(n int) string { return string(resource.DigestOf([]byte{byte(n)})) }

func (s *site) spec(n int, change func(*deploymentSpec)) deploymentSpec {
	spec := deploymentSpec{}
	spec.Model = &config.Model{Name: "tumors", Version: n, Digest: digestOf(n)}
	spec.Image, spec.Replicas, spec.Drain = s.image(n), 1, 10*time.Second
	spec.Env = map[string]string{"VALUE": fmt.Sprintf("v%d", n)}
	spec.Readiness = &config.Readiness{Path: "/healthz", Timeout: time.Minute}
	if change != nil {
		change(&spec)
	}
	return spec
}

func (s *site) request(op string, force bool) providers.ApplyRequest {
	return providers.ApplyRequest{OpID: op, Address: s.addr, Action: resource.Update, Prior: s.record, State: s.snap, Force: force,
		Emit: func(e resource.Event) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.log = append(s.log, e.Time.Format("15:04:05.000 ")+e.Message)
		}}
}

func (s *site) apply(ctx context.Context, spec deploymentSpec, force bool) (providers.Result, error) {
	s.ops++
	return s.applyAs(ctx, fmt.Sprintf("op-%d-%d", os.Getpid(), s.ops), spec, force)
}

func (s *site) applyAs(ctx context.Context, op string, spec deploymentSpec, force bool) (providers.Result, error) {
	res, err := s.d.Apply(ctx, spec, s.request(op, force))
	if err == nil {
		ref, e := json.Marshal(res.Ref)
		if e != nil {
			s.t.Fatal(e)
		}
		out, e := json.Marshal(res.Outputs)
		if e != nil {
			s.t.Fatal(e)
		}
		s.record = &state.Record{Address: s.addr, Phase: resource.PhaseReady, Ref: ref, Outputs: out, Updated: time.Now()}
	}
	return res, err
}

func (s *site) mustApply(spec deploymentSpec, force bool) providers.Result {
	s.t.Helper()
	res, err := s.apply(s.t.Context(), spec, force)
	if err != nil {
		s.t.Fatal(err)
	}
	return res
}

func (s *site) read() providers.Object {
	s.t.Helper()
	o, err := s.d.Read(s.t.Context(), providers.ReadRequest{Address: s.addr, Record: s.record})
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}

func (s *site) remove() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := s.d.Delete(ctx, providers.DeleteRequest{OpID: "rm", Address: s.addr, Record: s.record, Emit: s.request("", false).Emit}); err != nil {
		s.t.Error(err)
	}
	s.record = nil
}

// url is the Service's, which answers on the node itself.
func (s *site) url() string {
	s.t.Helper()
	u, err := s.client.Get(s.t.Context(), kube.Ref{Version: "v1", Kind: "Service", Namespace: s.client.Namespace(), Name: "tumors"})
	if err != nil {
		s.t.Fatal(err)
	}
	ip, _, _ := unstructured.NestedString(u.Object, "spec", "clusterIP")
	return "http://" + ip + "/v1/models/tumors:predict"
}

// traffic is steady load until it is ended.
type traffic struct {
	stop   chan struct{}
	wg     sync.WaitGroup
	n      atomic.Int64
	mu     sync.Mutex
	failed []string
	by     map[string]int
}

func (s *site) traffic(workers int) *traffic {
	x := &traffic{stop: make(chan struct{}), by: map[string]int{}}
	url := s.url()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}, Timeout: 30 * time.Second}
	for range workers {
		x.wg.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-x.stop:
					client.CloseIdleConnections()
					return
				case <-tick.C:
				}
				version, err := ask(client, url)
				x.mu.Lock()
				if err != nil {
					x.failed = append(x.failed, time.Now().Format("15:04:05.000 ")+version+" "+err.Error())
				} else {
					x.by[version]++
				}
				x.mu.Unlock()
				x.n.Add(1)
			}
		})
	}
	return x
}

func ask(client *http.Client, url string) (string, error) {
	resp, err := client.Post(url, "application/json", bytes.NewReader([]byte(`{"instances":[[1]]}`)))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	version := resp.Header.Get("ML-Model-Version")
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	if err == nil && !strings.Contains(string(body), "v"+version) {
		err = fmt.Errorf("version %s answered %s", version, body)
	}
	return version, err
}

func (x *traffic) end() (int64, map[string]int, []string) {
	close(x.stop)
	x.wg.Wait()
	return x.n.Load(), x.by, x.failed
}

// left are the objects of the deployment, of all kinds that it can have.
func (s *site) left() []string {
	s.t.Helper()
	var out []string
	cmd := exec.Command(os.Getenv("ML_E2E_KUBECTL"), "--kubeconfig", os.Getenv("ML_E2E_KUBECONFIG"), "-n", s.client.Namespace(), "get",
		"all,configmaps,secrets,endpointslices,horizontalpodautoscalers,persistentvolumeclaims", "-l", pods.LabelAddress+"=deployment.tumors", "-o", "name")
	data, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %s", err, data)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, "/") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

func canaryOf(interval time.Duration, requests int) *config.Rollout {
	rate := 0.05
	return &config.Rollout{Strategy: gateway.Canary, Steps: []int{10, 50, 100}, Interval: interval, OnNoTraffic: gateway.Hold,
		MaxWait: 3 * interval, Abort: &config.Abort{ErrorRate: &rate, MinRequests: requests}}
}

func versionOut(t *testing.T, res providers.Result) int {
	t.Helper()
	out, ok := res.Outputs.(config.DeploymentOutputs)
	if !ok {
		t.Fatalf("outputs %T", res.Outputs)
	}
	return out.Version
}

func TestADeploymentOnARealCluster(t *testing.T) {
	s := newSite(t)
	t.Log("first version")
	res := s.mustApply(s.spec(1, nil), false)
	if versionOut(t, res) != 1 || res.Message != "version 1 serves" || res.Outputs.(config.DeploymentOutputs).Endpoint != "http://tumors."+s.client.Namespace()+".svc.cluster.local" {
		t.Errorf("%+v", res)
	}
	if o := s.read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 || o.Outputs != nil {
		t.Errorf("live %+v", o)
	}

	t.Log("canary to the second under load")
	load := s.traffic(4)
	res = s.mustApply(s.spec(2, func(d *deploymentSpec) { d.Rollout = canaryOf(4*time.Second, 5) }), false)
	n, by, failed := load.end()
	t.Logf("%d requests, %v, %d failed", n, by, len(failed))
	if versionOut(t, res) != 2 || len(failed) > 0 || by["1"] == 0 || by["2"] == 0 {
		t.Errorf("%+v; failed: %v", res, failed)
	}
	if left := strings.Join(s.left(), " "); strings.Contains(left, "deployment.apps/tumors-v1") || strings.Contains(left, "service/tumors-v1") {
		t.Errorf("of version 1 is left: %s", left)
	}

	t.Log("a third that fails is taken back")
	load = s.traffic(4)
	res = s.mustApply(s.spec(3, func(d *deploymentSpec) {
		d.Rollout = canaryOf(4*time.Second, 5)
		d.Env["FAIL_EVERY"] = "2"
	}), false)
	n, by, failed = load.end()
	t.Logf("%d requests, %v, %d failed; %s", n, by, len(failed), res.Message)
	if versionOut(t, res) != 2 || !res.Verdict.Bad() || len(res.Quarantined) != 1 || res.Quarantined[0].Version != 3 {
		t.Errorf("%+v", res)
	}
	for _, f := range failed {
		if !strings.Contains(f, "3 status 500") {
			t.Errorf("a request failed that the third version did not answer: %s", f)
		}
	}
	if left := strings.Join(s.left(), " "); strings.Contains(left, "deployment.apps/tumors-v3") || !strings.Contains(left, "deployment.apps/tumors-v2") {
		t.Errorf("left: %s", left)
	}
	res = s.mustApply(s.spec(3, nil), false)
	if versionOut(t, res) != 2 || !res.Verdict.Bad() || !strings.Contains(res.Message, "requests failed, more than 5 %") {
		t.Errorf("a quarantined version: %+v", res)
	}

	t.Log("one that cannot start")
	res = s.mustApply(s.spec(4, func(d *deploymentSpec) { d.Env["DIE"] = "no weights" }), false)
	t.Log(res.Message)
	if versionOut(t, res) != 2 || !res.Verdict.Bad() || !strings.Contains(res.Message, "no weights") {
		t.Errorf("%+v", res)
	}

	t.Log("rollback")
	load = s.traffic(2)
	res = s.mustApply(s.spec(1, func(d *deploymentSpec) { d.Rollout = canaryOf(time.Hour, 5) }), true)
	_, by, failed = load.end()
	if versionOut(t, res) != 1 || len(failed) > 0 {
		t.Errorf("%+v %v %v", res, by, failed)
	}

	s.heldAndKilled()
	s.behindItsBack()

	s.fetched()
	s.shadowed()

	s.remove()
	if left := s.left(); len(left) > 0 {
		t.Errorf("after delete: %v", left)
	}
}

// heldAndKilled: a canary without traffic is held, the next apply goes on, and one that is killed in between is taken up again.
func (s *site) heldAndKilled() {
	t := s.t
	t.Helper()
	t.Log("held without traffic")
	spec := s.spec(5, func(d *deploymentSpec) { d.Rollout = canaryOf(2*time.Second, 20) })
	res := s.mustApply(spec, false)
	t.Log(res.Message)
	if !res.Held || versionOut(t, res) != 1 {
		t.Errorf("%+v", res)
	}
	if o := s.read(); o.Phase != resource.PhaseRunning || len(o.Drift) > 0 {
		t.Errorf("live %+v", o)
	}
	load := s.traffic(4)
	for deadline := time.Now().Add(time.Minute); len(s.read().Drift) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("a held canary that got its requests does not say so")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	_, err := s.applyAs(ctx, "killed", spec, false)
	cancel()
	if err == nil {
		t.Error("an apply whose context ends returns no error")
	}
	req := s.request("killed", false)
	req.Adopt = true
	res, err = s.d.Apply(t.Context(), spec, req)
	n, by, failed := load.end()
	t.Logf("%d requests, %v", n, by)
	if err != nil || versionOut(t, res) != 5 || len(failed) > 0 {
		t.Errorf("%v %+v %v", err, res, failed)
	}
	req.OpID = "never"
	if _, err := s.d.Apply(t.Context(), spec, req); err == nil || !strings.Contains(err.Error(), providers.ErrAbsent.Error()) {
		t.Errorf("an operation that had no effect: %v", err)
	}
}

// behindItsBack: what others change is named with who did it, and the next apply mends it.
func (s *site) behindItsBack() {
	t := s.t
	t.Helper()
	t.Log("changes behind its back")
	kubectl := func(args ...string) {
		t.Helper()
		cmd := exec.Command(os.Getenv("ML_E2E_KUBECTL"), append([]string{"--kubeconfig", os.Getenv("ML_E2E_KUBECONFIG"), "-n", s.client.Namespace()}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	kubectl("scale", "deployment/tumors-v5", "--replicas=2")
	kubectl("set", "env", "deployment/tumors-v5", "PORT=9999")
	kubectl("patch", "configmap", "tumors", "--type=merge", "-p", `{"data":{"routes.json":"{\"generation\":99}"}}`)
	o := s.read()
	t.Logf("drift: %+v", o.Drift)
	if len(o.Drift) != 3 {
		t.Errorf("drift %+v", o.Drift)
	}
	s.mustApply(s.spec(5, func(d *deploymentSpec) { d.Rollout = canaryOf(2*time.Second, 20) }), false)
	if o := s.read(); len(o.Drift) > 0 || o.Phase != resource.PhaseReady {
		t.Errorf("after the apply: %+v", o)
	}
	kubectl("delete", "service", "tumors")
	if o := s.read(); o.Phase != resource.PhaseMissing {
		t.Errorf("without its Service: %+v", o)
	}
	s.mustApply(s.spec(5, nil), false)
	if o := s.read(); o.Phase != resource.PhaseReady {
		t.Errorf("after the apply: %+v", o)
	}
}

// fetched: an image without the model gets model and code out of the registry.
func (s *site) fetched() {
	t := s.t
	t.Helper()
	t.Log("model and code from the registry")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "value"), []byte("v6"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.d.Work.Root, "code.txt"), []byte(" by code"), 0o644); err != nil {
		t.Fatal(err)
	}
	digest, _, err := files.DigestDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := s.d.Artifacts.Repo("models/tumors")
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.d.Artifacts.Client.PushDir(t.Context(), oci.PushRequest{Dir: dir, Prefix: pod.ModelPrefix, Repo: repo, Tag: oci.ContentTag(digest)})
	if err != nil {
		t.Fatal(err)
	}
	load := s.traffic(2)
	res := s.mustApply(s.spec(6, func(d *deploymentSpec) {
		d.Image, d.Command, d.Sources = s.server, []string{"/server"}, []string{"code.txt"}
		d.Model.Digest, d.Model.URI = string(resource.DigestOfHex(strings.TrimPrefix(digest, "sha256:"))), img.Ref
	}), false)
	_, by, failed := load.end()
	if versionOut(t, res) != 6 || len(failed) > 0 || by["6"] == 0 {
		t.Errorf("%+v %v %v", res, by, failed)
	}
}

// shadowed: a shadow gets copies and no answer of its is used, also while a router dies; then it is taken.
func (s *site) shadowed() {
	t := s.t
	t.Helper()
	t.Log("shadow with two routers, of which one is killed")
	spec := s.spec(7, func(d *deploymentSpec) {
		d.Rollout = &config.Rollout{Strategy: gateway.Shadow, Requests: 100, Interval: time.Second}
		d.Kubernetes = &serverSettings{Router: &routerSettings{Replicas: 2}}
	})
	load := s.traffic(2)
	killed := make(chan error, 1)
	go func() {
		<-time.After(3 * time.Second)
		cmd := exec.Command(os.Getenv("ML_E2E_KUBECTL"), "--kubeconfig", os.Getenv("ML_E2E_KUBECONFIG"), "-n", s.client.Namespace(), "delete", "pod", "--wait=false", "-l", rollout.LabelPart+"="+rollout.PartRouter, "--field-selector", "status.phase=Running")
		killed <- cmd.Run()
	}()
	res := s.mustApply(spec, false)
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	n, by, failed := load.end()
	t.Logf("%d requests, %v, %d failed; %s", n, by, len(failed), res.Message)
	if !res.Held || versionOut(t, res) != 6 || by["7"] > 0 || !strings.Contains(res.Message, "differed, such as $.predictions[0]") {
		t.Errorf("%+v %v", res, by)
	}
	if len(failed) > 0 {
		t.Errorf("failed: %v", failed)
	}
	spec.Rollout = nil
	if res = s.mustApply(spec, false); res.Held || versionOut(t, res) != 7 {
		t.Errorf("a shadow that is taken: %+v", res)
	}
	var log bytes.Buffer
	if err := s.d.Logs(t.Context(), providers.LogRequest{Record: s.record, Lines: 5}, &log); err != nil {
		t.Errorf("logs: %v", err)
	}
}

func TestADeploymentOnAClusterKeepsTheContract(t *testing.T) {
	s := newSite(t)
	slow := s.spec(2, func(d *deploymentSpec) { d.Env["START_AFTER"] = "10s" })
	pods := func() int {
		list, err := s.client.List(context.Background(), kube.Ref{Version: "v1", Kind: "Pod"}.GVK(), s.client.Namespace(), kube.Selector{Labels: rollout.LabelPart + "=" + rollout.PartServer})
		if err != nil {
			t.Error(err)
		}
		return len(list)
	}
	providertest.Run(t, providertest.Case{
		Driver: providers.For(s.d), Kind: "deployment",
		Spec: providertest.Encoded(t, s.spec(1, nil).Deployment), Slow: providertest.Encoded(t, slow.Deployment),
		Count: pods, Release: func() {},
	})
}
