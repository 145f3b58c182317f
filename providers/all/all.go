// Package all is the readable list of providers that this program has. A new
// provider is one folder and one line here.
package all

import (
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/local"
)

// Definitions lists the providers.
func Definitions() []providers.Definition {
	return []providers.Definition{
		local.New(),
	}
}
