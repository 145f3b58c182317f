package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// span is a piece of a line in one tone.
type span struct {
	text string
	tone Tone
}

// out collects lines and writes them in one go.
type out struct {
	s Style
	b bytes.Buffer
}

// line writes the spans and a newline. Everything is cleaned here, whoever made
// it, and trailing blanks are dropped.
func (o *out) line(spans ...span) {
	for n := len(spans); n > 0; n = len(spans) {
		last := &spans[n-1]
		if last.text = strings.TrimRight(last.text, " "); last.text != "" {
			break
		}
		spans = spans[:n-1]
	}
	for _, sp := range spans {
		o.b.WriteString(o.s.Paint(sp.tone, sp.text))
	}
	o.b.WriteByte('\n')
}

// wrapped writes text under the hanging indent, broken at blanks.
func (o *out) wrapped(indent int, tone Tone, text string) {
	pad := strings.Repeat(" ", indent)
	for _, par := range strings.Split(text, "\n") {
		for _, l := range o.s.wrap(par, o.s.room(indent)) {
			o.line(span{pad, Plain}, span{l, tone})
		}
	}
}

// Done writes that something was done, and what comes next, under a check mark.
// On a terminal it is wrapped; elsewhere it is one line, so that it can be searched.
func Done(w io.Writer, s Style, text string) error {
	return message(w, s, span{s.pick("✓ ", "ok "), Good}, text)
}

// Say writes text for people as [Done] does, without a mark.
func Say(w io.Writer, s Style, text string) error { return message(w, s, span{}, text) }

// Failure writes an error that has no place in a file.
func Failure(w io.Writer, s Style, text string) error {
	return message(w, s, span{"Error: ", Bad}, text)
}

func message(w io.Writer, s Style, mark span, text string) error {
	if !s.Live {
		s.Width = 0
	}
	o := &out{s: s}
	indent := textWidth(s.Clean(mark.text))
	for i, l := range strings.Split(text, "\n") {
		for j, part := range s.wrap(l, s.room(indent)) {
			if i+j > 0 {
				mark = span{strings.Repeat(" ", indent), Plain}
			}
			o.line(mark, span{part, Plain})
		}
	}
	return o.writeTo(w)
}

func (o *out) writeTo(w io.Writer) error {
	if _, err := w.Write(o.b.Bytes()); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// room is how many columns are left after used ones; 0 = without limit.
func (s Style) room(used int) int {
	if s.Width <= 0 {
		return 0
	}
	return max(s.Width-used, 20)
}

// Clean makes text from outside safe to print on one line: control characters,
// bidirectional overrides, invisible characters and broken UTF-8 are shown as
// escapes, so that a name can neither move the cursor nor pass for another.
// Without Unicode, symbols become their ASCII form and all else an escape.
func (s Style) Clean(text string) string {
	if s.isClean(text) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		case r < utf8.RuneSelf || s.Unicode:
			b.WriteRune(r)
		default:
			b.WriteString(ascii(r))
		}
		i += n
	}
	return b.String()
}

func (s Style) isClean(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return s.Unicode && cleanUnicode(text)
		}
	}
	return true
}

func cleanUnicode(text string) bool {
	for i, r := range text {
		if !unicode.IsPrint(r) || (r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD")) {
			return false
		}
	}
	return true
}

// ascii is the ASCII form of a symbol that reports use, or an escape.
func ascii(r rune) string {
	switch r {
	case '→':
		return "->"
	case '←':
		return "<-"
	case '≥':
		return ">="
	case '≤':
		return "<="
	case '≠':
		return "!="
	case '≈':
		return "~"
	case '…':
		return "..."
	case '–', '—':
		return "-"
	case '×':
		return "x"
	case '·':
		return "."
	case '‘', '’':
		return "'"
	case '“', '”':
		return `"`
	}
	return fmt.Sprintf(`\u{%x}`, r)
}

// textWidth is the number of columns that text takes: East Asian and emoji runes
// count two, combining marks none. text is clean already.
func textWidth(text string) int {
	n := 0
	for _, r := range text {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r < 0x1100:
		return 1
	case wide(r):
		return 2
	}
	return 1
}

// wide tells the blocks that Unicode Annex 11 lists as wide, roughly: the
// blocks, not each code point, and the one symbol that plans use.
func wide(r rune) bool {
	switch {
	case r <= 0x115F, r == '⛔',
		r >= 0x2E80 && r <= 0xA4CF && r != 0x303F,
		r >= 0xAC00 && r <= 0xD7A3,
		r >= 0xF900 && r <= 0xFAFF,
		r >= 0xFE30 && r <= 0xFE6F,
		r >= 0xFF00 && r <= 0xFF60,
		r >= 0xFFE0 && r <= 0xFFE6,
		r >= 0x1F300 && r <= 0x1F64F,
		r >= 0x1F680 && r <= 0x1F6FF,
		r >= 0x1F900 && r <= 0x1F9FF,
		r >= 0x20000 && r <= 0x3FFFD:
		return true
	}
	return false
}

// cut cleans text and shortens it to n columns, with an ellipsis. n <= 0 means
// without limit.
func (s Style) cut(text string, n int) string {
	text = s.Clean(text)
	if n <= 0 || textWidth(text) <= n {
		return text
	}
	dots := s.pick("…", "...")
	left := n - textWidth(dots)
	for i, r := range text {
		if left -= runeWidth(r); left < 0 {
			return text[:i] + dots
		}
	}
	return text
}

// pad cleans text and fills it with blanks to n columns.
func (s Style) pad(text string, n int) string {
	text = s.Clean(text)
	if w := textWidth(text); w < n {
		return text + strings.Repeat(" ", n-w)
	}
	return text
}

// wrap cleans text and breaks it at blanks into lines of at most n columns; a
// longer word stays whole, so that a path can be copied.
func (s Style) wrap(text string, n int) []string {
	text = s.Clean(text)
	if n <= 0 || textWidth(text) <= n {
		return []string{text}
	}
	var lines []string
	cur, used := "", 0
	for _, word := range strings.Fields(text) {
		w := textWidth(word)
		if used > 0 && used+1+w > n {
			lines = append(lines, cur)
			cur, used = "", 0
		}
		if used > 0 {
			cur += " "
			used++
		}
		cur += word
		used += w
	}
	return append(lines, cur)
}
