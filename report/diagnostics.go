package report

import (
	"bytes"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// maxSnippet bounds the lines and the columns of source that a diagnostic shows.
const (
	maxSnippetLines   = 6
	maxSnippetColumns = 200
)

// Diagnostics writes diagnostics as people read them: summary, place, the source
// lines with carets under the culprit, the values in play, and what to do. HCL's
// own text writer is not used: without colour it marks nothing, and it prints
// source lines as they are, control characters included.
func Diagnostics(w io.Writer, diags hcl.Diagnostics, files map[string]*hcl.File, s Style) error {
	o := &out{s: s}
	for i, d := range diags {
		if d == nil {
			continue
		}
		if i > 0 {
			o.line()
		}
		o.diagnostic(d, files)
	}
	return o.writeTo(w)
}

func (o *out) diagnostic(d *hcl.Diagnostic, files map[string]*hcl.File) {
	title, tone := "Error", Bad
	if d.Severity == hcl.DiagWarning {
		title, tone = "Warning", Change
	}
	o.line(span{title, tone}, span{": " + d.Summary, Strong})
	if d.Subject != nil {
		where := fmt.Sprintf("  on %s line %d", d.Subject.Filename, d.Subject.Start.Line)
		f := files[d.Subject.Filename]
		if in := blockAt(f, d.Subject.Start.Byte); in != "" {
			where += ", in " + in
		}
		o.line(span{where, Faint})
		for _, l := range snippet(d, f) {
			o.source(l)
		}
	}
	if values := inPlay(d); len(values) > 0 {
		o.wrapped(2, Faint, "with "+strings.Join(values, ", "))
	}
	if d.Detail != "" {
		o.wrapped(2, Plain, d.Detail)
	}
}

// blockAt names the block around a place in a file, as HCL's own files know it.
func blockAt(f *hcl.File, offset int) string {
	if f == nil {
		return ""
	}
	if n, ok := f.Nav.(interface{ ContextString(offset int) string }); ok {
		return n.ContextString(offset)
	}
	return ""
}

// sourceLine is a line of source with the part that is marked, in bytes of text.
type sourceLine struct {
	number, from, to int
	text             string
}

// snippet cuts the marked lines out of the file; of a long range its first.
func snippet(d *hcl.Diagnostic, f *hcl.File) []sourceLine {
	if f == nil || len(f.Bytes) == 0 {
		return nil
	}
	src := f.Bytes
	from := min(max(d.Subject.Start.Byte, 0), len(src))
	to := min(max(d.Subject.End.Byte, from), len(src))
	start := bytes.LastIndexByte(src[:from], '\n') + 1
	var lines []sourceLine
	for n := d.Subject.Start.Line; len(lines) < maxSnippetLines; n++ {
		end := len(src)
		if i := bytes.IndexByte(src[start:], '\n'); i >= 0 {
			end = start + i
		}
		l := sourceLine{number: n, from: max(from-start, 0), to: min(to, end) - start, text: string(src[start:end])}
		if len(lines) > 0 { // further lines are marked from their first word
			l.from = len(l.text) - len(strings.TrimLeft(l.text, " \t"))
		}
		lines = append(lines, l.clipped())
		if end >= to || end+1 > len(src) {
			break
		}
		start = end + 1
	}
	return lines
}

// clipped keeps the part of a very long line that is marked.
func (l sourceLine) clipped() sourceLine {
	l.text = strings.TrimSuffix(l.text, "\r")
	if cut := l.from - maxSnippetColumns/2; cut > 0 && len(l.text) > maxSnippetColumns {
		for cut < len(l.text) && !utf8.RuneStart(l.text[cut]) {
			cut++
		}
		l.text, l.from, l.to = l.text[cut:], l.from-cut, l.to-cut
	}
	if len(l.text) > maxSnippetColumns {
		cut := maxSnippetColumns
		for cut > 0 && !utf8.RuneStart(l.text[cut]) {
			cut--
		}
		l.text = l.text[:cut]
	}
	l.from = min(max(l.from, 0), len(l.text))
	l.to = min(max(l.to, l.from), len(l.text))
	return l
}

// source prints a line and carets under its marked part. Tabs become blanks
// before anything is measured.
func (o *out) source(l sourceLine) {
	tidy := func(s string) string { return o.s.Clean(strings.ReplaceAll(s, "\t", "  ")) }
	before, marked, after := tidy(l.text[:l.from]), tidy(l.text[l.from:l.to]), tidy(l.text[l.to:])
	bar := o.s.pick(" │ ", " | ")
	number := fmt.Sprintf("%5d", l.number)
	o.line(span{number + bar, Faint}, span{before, Plain}, span{marked, Bad}, span{after, Plain})
	// A place between two runes, such as the end of a line, gets one caret too.
	carets := strings.Repeat("^", max(textWidth(marked), 1))
	o.line(span{strings.Repeat(" ", len(number)) + bar, Faint}, span{strings.Repeat(" ", textWidth(before)), Plain}, span{carets, Bad})
}

// inPlay lists the values that the failing expression refers to, as far as they
// are known and may be shown.
func inPlay(d *hcl.Diagnostic) []string {
	if d.Expression == nil || d.EvalContext == nil {
		return nil
	}
	found := map[string]string{}
	for _, t := range d.Expression.Variables() {
		v, diags := t.TraverseAbs(d.EvalContext)
		if name := traversalText(t); !diags.HasErrors() {
			if text := ctyText(v); text != "" {
				found[name] = name + " = " + text
			}
		}
	}
	out := make([]string, 0, len(found))
	for _, text := range found {
		out = append(out, text)
	}
	sort.Strings(out)
	return out
}

func traversalText(t hcl.Traversal) string {
	var b strings.Builder
	for _, step := range t {
		switch x := step.(type) {
		case hcl.TraverseRoot:
			b.WriteString(x.Name)
		case hcl.TraverseAttr:
			b.WriteString("." + x.Name)
		case hcl.TraverseIndex:
			b.WriteString("[" + ctyText(x.Key) + "]")
		}
	}
	return b.String()
}

// ctyText renders simple values, counts the elements of others, and says nothing
// of unknown or marked (sensitive) ones.
func ctyText(v cty.Value) string {
	switch {
	case v.IsMarked() || !v.IsKnown():
		return ""
	case v.IsNull():
		return "null"
	}
	switch t := v.Type(); {
	case t == cty.String:
		s := v.AsString()
		if len(s) > maxSnippetColumns {
			s = strings.ToValidUTF8(s[:maxSnippetColumns], "") + "…"
		}
		return quote(s)
	case t == cty.Bool:
		return strconv.FormatBool(v.True())
	case t == cty.Number:
		return v.AsBigFloat().Text('g', 10)
	case t.IsCollectionType() || t.IsTupleType():
		return fmt.Sprintf("%s with %s", t.FriendlyName(), plural(v.LengthInt(), "element"))
	case t.IsObjectType():
		return "object with " + plural(len(t.AttributeTypes()), "attribute")
	}
	return ""
}

type diagnosticDocument struct {
	Severity string         `json:"severity"`
	Summary  string         `json:"summary"`
	Detail   string         `json:"detail"`
	File     string         `json:"file,omitempty"`
	Line     int            `json:"line,omitempty"`
	Range    *rangeDocument `json:"range,omitempty"`
	Snippet  *snippetJSON   `json:"snippet,omitempty"`
}

type rangeDocument struct {
	Start posDocument `json:"start"`
	End   posDocument `json:"end"`
}

type posDocument struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

// snippetJSON is the source: In names the block around it, Start and End mark
// the culprit in bytes of the first line.
type snippetJSON struct {
	In    string `json:"in,omitempty"`
	Line  int    `json:"line"`
	Code  string `json:"code"`
	Start int    `json:"start"`
	End   int    `json:"end"`
}

// DiagnosticsJSON writes {"format_version", "valid", "diagnostics": […]}, one
// document on one line; valid says that none is an error.
func DiagnosticsJSON(w io.Writer, diags hcl.Diagnostics, files map[string]*hcl.File) error {
	docs := make([]diagnosticDocument, 0, len(diags))
	for _, d := range diags {
		if d == nil {
			continue
		}
		doc := diagnosticDocument{Severity: "error", Summary: d.Summary, Detail: d.Detail}
		if d.Severity == hcl.DiagWarning {
			doc.Severity = "warning"
		}
		if r := d.Subject; r != nil {
			doc.File, doc.Line = r.Filename, r.Start.Line
			doc.Range = &rangeDocument{posDocument(r.Start), posDocument(r.End)}
			f := files[r.Filename]
			if lines := snippet(d, f); len(lines) > 0 {
				code := make([]string, len(lines))
				for i, l := range lines {
					code[i] = l.text
				}
				doc.Snippet = &snippetJSON{In: blockAt(f, r.Start.Byte), Line: lines[0].number, Code: strings.Join(code, "\n"), Start: lines[0].from, End: lines[0].to}
			}
		}
		docs = append(docs, doc)
	}
	return writeJSON(w, map[string]any{"format_version": "1.0", "valid": !diags.HasErrors(), "diagnostics": docs})
}
