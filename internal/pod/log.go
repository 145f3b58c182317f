package pod

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/internal/runner"
)

const (
	// frame begins a line that is ours. A line of the command that begins with its first byte gets that byte twice.
	first = '\x1e'
	frame = "\x1eml "
	// patience is how long a line of progress waits for the command to end its own line.
	patience = time.Second
	// maxWaiting bounds the lines of progress that wait.
	maxWaiting = 1000
	// maxLine is the longest line in bytes that SplitLog hands on whole.
	maxLine = 1 << 20
)

// logWriter writes the command's log as it is, with lines of progress between its lines. It is safe for concurrent use.
type logWriter struct {
	mu      sync.Mutex
	w       io.Writer
	inside  bool // of a line that has not ended
	waiting [][]byte
	since   time.Time // when the first began to wait
}

// Write implements io.Writer for the command's log.
func (l *logWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out bytes.Buffer
	for rest := p; len(rest) > 0; {
		if !l.inside && rest[0] == first {
			out.WriteByte(first)
		}
		i := bytes.IndexByte(rest, '\n') + 1
		if l.inside = i == 0; l.inside {
			i = len(rest)
		}
		out.Write(rest[:i])
		rest = rest[i:]
		if !l.inside {
			l.drain(&out)
		}
	}
	if _, err := l.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// progress writes a line of progress. A command that draws a bar and ends no line gets a line break after a second.
func (l *logWriter) progress(p runner.Progress) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.since = time.Now()
	}
	l.waiting = append(l.waiting, b)
	if n := len(l.waiting) - maxWaiting; n > 0 {
		l.waiting = l.waiting[n:]
	}
	if l.inside && time.Since(l.since) < patience {
		return nil
	}
	return l.flush()
}

// finish writes what still waits.
func (l *logWriter) finish() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return nil
	}
	return l.flush()
}

func (l *logWriter) flush() error {
	var out bytes.Buffer
	if l.inside {
		out.WriteByte('\n')
		l.inside = false
	}
	l.drain(&out)
	_, err := l.w.Write(out.Bytes())
	return err
}

func (l *logWriter) drain(out *bytes.Buffer) {
	for _, b := range l.waiting {
		out.WriteString(frame)
		out.Write(b)
		out.WriteByte('\n')
	}
	l.waiting = nil
}

// ParseLine takes one line of a pod's log, without its line break: a line of progress, or else the command's own text.
func ParseLine(line string) (text string, p *runner.Progress) {
	if body, ok := strings.CutPrefix(line, frame); ok {
		p = &runner.Progress{}
		if err := json.Unmarshal([]byte(body), p); err == nil {
			return "", p
		}
		return line, nil
	}
	if strings.HasPrefix(line, "\x1e\x1e") {
		return line[1:], nil
	}
	return line, nil
}

// SplitLog reads a pod's log to its end. onLine gets the command's lines without their breaks, those longer than 1 MiB in
// pieces; onProgress, which may be nil, the lines of progress.
func SplitLog(r io.Reader, onLine func(string), onProgress func(runner.Progress)) error {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		b, err := in.ReadSlice('\n')
		if len(b) > 0 {
			text, p := ParseLine(strings.TrimSuffix(string(b), "\n"))
			switch {
			case p == nil:
				onLine(text)
			case onProgress != nil:
				onProgress(*p)
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
