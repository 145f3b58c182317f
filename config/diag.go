package config

import (
	"fmt"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// errAt is an error diagnostic. Summaries are constant text, one line; what
// varies and what to do about it stands in the detail.
func errAt(rng hcl.Range, summary, detail string, args ...any) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(detail, args...), Subject: rng.Ptr()}
}

// warnAt is a warning diagnostic.
func warnAt(rng hcl.Range, summary, detail string, args ...any) *hcl.Diagnostic {
	d := errAt(rng, summary, detail, args...)
	d.Severity = hcl.DiagWarning
	return d
}

// didYouMean is a sentence that suggests the nearest of the names, or lists
// them when they are few, or "".
func didYouMean(given string, names []string) string {
	names = append([]string(nil), names...)
	sort.Strings(names)
	best, least := "", 3
	if len(given) > 3 {
		least = 1 + len(given)/3
	}
	for _, n := range names {
		if d := distance(given, n, least); d < least {
			best, least = n, d
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf(" Did you mean %q?", best)
	case len(names) > 0 && len(names) <= 12:
		return " There is: " + strings.Join(names, ", ") + "."
	}
	return ""
}

// distance is the Levenshtein distance of a and b, given up at most.
func distance(a, b string, most int) int {
	if len(a)-len(b) >= most || len(b)-len(a) >= most || len(a) > 100 {
		return most
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost = 1 + min(prev, row[j], row[j+1])
			}
			prev, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

// sortDiags orders diagnostics by place, so that equal input gives equal output.
func sortDiags(diags hcl.Diagnostics) {
	sort.SliceStable(diags, func(i, j int) bool {
		a, b := diags[i], diags[j]
		if a.Subject == nil || b.Subject == nil {
			return a.Subject == nil && b.Subject != nil
		}
		if a.Subject.Filename != b.Subject.Filename {
			return a.Subject.Filename < b.Subject.Filename
		}
		if a.Subject.Start.Byte != b.Subject.Start.Byte {
			return a.Subject.Start.Byte < b.Subject.Start.Byte
		}
		return a.Summary < b.Summary
	})
}
