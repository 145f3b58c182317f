// Package oci serves the kind package: it puts models and code into container images, without a container engine, and
// keeps them in a registry.
//
// An image is used by its digest; tags are aliases that move. The same files on the same base make the same digest on every
// machine, so an apply that finds nothing new sends nothing. A model whose format runs code when it is loaded goes into an image
// only where the block trusts it. Only a block with a Dockerfile runs anything of its own, through docker or buildctl, and only when it
// is applied. What is deleted are tags; images stay, since others may use them by their digest.
package oci

import (
	"context"
	"fmt"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
)

// settings is the `provider "oci"` block.
type settings struct {
	Insecure []string `ml:"insecure" doc:"Hosts, with or without a port, that may be spoken to without TLS. Loopback and private addresses may anyway."`
	Platform string   `ml:"platform,default=linux/amd64" doc:"Platform of images whose block names none."`
}

// New describes the provider.
func New() providers.Definition {
	return providers.Definition{
		Name:    "oci",
		Doc:     "Builds container images without a container engine and keeps them in a registry. Credentials are those of `docker login` or of its credential helpers.",
		Config:  settings{},
		Kinds:   []string{"package"},
		Connect: connect,
	}
}

func connect(_ context.Context, env providers.Env, config cty.Value) (*providers.Provider, error) {
	s := settings{Platform: oci.DefaultPlatform}
	if config != cty.NilVal && len(config.Type().AttributeTypes()) > 0 {
		if err := resource.Decode(config, &s); err != nil {
			return nil, fmt.Errorf("provider oci: %w", err)
		}
	}
	w, err := runs.NewWorkspace(env, 0)
	if err != nil {
		return nil, fmt.Errorf("provider oci: %w", err)
	}
	p := &pack{
		w: w, platform: s.Platform, client: oci.New(oci.Options{Insecure: s.Insecure}),
		// A plan had better say soon that it cannot see the registry.
		look: oci.New(oci.Options{Insecure: s.Insecure, Attempts: 3}),
	}
	return &providers.Provider{
		Name:    "oci",
		Drivers: map[string]providers.Driver{"package": providers.For(p)},
		Close:   w.Close,
	}, nil
}
