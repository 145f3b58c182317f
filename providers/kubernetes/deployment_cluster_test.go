//go:build e2e

package kubernetes

import (
	"bytes"
	"context"
	"errors"
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
)

// site is a deployment on a real cluster, in a namespace of its own.
type site struct {
	*providertest.Site[deploymentSpec]
	client *kube.Client
	d      *deployment
	server string // image of a model server
}

func newSite(t *testing.T) *site {
	t.Helper()
	c := providertest.OnCluster(t, "deployment-test")
	client, images := c.Client(), oci.New(oci.Options{Insecure: []string{c.Registry}})
	base := c.Registry + "/deployment-test"
	store := pods.Store{URI: oci.Scheme + base, Client: images}
	runner := c.Image(images, base+"/runner", providertest.Program(t), nil)
	work, err := runs.NewWorkspace(providertest.Env(t.TempDir()), 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &deployment{now: time.Now, Env: &pods.Env{Kind: jobs{}, Work: work, Artifacts: store, Runner: &pods.Runner{Store: store, Given: runner},
		Cluster: func() (*kube.Client, error) { return client, nil }}}
	s := &site{client: client, d: d, server: c.Image(images, base+"/server", providertest.Built(t, "./testdata/server"), nil),
		Site: &providertest.Site[deploymentSpec]{Cluster: c, Driver: d, Provider: name, Addr: resource.Address{Kind: "deployment", Name: "tumors"}}}
	s.Cleaned()
	return s
}

// image is the model server's image for one version: its label says that it has the model.
func (s *site) image(n int) string {
	s.T.Helper()
	img, err := s.d.Artifacts.Client.Build(s.T.Context(), oci.BuildRequest{Base: s.server, Entrypoint: []string{"/server"},
		Labels: map[string]string{LabelModel: digestOf(n)}, Repo: strings.TrimPrefix(strings.SplitN(s.server, "@", 2)[0], oci.Scheme), Tags: []string{fmt.Sprintf("v%d", n)}})
	if err != nil {
		s.T.Fatal(err)
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

// url is the Service's, which answers on the node itself.
func (s *site) url() string {
	s.T.Helper()
	u, err := s.client.Get(s.T.Context(), kube.Ref{Version: "v1", Kind: "Service", Namespace: s.Namespace, Name: "tumors"})
	if err != nil {
		s.T.Fatal(err)
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

// left are the objects of the deployment.
func (s *site) left() string {
	s.T.Helper()
	return strings.Join(s.Left(pods.LabelAddress+"=deployment.tumors", "all"), " ")
}

func canaryOf(interval time.Duration, requests int) *config.Rollout {
	rate := 0.05
	return &config.Rollout{Strategy: gateway.Canary, Steps: []int{10, 50, 100}, Interval: interval, OnNoTraffic: gateway.Hold,
		MaxWait: 3 * interval, Abort: &config.Abort{ErrorRate: &rate, MinRequests: requests}}
}

func TestADeploymentOnARealCluster(t *testing.T) {
	s := newSite(t)
	t.Log("first version")
	res := s.Must(s.spec(1, nil))
	if providertest.ServedVersion(t, res) != 1 || res.Message != "version 1 serves" || res.Outputs.(config.DeploymentOutputs).Endpoint != "http://tumors."+s.Namespace+".svc.cluster.local" {
		t.Errorf("%+v", res)
	}
	if o := s.Read(); o.Phase != resource.PhaseReady || len(o.Drift) > 0 || o.Outputs != nil {
		t.Errorf("live %+v", o)
	}

	t.Log("canary to the second under load")
	load := s.traffic(4)
	res = s.Must(s.spec(2, func(d *deploymentSpec) { d.Rollout = canaryOf(4*time.Second, 5) }))
	n, by, failed := load.end()
	t.Logf("%d requests, %v, %d failed", n, by, len(failed))
	if providertest.ServedVersion(t, res) != 2 || len(failed) > 0 || by["1"] == 0 || by["2"] == 0 {
		t.Errorf("%+v; failed: %v", res, failed)
	}
	if left := s.left(); strings.Contains(left, "deployment.apps/tumors-v1") || strings.Contains(left, "service/tumors-v1") {
		t.Errorf("of version 1 is left: %s", left)
	}

	t.Log("a third that fails is taken back")
	load = s.traffic(4)
	res = s.Must(s.spec(3, func(d *deploymentSpec) {
		d.Rollout = canaryOf(4*time.Second, 5)
		d.Env["FAIL_EVERY"] = "2"
	}))
	n, by, failed = load.end()
	t.Logf("%d requests, %v, %d failed; %s", n, by, len(failed), res.Message)
	if providertest.ServedVersion(t, res) != 2 || !res.Verdict.Bad() || len(res.Quarantined) != 1 || res.Quarantined[0].Version != 3 {
		t.Errorf("%+v", res)
	}
	for _, f := range failed {
		if !strings.Contains(f, "3 status 500") {
			t.Errorf("a request failed that the third version did not answer: %s", f)
		}
	}
	if left := s.left(); strings.Contains(left, "deployment.apps/tumors-v3") || !strings.Contains(left, "deployment.apps/tumors-v2") {
		t.Errorf("left: %s", left)
	}
	res = s.Must(s.spec(3, nil))
	if providertest.ServedVersion(t, res) != 2 || !res.Verdict.Bad() || !strings.Contains(res.Message, "requests failed, more than 5 %") {
		t.Errorf("a quarantined version: %+v", res)
	}

	t.Log("one that cannot start")
	res = s.Must(s.spec(4, func(d *deploymentSpec) { d.Env["DIE"] = "no weights" }))
	t.Log(res.Message)
	if providertest.ServedVersion(t, res) != 2 || !res.Verdict.Bad() || !strings.Contains(res.Message, "no weights") {
		t.Errorf("%+v", res)
	}

	t.Log("rollback")
	load = s.traffic(2)
	res, err := s.Apply(t.Context(), s.spec(1, func(d *deploymentSpec) { d.Rollout = canaryOf(time.Hour, 5) }), true)
	_, by, failed = load.end()
	if err != nil || providertest.ServedVersion(t, res) != 1 || len(failed) > 0 {
		t.Errorf("%+v %v %v", res, by, failed)
	}

	s.heldAndKilled()
	s.behindItsBack()

	s.fetched()
	s.shadowed()

	s.Remove()
	s.NothingLeft()
}

// heldAndKilled: a canary without traffic is held, the next apply goes on, and one that is killed in between is taken up again.
func (s *site) heldAndKilled() {
	t := s.T
	t.Helper()
	t.Log("held without traffic")
	spec := s.spec(5, func(d *deploymentSpec) { d.Rollout = canaryOf(2*time.Second, 20) })
	res := s.Must(spec)
	t.Log(res.Message)
	if !res.Held || providertest.ServedVersion(t, res) != 1 {
		t.Errorf("%+v", res)
	}
	if o := s.Read(); o.Phase != resource.PhaseRunning || len(o.Drift) > 0 {
		t.Errorf("live %+v", o)
	}
	load := s.traffic(4)
	for deadline := time.Now().Add(time.Minute); len(s.Read().Drift) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("a held canary that got its requests does not say so")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req := s.Request("killed", false)
	emit := req.Emit
	req.Emit = func(e resource.Event) {
		emit(e)
		if strings.Contains(e.Message, "canary at 50 %") {
			cancel()
		}
	}
	_, err := s.ApplyAs(ctx, spec, req)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an apply whose context ends in the middle of a canary returns %v", err)
	}
	req = s.Request("killed", false)
	req.Adopt = true
	res, err = s.ApplyAs(t.Context(), spec, req)
	n, by, failed := load.end()
	t.Logf("%d requests, %v", n, by)
	if err != nil || providertest.ServedVersion(t, res) != 5 || len(failed) > 0 {
		t.Errorf("%v %+v %v", err, res, failed)
	}
	req.OpID = "never"
	if _, err := s.d.Apply(t.Context(), spec, req); err == nil || !strings.Contains(err.Error(), providers.ErrAbsent.Error()) {
		t.Errorf("an operation that had no effect: %v", err)
	}
}

// behindItsBack: what others change is named with who did it, and the next apply mends it.
func (s *site) behindItsBack() {
	t := s.T
	t.Helper()
	t.Log("changes behind its back")
	s.Kubectl("", "scale", "deployment/tumors-v5", "--replicas=2")
	s.Kubectl("", "set", "env", "deployment/tumors-v5", "PORT=9999")
	s.Kubectl("", "patch", "configmap", "tumors", "--type=merge", "-p", `{"data":{"routes.json":"{\"generation\":99}"}}`)
	o := s.Read()
	t.Logf("drift: %+v", o.Drift)
	if len(o.Drift) != 3 {
		t.Errorf("drift %+v", o.Drift)
	}
	s.Must(s.spec(5, func(d *deploymentSpec) { d.Rollout = canaryOf(2*time.Second, 20) }))
	if o := s.Read(); len(o.Drift) > 0 || o.Phase != resource.PhaseReady {
		t.Errorf("after the apply: %+v", o)
	}
	s.Kubectl("", "delete", "service", "tumors")
	if o := s.Read(); o.Phase != resource.PhaseMissing {
		t.Errorf("without its Service: %+v", o)
	}
	s.Must(s.spec(5, nil))
	if o := s.Read(); o.Phase != resource.PhaseReady {
		t.Errorf("after the apply: %+v", o)
	}
}

// fetched: an image without the model gets model and code out of the registry.
func (s *site) fetched() {
	t := s.T
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
	res := s.Must(s.spec(6, func(d *deploymentSpec) {
		d.Image, d.Command, d.Sources = s.server, []string{"/server"}, []string{"code.txt"}
		d.Model.Digest, d.Model.URI = string(resource.DigestOfHex(strings.TrimPrefix(digest, "sha256:"))), img.Ref
	}))
	_, by, failed := load.end()
	if providertest.ServedVersion(t, res) != 6 || len(failed) > 0 || by["6"] == 0 {
		t.Errorf("%+v %v %v", res, by, failed)
	}
}

// shadowed: a shadow gets copies and no answer of its is used, also while a router dies; then it is taken.
func (s *site) shadowed() {
	t := s.T
	t.Helper()
	t.Log("shadow with two routers, of which one is killed")
	spec := s.spec(7, func(d *deploymentSpec) {
		d.Rollout = &config.Rollout{Strategy: gateway.Shadow, Requests: 100, Interval: time.Second}
		d.Kubernetes = &serverSettings{Router: &routerSettings{Replicas: 2}}
	})
	load := s.traffic(2)
	killed := make(chan error, 1)
	go func() { killed <- s.killRouter() }()
	res := s.Must(spec)
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	n, by, failed := load.end()
	t.Logf("%d requests, %v, %d failed; %s", n, by, len(failed), res.Message)
	if !res.Held || providertest.ServedVersion(t, res) != 6 || by["7"] > 0 || !strings.Contains(res.Message, "differed, such as $.predictions[0]") {
		t.Errorf("%+v %v", res, by)
	}
	if len(failed) > 0 {
		t.Errorf("failed: %v", failed)
	}
	spec.Rollout = nil
	if res = s.Must(spec); res.Held || providertest.ServedVersion(t, res) != 7 {
		t.Errorf("a shadow that is taken: %+v", res)
	}
	s.Logs()
}

// killRouter deletes one of two routers, when both are ready.
func (s *site) killRouter() error {
	kubectl := func(args ...string) (string, error) {
		out, err := exec.CommandContext(s.T.Context(), os.Getenv("ML_E2E_KUBECTL"), append([]string{"--kubeconfig", s.Kubeconfig, "-n", s.Namespace}, args...)...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("kubectl %v: %w: %s", args, err, out)
		}
		return string(out), err
	}
	if _, err := kubectl("wait", "deployment/tumors", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=2m"); err != nil {
		return err
	}
	names, err := kubectl("get", "pods", "-l", rollout.LabelPart+"="+rollout.PartRouter, "-o", "name")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(names, "\n")
	_, err = kubectl("delete", first, "--wait=false")
	return err
}

func TestADeploymentOnAClusterKeepsTheContract(t *testing.T) {
	s := newSite(t)
	slow := s.spec(2, func(d *deploymentSpec) { d.Env["START_AFTER"] = "10s" })
	pods := func() int {
		list, err := s.client.List(context.Background(), kube.Ref{Version: "v1", Kind: "Pod"}.GVK(), s.Namespace, kube.Selector{Labels: rollout.LabelPart + "=" + rollout.PartServer})
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
