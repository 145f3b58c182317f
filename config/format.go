package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/continuo-ml/continuo/config/internal/syntax"
)

// Format returns src in the canonical layout: indentation, spaces and aligned
// equals signs. It changes no meaning. Text that does not parse comes back with
// diagnostics and as it was.
func Format(src []byte, filename string) ([]byte, hcl.Diagnostics) {
	if diags := syntax.Scan(src, filename, limits); diags.HasErrors() {
		return src, diags
	}
	if _, diags := hclsyntax.ParseConfig(src, filename, hcl.InitialPos); diags.HasErrors() {
		return src, diags
	}
	return hclwrite.Format(src), nil
}
