package kserve

import (
	"errors"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
)

// byRevisions in kserve { canary } has Knative carry the requests: the versions are revisions of one InferenceService.
const byRevisions = "knative"

// unrevised errors when Knative carries the requests and something is asked for that it cannot do: it would be ignored.
func (s deploymentSpec) unrevised(n nested) error {
	if n.Canary != byRevisions {
		return nil
	}
	const instead = `; remove it, or set kserve { canary = "router" }`
	r := s.Rollout
	switch {
	case n.DeploymentMode == standard:
		return errors.New(`kserve.deployment_mode: canary = "knative" is Knative's own, and KServe ignores its percentage in mode Standard; remove one of them`)
	case r != nil && r.Strategy == gateway.Shadow:
		return errors.New("rollout.strategy: Knative mirrors nothing" + instead)
	case r != nil && r.Abort != nil:
		return errors.New("rollout.abort: Knative's ingress counts no requests by version for this program, so nothing could be judged" + instead)
	case s.Sink != nil:
		return errors.New("sink: Knative sends answers nowhere else" + instead)
	case s.Capture != nil && s.Capture.Enabled:
		return errors.New("capture: Knative keeps no requests" + instead)
	case s.Port != 0 && s.Port != 80:
		return errors.New("port: Knative gives a service port 80" + instead)
	case n.ServiceType != "" && n.ServiceType != string(corev1.ServiceTypeClusterIP):
		return errors.New("kserve.service_type: Knative's ingress takes the requests, also those from outside" + instead)
	case s.Transformer != nil || n.Transformer != nil:
		return errors.New("transformer: KServe gives each component a percentage of its own, so that a new transformer would call an old predictor" + instead)
	case n.Explainer != nil:
		return errors.New("kserve.explainer: KServe gives each component a percentage of its own, so that a new explainer would call an old predictor" + instead)
	case n.Graph != nil:
		return errors.New("kserve.graph: a graph would call whatever Knative sends it to" + instead)
	}
	return nil
}

// carriedBy is what stands before the versions when something of the cluster's carries the requests.
func carriedBy(f rollout.Front, canary string) rollout.Front {
	f.Carried, f.Single = canary != "", canary == bySpec || canary == byRevisions
	if canary == byRevisions {
		f.Entry = revisedEntry(f)
	}
	return f
}

// driftOfShare tells when somebody changed the share of the newest revision: what it should be follows from where the rollout is.
func driftOfShare(o rollout.Objects, u *unstructured.Unstructured) ([]kube.FieldChange, error) {
	live, err := rollout.LiveIn(o, u.GetName())
	if err != nil || u.GetKind() != api.Kind.Kind {
		return nil, err
	}
	want := whole
	switch version := u.GetLabels()[rollout.LabelVersion]; {
	case live.Current.Number == 0:
		return nil, nil // the first one has all requests by itself
	case live.Candidate != nil && version == strconv.Itoa(live.Candidate.Number):
		want = int64(live.Weight)
	case version != strconv.Itoa(live.Current.Number):
		want = 0
	}
	if percentOf(u) == want {
		return nil, nil
	}
	by := ""
	for _, m := range u.GetManagedFields() {
		if m.Manager != kube.FieldManager && m.FieldsV1 != nil && strings.Contains(string(m.FieldsV1.Raw), "f:"+sharePath[2]) {
			by = m.Manager
		}
	}
	return []kube.FieldChange{{Path: strings.Join(sharePath, "."), Old: strconv.FormatInt(want, 10), New: strconv.FormatInt(percentOf(u), 10), By: by}}, nil
}
