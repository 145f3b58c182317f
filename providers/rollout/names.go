package rollout

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/resource"
)

// ObjectName names a deployment's objects: its address without the kind, as a DNS label of at most longest characters.
func ObjectName(a resource.Address, longest int) string {
	slug := strings.ReplaceAll("."+a.Slug(), ".deployment.", ".")
	name := strings.NewReplacer(".", "-", "_", "-", "~", "-").Replace(strings.Trim(slug, "."))
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		name = "ml-" + name
	}
	if len(name) > longest {
		name = strings.TrimRight(name[:longest-9], "-") + "-" + pods.Short(a.String())[:8]
	}
	return name
}

// PullSecrets names secrets as pods do.
func PullSecrets(names []string) []corev1.LocalObjectReference {
	var out []corev1.LocalObjectReference
	for _, n := range names {
		out = append(out, corev1.LocalObjectReference{Name: n})
	}
	return out
}

// PullAllowance is what fetching images and models may take, besides the server's own start.
const PullAllowance = 5 * time.Minute
