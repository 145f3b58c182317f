package kube

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// builtin are kinds that every API server has had under these paths for years, as group/version and kind/resource; those after a bar
// belong to no namespace. They need no discovery, which is a request for each group and version in each command. A server without one of
// them answers 404 for its path, and that is a [MissingKindError] all the same.
var builtin = parseBuiltin(map[string]string{
	"v1": "ConfigMap/configmaps Event/events Pod/pods PersistentVolumeClaim/persistentvolumeclaims ReplicationController/replicationcontrollers " +
		"ResourceQuota/resourcequotas LimitRange/limitranges Secret/secrets Service/services ServiceAccount/serviceaccounts " +
		"| Namespace/namespaces Node/nodes PersistentVolume/persistentvolumes",
	"apps/v1":              "DaemonSet/daemonsets Deployment/deployments ReplicaSet/replicasets StatefulSet/statefulsets |",
	"batch/v1":             "CronJob/cronjobs Job/jobs |",
	"autoscaling/v2":       "HorizontalPodAutoscaler/horizontalpodautoscalers |",
	"networking.k8s.io/v1": "Ingress/ingresses NetworkPolicy/networkpolicies | IngressClass/ingressclasses",
	"policy/v1":            "PodDisruptionBudget/poddisruptionbudgets |",
	"rbac.authorization.k8s.io/v1": "Role/roles RoleBinding/rolebindings " +
		"| ClusterRole/clusterroles ClusterRoleBinding/clusterrolebindings",
})

func parseBuiltin(text map[string]string) map[schema.GroupVersionKind]mapping {
	out := map[schema.GroupVersionKind]mapping{}
	for version, list := range text {
		gv := schema.GroupVersion{Version: version}
		if group, v, ok := strings.Cut(version, "/"); ok {
			gv = schema.GroupVersion{Group: group, Version: v}
		}
		inside, outside, _ := strings.Cut(list, "|")
		for i, part := range []string{inside, outside} {
			for _, word := range strings.Fields(part) {
				kind, resource, _ := strings.Cut(word, "/")
				out[gv.WithKind(kind)] = mapping{resource: gv.WithResource(resource), namespaced: i == 0}
			}
		}
	}
	return out
}
