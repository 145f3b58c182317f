package report

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"

	"github.com/continuo-ml/continuo/resource"
)

// Style says how text is rendered. The zero Style is plain ASCII without colour
// and without a limit on the width: what a log file takes.
type Style struct {
	Color   bool // ANSI colours
	Unicode bool // symbols beyond ASCII
	Width   int  // columns; 0 = lines are neither wrapped nor cut
	Verbose bool // every attribute, nothing folded or cut
	Live    bool // a terminal on which lines can be drawn again
	NoHint  bool // leave out what to do next: the caller asks for approval itself
}

// pipeWidth is the width of text that does not go to a terminal: wide enough
// for a log viewer, narrow enough to read.
const pipeWidth = 120

// DetectStyle finds the style for f: colours only on a terminal, unless noColor,
// NO_COLOR or TERM=dumb forbid them or CLICOLOR_FORCE asks for them; Unicode
// only in a UTF-8 locale. env reads the environment, such as os.Getenv. A nil f
// counts as a pipe.
func DetectStyle(f *os.File, noColor bool, env func(string) string) Style {
	tty := f != nil && term.IsTerminal(int(f.Fd()))
	s := styleFor(tty, noColor, env)
	if !tty {
		return s
	}
	if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
		s.Width = w
	}
	return s
}

func styleFor(tty, noColor bool, env func(string) string) Style {
	dumb := env("TERM") == "dumb"
	force := env("CLICOLOR_FORCE")
	s := Style{
		Unicode: utf8Locale(env),
		Live:    tty && !dumb,
		Color:   (tty && !dumb) || (force != "" && force != "0"),
		Width:   pipeWidth,
	}
	if noColor || env("NO_COLOR") != "" {
		s.Color = false
	}
	if tty {
		s.Width = 80
	}
	if n, err := strconv.Atoi(env("COLUMNS")); err == nil && n > 0 {
		s.Width = n
	}
	return s
}

// utf8Locale follows POSIX: LC_ALL, then LC_CTYPE, then LANG; the first that is
// set decides. Nothing set is what a container has, whose logs are read as UTF-8.
func utf8Locale(env func(string) string) bool {
	for _, k := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := env(k); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return true
}

// Tone is what a piece of text means; a style turns it into a colour.
type Tone int

// The tones.
const (
	Plain  Tone = iota
	Strong      // headings and addresses
	Faint       // what may be skipped
	Good        // added, passed
	Change      // changed
	Bad         // removed, failed, blocked
	Active      // runs
	Note        // moved, imported, warnings of no consequence
)

func (t Tone) code() string {
	switch t {
	case Strong:
		return "1"
	case Faint:
		return "2"
	case Good:
		return "32"
	case Change:
		return "33"
	case Bad:
		return "31"
	case Active:
		return "36"
	case Note:
		return "35"
	case Plain:
	}
	return ""
}

// Paint renders text, cleaned, in a tone.
func (s Style) Paint(t Tone, text string) string {
	text = s.Clean(text)
	if c := t.code(); s.Color && c != "" && text != "" {
		return "\x1b[" + c + "m" + text + "\x1b[0m"
	}
	return text
}

// pick chooses between a symbol and its ASCII form.
func (s Style) pick(unicode, ascii string) string {
	if s.Unicode {
		return unicode
	}
	return ascii
}

// sep stands between facts on one line.
func (s Style) sep() string { return s.pick(" · ", ", ") }

// symbol is the sign of an action, and its tone.
func (s Style) symbol(a resource.Action) (string, Tone) {
	switch a {
	case resource.Create:
		return "+", Good
	case resource.Update:
		return "~", Change
	case resource.Replace:
		return "-/+", Change
	case resource.Delete:
		return "-", Bad
	case resource.RunIt:
		return s.pick("▶", ">"), Active
	case resource.Blocked:
		return s.pick("⛔", "!"), Bad
	case resource.Move:
		return s.pick("→", "->"), Note
	case resource.Import:
		return s.pick("←", "<-"), Note
	case resource.Forget:
		return s.pick("×", "x"), Note
	case resource.Noop:
	}
	return s.pick("·", "."), Faint
}
