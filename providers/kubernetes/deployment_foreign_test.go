//go:build e2e

package kubernetes

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

// findings are what a plan says of a deployment that is there, as "error|warning detail".
func (s *site) findings(spec deploymentSpec) []string {
	s.T.Helper()
	req := s.Request("", false)
	got, err := s.d.Preflight(s.T.Context(), providers.PreflightRequest{Address: req.Address, Action: resource.Update, Prior: req.Prior, State: req.State,
		Spec: providertest.Encoded(s.T, spec), Look: &providers.Look{}})
	if err != nil {
		s.T.Fatal(err)
	}
	var out []string
	for _, f := range got {
		kind := "error "
		if f.Warning {
			kind = "warning "
		}
		out = append(out, kind+f.Detail)
	}
	return out
}

// other applies fields of a Deployment as somebody else's.
func (s *site) other(name, spec string) {
	s.T.Helper()
	s.Kubectl(fmt.Sprintf("{apiVersion: apps/v1, kind: Deployment, metadata: {name: %s}, spec: %s}", name, spec),
		"apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-")
}

func (s *site) replicas() int64 {
	s.T.Helper()
	u, err := s.client.Get(s.T.Context(), kube.Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: s.Namespace, Name: "tumors-v1"})
	if err != nil {
		s.T.Fatal(err)
	}
	n, _, err := unstructured.NestedInt64(u.Object, "spec", "replicas")
	if err != nil {
		s.T.Fatal(err)
	}
	return n
}

func TestAConflictOfADeploymentStandsInThePlanAndApplyDoesWhatThatSays(t *testing.T) {
	s := newSite(t)
	s.Must(s.spec(1, nil))
	two := s.spec(1, func(d *deploymentSpec) { d.Replicas = 2 })
	if got := s.findings(two); len(got) > 0 {
		t.Errorf("nobody else is there, and the plan says %q", got)
	}

	t.Log("a field that somebody changed is taken back, as the plan's live_changed says")
	s.other("tumors-v1", `{replicas: 3}`)
	if got := s.findings(s.spec(1, nil)); len(got) > 0 {
		t.Errorf("it is taken back, and the plan says %q", got)
	}
	if o := s.Read(); len(o.Drift) != 1 || o.Drift[0].By != "other" || o.Drift[0].Path != "Deployment/tumors-v1:spec.replicas" {
		t.Errorf("drift %+v", o.Drift)
	}
	s.Must(s.spec(1, nil))
	if n := s.replicas(); n != 1 {
		t.Errorf("it has %d replicas", n)
	}

	t.Log("one that somebody has with the same value is theirs, too, and no other value is put there")
	image, _, _ := strings.Cut(strings.TrimPrefix(s.image(1), "oci://"), "!")
	s.other("tumors-v1", fmt.Sprintf(`{replicas: 1, template: {spec: {containers: [{name: server, image: %q}]}}}`, image))
	if o := s.Read(); len(o.Drift) > 0 {
		t.Errorf("drift %+v", o.Drift)
	}
	if got := s.findings(s.spec(1, nil)); len(got) > 0 {
		t.Errorf("nothing of theirs would change, and the plan says %q", got)
	}
	const replicas = `Deployment %s/tumors-v1: spec.replicas belongs to "other"; leave it to them, or take it over with kubernetes { force = ["Deployment/tumors-v1:spec.replicas"] }`
	want := fmt.Sprintf(replicas, s.Namespace)
	if got := s.findings(two); len(got) != 1 || got[0] != "error "+want+"." {
		t.Errorf("the plan says %q", got)
	}
	_, err := s.Apply(t.Context(), two, false)
	var foreign *kube.ForeignError
	if !errors.As(err, &foreign) || !strings.HasSuffix(err.Error(), want) || s.replicas() != 1 {
		t.Errorf("apply: %v; %d replicas", err, s.replicas())
	}

	t.Log("the image, as far as it is known")
	other := s.spec(1, func(d *deploymentSpec) { d.Image = s.image(2) })
	const path = `spec.template.spec.containers[name="server"].image`
	if got := s.findings(other); len(got) != 1 || !strings.HasPrefix(got[0], "error ") || !strings.Contains(got[0], path+` belongs to "other"`) {
		t.Errorf("the plan says %q", got)
	}
	other.Image = "127.0.0.1:1/nowhere:latest"
	if got := s.findings(other); len(got) != 1 || !strings.HasPrefix(got[0], "warning ") || !strings.Contains(got[0], path+` belongs to "other"`) {
		t.Errorf("the plan says %q", got)
	}

	t.Log("taken where the block says so")
	two.Kubernetes = &serverSettings{Force: []string{"Deployment/tumors-v1:spec.replicas"}}
	if got := s.findings(two); len(got) > 0 {
		t.Errorf("it is to be taken, and the plan says %q", got)
	}
	s.Must(two)
	if n := s.replicas(); n != 2 {
		t.Errorf("it has %d replicas", n)
	}
	two.Kubernetes.Force = []string{"Deployment/tumor-v1:spec.replicas"}
	if got := s.findings(two); len(got) != 1 || !strings.Contains(got[0], "names no object of this deployment") {
		t.Errorf("the plan says %q", got)
	}

	t.Log("what an autoscaler owns is no conflict, nor what it leaves behind")
	scaled := s.spec(1, func(d *deploymentSpec) {
		d.Scale = &config.Scale{Min: 1, Max: 4, Metric: "cpu", Target: 80}
		d.Resources = &config.ServerUse{CPU: "10m"}
	})
	s.Must(scaled)
	s.Kubectl("", "patch", "deployment", "tumors-v1", "--subresource=scale", "--field-manager=kube-controller-manager", "--type=merge", "-p", `{"spec":{"replicas":3}}`)
	if got := s.findings(scaled); len(got) > 0 || len(s.Read().Drift) > 0 {
		t.Errorf("the plan says %q, drift %+v", got, s.Read().Drift)
	}
	if got := s.findings(s.spec(1, nil)); len(got) > 0 {
		t.Errorf("without the autoscaler the plan says %q", got)
	}
	s.Must(s.spec(1, nil))
	if n := s.replicas(); n != 1 {
		t.Errorf("it has %d replicas", n)
	}
}
