package config

import (
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/resource"
)

// bodyKey names a kind's body as one provider serves it.
type bodyKey struct{ kind, provider string }

// Body is the schema of what a block of the kind holds when the provider
// ("kubernetes", or "kubernetes.eu" for a configuration of it) serves it: the
// kind's own, and the nested block that this provider understands. Blocks of
// other providers may stand beside it and count for nothing.
func (p *Project) Body(kind *Kind, provider string) *resource.Schema {
	if s := p.bodies[bodyKey{kind.Name, providerName(provider)}]; s != nil {
		return s
	}
	return kind.body
}

// nest adds a provider's nested block to a kind's body.
func (p *Project) nest(kind *Kind, provider string, nested *resource.Schema) {
	s := *kind.body
	s.Blocks = append(slices.Clone(s.Blocks), resource.Block{Name: provider, Doc: nested.Doc, Schema: nested})
	slices.SortFunc(s.Blocks, func(a, b resource.Block) int { return strings.Compare(a.Name, b.Name) })
	if p.bodies == nil {
		p.bodies = map[bodyKey]*resource.Schema{}
	}
	p.bodies[bodyKey{kind.Name, provider}] = &s
}
