//go:build e2e

package kserve

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
)

// staged is the deployment as one InferenceService, without what a rollout does with it.
func (s *site) staged(spec deploymentSpec) *staged {
	s.T.Helper()
	spec.KServe.Canary, spec.KServe.Route = bySpec, &routeSettings{Gateway: "none/none"}
	req := s.Request("none", false)
	front, ref, err := s.d.front(s.Client(), spec, req)
	if err != nil {
		s.T.Fatal(err)
	}
	front = ref.single(front)
	n := spec.nest(s.d.settings, s.Namespace)
	n.Canary = "router" // what a Gateway is needed for is not looked at
	raw, err := s.d.resolve(s.T.Context(), s.Client(), spec, n, req)
	if err != nil {
		s.T.Fatal(err)
	}
	rel, err := releaseOf(front, spec, spec.nest(s.d.settings, s.Namespace), raw, "secret")
	if err != nil {
		s.T.Fatal(err)
	}
	out, err := s.d.newStaged(s.Client(), rel, entrance{}, false)
	if err != nil {
		s.T.Fatal(err)
	}
	return out
}

// running are the UIDs of the pods of a version, by the generation of their Deployment.
func (s *site) running(x *staged, version int) (generation int64, pods string) {
	s.T.Helper()
	d, err := s.Client().Get(s.T.Context(), x.deployment(version))
	if err != nil {
		s.T.Fatal(err)
	}
	list, err := s.Client().List(s.T.Context(), gvkPod, s.Namespace, kube.Selector{Labels: "app=isvc." + x.serversOf(version)})
	if err != nil {
		s.T.Fatal(err)
	}
	var ids []string
	for _, p := range list {
		if p.GetDeletionTimestamp() == nil {
			ids = append(ids, string(p.GetUID()))
		}
	}
	return d.GetGeneration(), strings.Join(ids, " ")
}

// TestTheStagesOfOneService: a version comes up beside the one that serves without a change to that one's pods, says its share, takes the
// place of the predictor with the very pods that it has, or goes without a trace.
func TestTheStagesOfOneService(t *testing.T) {
	s := newSite(t, "stages")
	ctx, say := t.Context(), func(text string) { t.Log(text) }
	up := func(x *staged) {
		t.Helper()
		if _, err := x.Up(ctx, say); err != nil {
			t.Fatal(err)
		}
	}
	sweep := func(x *staged, keep ...int) {
		t.Helper()
		if err := x.Sweep(ctx, keep, say); err != nil {
			t.Fatal(err)
		}
	}
	one := s.staged(s.format(1, nil))
	up(one)
	generation, pods := s.running(one, 1)

	two := s.staged(s.format(2, nil))
	up(two)
	for _, percent := range []int{0, 50, 100} {
		routes := gateway.Routes{Current: &gateway.Backend{Version: 1}, Candidate: &gateway.Backend{Version: 2}, Weight: percent}
		if err := two.percent(ctx, routes); err != nil {
			t.Fatal(err)
		}
	}
	if g, p := s.running(one, 1); g != generation || p != pods {
		t.Errorf("the servers of version 1 were touched: generation %d, was %d; pods %s, were %s", g, generation, p, pods)
	}
	s.untouchedBy(two, func() { up(two) })
	s.drift(two, "spec.canary[0].trafficPercent")

	t.Log("taken back")
	sweep(two, 1)
	if g, p := s.running(one, 1); g != generation || p != pods {
		t.Errorf("the servers of version 1 were touched: generation %d, was %d; pods %s, were %s", g, generation, p, pods)
	}
	t.Log("promoted")
	up(two)
	s.promoted(two)
	if ready, gone, err := two.Check(ctx); !ready || gone || err != nil {
		t.Errorf("ready %v, gone %v, %v", ready, gone, err)
	}
	s.T.Log("restored")
	good, err := one.Good()
	if err != nil {
		t.Fatal(err)
	}
	s.Kubectl("", "delete", "inferenceservice", "stages", "--wait=true")
	if did, err := two.Restore(ctx, 1, good, true); err != nil || !did {
		t.Fatalf("%v %v", did, err)
	}
	s.running(one, 1)
	s.Kubectl("", "delete", "inferenceservice,configmap", "--all", "--wait=true")
}

// promoted has a canary take over, and wants neither its pods nor what they are made by to change.
func (s *site) promoted(x *staged) {
	s.T.Helper()
	generation, pods := s.running(x, x.number)
	if err := x.Sweep(s.T.Context(), []int{x.number}, func(string) {}); err != nil {
		s.T.Fatal(err)
	}
	if g, p := s.running(x, x.number); g != generation || p != pods {
		s.T.Errorf("a promotion replaced the pods: generation %d, was %d; %s, were %s", g, generation, p, pods)
	}
}

// TestAPromotionLeavesServersOfOnesOwn: KServe gives the containers of a predictor limits that those of a canary do not get.
func TestAPromotionLeavesServersOfOnesOwn(t *testing.T) {
	s := newSite(t, "owner")
	for n := 1; n <= 2; n++ {
		x := s.staged(s.own(n, func(d *deploymentSpec) { d.KServe = &nested{} }))
		if _, err := x.Up(t.Context(), func(string) {}); err != nil {
			t.Fatal(err)
		}
		if n == 2 {
			s.promoted(x)
		}
	}
	s.Kubectl("", "delete", "inferenceservice,configmap", "--all", "--wait=true")
}

// untouchedBy wants the pods of a version to be those of before.
func (s *site) untouchedBy(x *staged, do func()) {
	s.T.Helper()
	_, before := s.running(x, x.number)
	do()
	if _, after := s.running(x, x.number); after != before {
		s.T.Errorf("pods %s, were %s", after, before)
	}
}

// drift changes the share behind the program's back, and wants that seen and mended.
func (s *site) drift(x *staged, path string) {
	s.T.Helper()
	ctx := s.T.Context()
	at, err := x.now(ctx)
	if err != nil {
		s.T.Fatal(err)
	}
	list, _, err := unstructured.NestedSlice(at.live.Object, "spec", "canary")
	if err != nil {
		s.T.Fatal(err)
	}
	list[0].(map[string]any)["trafficPercent"] = int64(7)
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"canary": list}})
	if err != nil {
		s.T.Fatal(err)
	}
	s.Kubectl("", "patch", "inferenceservice", x.name, "--type=merge", "-p", string(patch))
	if at, err = x.now(ctx); err != nil {
		s.T.Fatal(err)
	}
	changes, err := finer(at.live, kube.DriftFrom(at.applied, at.live, nil))
	if err != nil || len(changes) != 1 || changes[0].Path != path || changes[0].New != "7" || !strings.HasPrefix(changes[0].By, "kubectl") {
		s.T.Errorf("drift %+v, %v", changes, err)
	}
	if _, err := x.Up(context.WithoutCancel(ctx), func(string) {}); err != nil {
		s.T.Fatal(err)
	}
}
