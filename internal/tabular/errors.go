package tabular

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrChanged is wrapped by the error of a read whose file changed under it. Reading again may succeed.
var ErrChanged = errors.New("file changed while it was read")

// ErrLimit is wrapped by every error that a field of Limits caused.
var ErrLimit = errors.New("limit exceeded")

// Error is a place in a file and what is wrong there.
type Error struct {
	File   string // path as given
	Row    int64  // 1-based data row; 0 when the whole file is meant
	Line   int64  // 1-based physical line of a text file; 0 when it does not apply
	Column string // column name; empty when the whole row is meant
	Err    error  // cause and next step
}

// Error renders `data/x.csv: row 12 (line 13), column "age": …`.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	sep := ": "
	if e.Row > 0 {
		fmt.Fprintf(&b, ": row %d", e.Row)
		sep = ", "
	}
	if e.Line > 0 {
		if e.Row > 0 {
			fmt.Fprintf(&b, " (line %d)", e.Line)
		} else {
			fmt.Fprintf(&b, ": line %d", e.Line)
		}
		sep = ", "
	}
	if e.Column != "" {
		b.WriteString(sep + "column " + clip(e.Column))
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// limitf is an error that a limit caused; it names the limit so that a user knows what to raise.
func limitf(field, format string, args ...any) error {
	return fmt.Errorf("%s (limit %s): %w", fmt.Sprintf(format, args...), field, ErrLimit)
}

// clip quotes s for a message and cuts it to 80 bytes, so that hostile data cannot flood a terminal or send it escape codes.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}
