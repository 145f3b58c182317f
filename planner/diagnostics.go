package planner

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"github.com/continuo-ml/continuo/config"
)

func diagnostic(blk *config.Block, summary, detail string) Diagnostic {
	return Diagnostic{Severity: "error", Summary: summary, Detail: detail, Address: blk.Addr.String(), File: blk.Range.Filename, Line: blk.Range.Start.Line}
}

// diagnostics turns HCL's into the plan's; errors are left out when a closed
// gate explains them already.
func diagnostics(blk *config.Block, diags hcl.Diagnostics, errs bool) []Diagnostic {
	var out []Diagnostic
	for _, hd := range diags {
		if hd.Severity == hcl.DiagError && !errs {
			continue
		}
		d := Diagnostic{Severity: "error", Summary: hd.Summary, Detail: hd.Detail, Address: blk.Addr.String(), File: blk.Range.Filename, Line: blk.Range.Start.Line}
		if hd.Severity == hcl.DiagWarning {
			d.Severity = "warning"
		}
		if hd.Subject != nil {
			d.File, d.Line = hd.Subject.Filename, hd.Subject.Start.Line
		}
		out = append(out, d)
	}
	return out
}

func firstError(ds []Diagnostic) error {
	for _, d := range ds {
		if d.Severity == "error" {
			return fmt.Errorf("%s: %s", d.Summary, d.Detail)
		}
	}
	return nil
}
