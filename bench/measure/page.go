package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// row is one line of a table.
type row struct {
	what    string
	ours    string // the figure of Continuo
	beside  string // the figure of what stands beside it
	ratio   string
	targets []target
	others  float64 // cores used by others meanwhile; NaN where unknown
}

// target is what a figure ought to be, and whether it is.
type target struct {
	text string
	met  bool
}

// missing is a row that says why there is no figure.
func missing(what, why string) row {
	return row{what: what, ours: "not measured: " + why, others: math.NaN()}
}

func render(rows []row, header string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", header)
	b.WriteString("| what | Continuo | beside it | ratio | target | cores used by others |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- |\n")
	for _, r := range rows {
		others := "–"
		if !math.IsNaN(r.others) {
			others = fmt.Sprintf("%.2f", r.others)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n",
			cell(r.what), cell(r.ours), cell(r.beside), cell(r.ratio), cell(verdicts(r.targets)), others)
	}
	return b.String()
}

func verdicts(all []target) string {
	parts := make([]string, len(all))
	for i, t := range all {
		parts[i] = t.text + ": **not met**"
		if t.met {
			parts[i] = t.text + ": met"
		}
	}
	return strings.Join(parts, "; ")
}

// cell keeps text from ending its cell or its line.
func cell(s string) string {
	if s == "" {
		return "–"
	}
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}

// seconds of a process with its CPU time and memory, for one cell.
func (r result) String() string {
	s := fmt.Sprintf("%.2f s (%.2f s CPU", r.wall, r.cpu)
	if !math.IsNaN(r.peakMB) {
		s += fmt.Sprintf(", %.0f MB", r.peakMB)
	}
	return s + ")"
}

// update replaces what stands between the markers of a section in the page.
// A page without them is an error, for a table must not be added in the wrong place.
func update(page, section, text string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	next, err := replace(string(old), section, text)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(filepath.Clean(page), []byte(next), 0o644)
}

func replace(page, section, text string) (string, error) {
	from, to := "<!-- measured: "+section+" -->\n", "<!-- end: "+section+" -->\n"
	head, rest, ok := strings.Cut(page, from)
	if !ok {
		return "", fmt.Errorf("no line %q: put it back where the table belongs", strings.TrimSpace(from))
	}
	_, foot, ok := strings.Cut(rest, to)
	if !ok {
		return "", fmt.Errorf("no line %q after %q: put it back below the table", strings.TrimSpace(to), strings.TrimSpace(from))
	}
	return head + from + text + to + foot, nil
}
