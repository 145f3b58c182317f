package kserve

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
)

// featuresConfig holds what Knative is told to allow in pods.
const featuresConfig = "config-features"

// The features that matter here; Knative refuses what needs one that is not enabled.
const (
	featureInit         = "kubernetes.podspec-init-containers"
	featureNodeSelector = "kubernetes.podspec-nodeselector"
	featureTolerations  = "kubernetes.podspec-tolerations"
)

// allowed reads what Knative allows; nil when that cannot be known.
func allowed(ctx context.Context, c *kube.Client, namespace string) (map[string]string, error) {
	u, err := c.Get(ctx, kube.Ref{Version: gvkConfigMap.Version, Kind: gvkConfigMap.Kind, Namespace: namespace, Name: featuresConfig})
	var denied *kube.ForbiddenError
	switch {
	case errors.As(err, &denied), errors.Is(err, kube.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read Knative's configuration: %w", err)
	}
	data, _, err := unstructured.NestedStringMap(u.Object, "data")
	if err != nil {
		return nil, fmt.Errorf("read Knative's configuration: %w", err)
	}
	if data == nil {
		data = map[string]string{} // it says nothing, and Knative's defaults hold
	}
	return data, nil
}

// refused lists what the deployment says and Knative would not take, so that a plan can say it.
func (a abilities) refused(n nested) []error {
	var out []error
	for _, f := range []struct {
		asked       bool
		field, need string
	}{
		{len(n.NodeSelector) > 0, "kserve.node_selector", featureNodeSelector},
		{len(n.Tolerations) > 0, "kserve.toleration", featureTolerations},
	} {
		if f.asked {
			if err := a.lacks(f.field, f.need); err != nil {
				out = append(out, err)
			}
		}
	}
	return out
}

// lacks errors when Knative is known not to allow something.
func (a abilities) lacks(field, feature string) error {
	if a.Features == nil || a.Features[feature] == "enabled" || a.Features[feature] == "allowed" {
		return nil
	}
	return fmt.Errorf("%s: Knative refuses it; set %s to enabled in its ConfigMap %s, remove it, or use deployment_mode = \"Standard\"", field, feature, featuresConfig)
}
