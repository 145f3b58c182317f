package rollout

import (
	"fmt"
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

// Named takes NAMESPACE/NAME or NAME, as it is given for an import, apart. The namespace must be the block's; block is the name of the nested
// block that says so.
func Named(id, block, namespace string) (_, name string, err error) {
	given, name, ok := strings.Cut(id, "/")
	if !ok {
		return namespace, id, nil
	}
	if given != namespace {
		return "", "", fmt.Errorf("it is in namespace %s, and the block says %s; set %s { namespace = %q }", given, namespace, block, given)
	}
	return namespace, name, nil
}
