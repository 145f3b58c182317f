package planner

import (
	"fmt"
	"strings"

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

// aliases refuses files without a provider configuration that a record still
// needs: nobody else knows where its object is.
func (b *builder) aliases() {
	users := map[string][]string{}
	for _, a := range sortedKeys(b.records) {
		name := b.records[a].Provider
		if _, ok := b.in.Project.Providers[name]; !ok && strings.Contains(name, ".") {
			users[name] = append(users[name], a.String())
		}
	}
	for _, name := range sortedStrings(users) {
		kind, alias, _ := strings.Cut(name, ".")
		b.plan.Diagnostics = append(b.plan.Diagnostics, Diagnostic{
			Severity: "error", Summary: "A provider configuration is still in use", Address: users[name][0],
			Detail: fmt.Sprintf("No file configures provider %q with alias %q any more, but what it made is still there: %s. Put the provider block back, destroy or move those blocks, and remove it then.", kind, alias, strings.Join(users[name], ", ")),
		})
	}
}

func firstError(ds []Diagnostic) error {
	for _, d := range ds {
		if d.Severity == "error" {
			return fmt.Errorf("%s: %s", d.Summary, d.Detail)
		}
	}
	return nil
}
