package site

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode"
)

// Limits of a log on a page.
const (
	LogLines    = 500      // that are shown
	maxLogLine  = 2000     // characters of one
	maxLogBytes = 64 << 10 // of a line, that are looked at
)

// ansi are the sequences by which programs colour their output and move the cursor.
var ansi = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]P^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])`)

// logLine makes a line of a command's output fit to be read: without colours and
// control characters, what a progress bar wrote last, and not too long.
func logLine(raw []byte) string {
	text := ansi.ReplaceAllString(strings.ToValidUTF8(string(raw), "\uFFFD"), "")
	text = strings.TrimRight(text, "\r")
	if i := strings.LastIndexByte(text, '\r'); i >= 0 {
		text = text[i+1:]
	}
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case unicode.Is(unicode.Cf, r): // invisible, or turns the direction of what follows
			return '\uFFFD'
		case unicode.IsControl(r):
			return -1
		}
		return r
	}, text)
	return cut(text, maxLogLine)
}

// logBuffer cuts a stream of output into lines and keeps the newest of them until
// somebody takes them. It is safe for concurrent use.
type logBuffer struct {
	mu      sync.Mutex
	lines   []string
	dropped int    // lines that nobody took in time
	part    []byte // of a line whose end is not written yet
	over    int    // bytes of it that are not kept
}

// Write implements io.Writer; it never fails.
func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(b)
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		room := min(len(line), maxLogBytes-len(l.part))
		l.part = append(l.part, line[:room]...)
		l.over += len(line) - room
		if ended {
			l.end()
		}
		b = rest
	}
	return n, nil
}

func (l *logBuffer) end() {
	line := logLine(l.part)
	if l.over > 0 {
		line += fmt.Sprintf(" (%d bytes more)", l.over)
	}
	l.part, l.over = l.part[:0], 0
	l.lines = append(l.lines, line)
	if len(l.lines) >= 2*LogLines {
		l.dropped += len(l.lines) - LogLines
		l.lines = append(l.lines[:0], l.lines[len(l.lines)-LogLines:]...)
	}
}

// take gives the lines since the last call, no more than are shown, and says how
// many came before them that nobody sees. all takes a line without an end, too.
func (l *logBuffer) take(all bool) (lines []string, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if all && (len(l.part) > 0 || l.over > 0) {
		l.end()
	}
	lines, dropped = l.lines, l.dropped
	if len(lines) > LogLines {
		dropped += len(lines) - LogLines
		lines = lines[len(lines)-LogLines:]
	}
	l.lines, l.dropped = nil, 0
	return lines, dropped
}
