//go:build e2e

package kserve

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

func TestAConflictOfAnInferenceServiceStandsInThePlanAndApplyDoesWhatThatSays(t *testing.T) {
	s := newSite(t, "shared")
	s.Must(s.format(1, nil))
	findings := func(spec deploymentSpec) string {
		t.Helper()
		req := s.Request("", false)
		got, err := s.d.Preflight(t.Context(), providers.PreflightRequest{Address: req.Address, Action: resource.Update, Prior: req.Prior, State: req.State,
			Spec: providertest.Encoded(t, spec), Look: &providers.Look{}})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range got {
			if strings.Contains(f.Detail, "belongs to") {
				out = append(out, fmt.Sprintf("warning=%v %s", f.Warning, f.Detail))
			}
		}
		return strings.Join(out, "\n")
	}
	two := s.format(1, func(d *deploymentSpec) { d.Replicas = 2 })
	if got := findings(two); got != "" {
		t.Errorf("nobody else is there, and the plan says %q", got)
	}
	s.Kubectl(`{apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, metadata: {name: shared-v1}, spec: {predictor: {minReplicas: 1}}}`,
		"apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-")
	if o := s.Read(); len(o.Drift) > 0 {
		t.Errorf("drift %+v", o.Drift)
	}
	want := fmt.Sprintf(`InferenceService %s/shared-v1: spec.predictor.minReplicas belongs to "other"; leave it to them, or take it over with kserve { force = ["InferenceService/shared-v1:spec.predictor.minReplicas"] }`, s.Namespace)
	if got := findings(two); got != "warning=false "+want+"." {
		t.Errorf("the plan says %q", got)
	}
	_, err := s.Apply(t.Context(), two, false)
	var foreign *kube.ForeignError
	if !errors.As(err, &foreign) || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("apply: %v", err)
	}
	two.KServe.Force = []string{"InferenceService/shared-v1:spec.predictor.minReplicas"}
	if got := findings(two); got != "" {
		t.Errorf("it is to be taken, and the plan says %q", got)
	}
	s.Must(two)
	s.Remove()
}
