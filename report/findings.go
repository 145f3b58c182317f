package report

import (
	"io"
	"strconv"
	"strings"

	"github.com/continuo-ml/continuo/resource"
)

// Findings writes all that a verdict rests on, the bad ones first.
func Findings(w io.Writer, verdict *resource.Verdict, s Style) error {
	s.Verbose = true
	o, v := &out{s: s}, &view{s: s}
	v.table(o, v.findingRows(resource.Address{}, verdict))
	return o.writeTo(w)
}

// findingRows shows what the verdict of a rests on, the bad ones first and whole,
// then warnings; good ones only where everything is asked for, or when nothing
// is bad. Of many it shows the first, and where all are.
func (v *view) findingRows(a resource.Address, w *resource.Verdict) []row {
	var bad, warned, good []row
	for _, f := range w.Findings {
		switch r := v.findingRow(f); {
		case f.Severity == "warn": // it does not hold, and closes nothing
			warned = append(warned, r)
		case f.OK:
			good = append(good, r)
		default:
			bad = append(bad, r)
		}
	}
	bad = append(bad, warned...)
	if len(bad) == 0 || v.s.Verbose {
		return append(bad, v.limited(good, maxChanges)...)
	}
	rows := v.limited(bad, maxChanges)
	if len(rows) < len(bad) {
		rows[maxChanges].value[0].text += "; ml show " + a.Arg() + " lists all"
	}
	return rows
}

func (v *view) findingRow(f resource.Finding) row {
	mark, tone := v.s.pick("✗", "x"), Bad
	switch {
	case f.Severity == "warn":
		mark, tone = "!", Change
	case f.OK:
		mark, tone = v.s.pick("✓", "ok"), Good
	}
	name := f.Path
	if name == "" {
		name = f.Name
	}
	return row{label: mark + " " + name, tone: tone, value: []span{{findingText(f), Plain}}, note: findingCount(f), long: findingCount(f) == "", lines: true}
}

// findingText says rule, value and limit where the message does not.
func findingText(f resource.Finding) string {
	text := f.Message
	if f.Rule != "" && !strings.Contains(strings.ReplaceAll(text, " ", "_"), f.Rule) {
		text = join(f.Rule, ": ", text)
	}
	if f.Value != nil && !says(text, *f.Value) {
		text = join(text, ": ", Number(*f.Value))
	}
	if f.Limit != nil && !says(text, *f.Limit) {
		text = join(text, ", ", "limit "+Number(*f.Limit))
	}
	return text
}

// says reports whether a text holds a number, here or with more digits.
func says(text string, n float64) bool {
	return strings.Contains(text, Number(n)) || strings.Contains(text, strconv.FormatFloat(n, 'g', 6, 64))
}

func findingCount(f resource.Finding) string {
	var parts []string
	if n := Count(int(f.Count)); f.Count > 0 && !strings.Contains(f.Message, n) {
		parts = append(parts, plural(int(f.Count), "time"))
	}
	if len(f.Samples) > 0 {
		parts = append(parts, "such as "+strings.Join(f.Samples[:min(len(f.Samples), 5)], ", "))
	}
	return strings.Join(parts, ", ")
}

func join(a, sep, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + sep + b
}
