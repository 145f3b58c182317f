package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/resource"
)

// Keyless stands for [Options].Hash where the key of sensitive values is not at
// hand: a plan then takes those that are recorded as unchanged, and says so.
func Keyless(string) string { return "?" }

// uncompared is the part of a sensitive value that nobody here can compare.
var uncompared = quote("hash:" + Keyless(""))

// asHashed takes sensitive values that cannot be compared as they were recorded.
func (b *builder) asHashed(s *subject) {
	for _, pair := range [][2]resource.Parts{{s.vals.inputs, s.rec.Parts}, {s.vals.policy, s.rec.Policy}, {s.vals.judge, s.rec.Judge}} {
		now, was := pair[0], pair[1]
		for path, text := range now {
			if text == uncompared && isHash(was[path]) {
				now[path] = was[path]
				b.uncompared = append(b.uncompared, s.blk.Addr.String()+" "+path)
			}
		}
	}
}

// sayUncompared names the sensitive values that were taken as unchanged.
func (b *builder) sayUncompared() {
	if len(b.uncompared) == 0 {
		return
	}
	slices.Sort(b.uncompared)
	b.plan.Diagnostics = append(b.plan.Diagnostics, Diagnostic{
		Severity: "warning", Summary: "Sensitive values were not compared",
		Detail: fmt.Sprintf("The key that tells whether they changed stays where the state is, so they count as unchanged here: %s.", strings.Join(slices.Compact(b.uncompared), ", ")),
	})
}
