// Package all is the readable list of providers that this program has. A new
// provider is one folder and one line here.
package all

import (
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/kserve"
	"github.com/continuo-ml/continuo/providers/kubeflow"
	"github.com/continuo-ml/continuo/providers/kubernetes"
	"github.com/continuo-ml/continuo/providers/local"
	"github.com/continuo-ml/continuo/providers/oci"
)

// Elsewhere names the providers that this program does not have, and whose
// blocks may stand in the files all the same: one project runs on a laptop and
// on a cluster.
func Elsewhere() []string {
	return []string{"prometheus"}
}

// Definitions lists the providers.
func Definitions() []providers.Definition {
	return []providers.Definition{
		kserve.New(),
		kubeflow.New(),
		kubernetes.New(),
		local.New(),
		oci.New(),
	}
}
