package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
)

// maxProgressLine is the longest line of a progress file in bytes that is looked at; a longer one counts as malformed.
const maxProgressLine = 64 << 10

// Progress is one line that the command appended to ML_PROGRESS.
type Progress struct {
	// Step and Of are how far it is; Of is 0 if the command did not say.
	Step float64 `json:"step"`
	Of   float64 `json:"of,omitempty"`
	// Values holds the line's other numbers, such as the loss.
	Values map[string]float64 `json:"values,omitempty"`
	// Text holds the line's strings.
	Text map[string]string `json:"text,omitempty"`
}

// ProgressReader reads a progress file while it grows. Lines that are no JSON object are counted and passed over: a broken
// progress bar is no reason to end a training.
type ProgressReader struct {
	path   string
	offset int64
	part   []byte // The beginning of a line whose end is not written yet.
	long   bool   // That line is too long already.

	Lines, Malformed int
}

// NewProgressReader reads the progress of the run in dir from its first line.
func NewProgressReader(dir string) (*ProgressReader, error) {
	f, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	return &ProgressReader{path: f.path(progressFile)}, nil
}

// Next calls on for every line that is new since the last call. A file that is not there has no lines.
func (r *ProgressReader) Next(on func(Progress)) error { return r.each(false, on) }

// each with last set also takes what stands behind the last line break.
func (r *ProgressReader) each(last bool, on func(Progress)) (err error) {
	file, err := os.OpenFile(r.path, os.O_RDONLY|nonBlock, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if info.Size() < r.offset { // Written anew.
		r.offset, r.part, r.long = 0, nil, false
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := file.ReadAt(buf, r.offset)
		r.offset += int64(n)
		r.take(buf[:n], on)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if last && (len(r.part) > 0 || r.long) {
		r.take([]byte{'\n'}, on)
	}
	return nil
}

func (r *ProgressReader) take(b []byte, on func(Progress)) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		end := i
		if i < 0 {
			end = len(b)
		}
		if len(r.part)+end > maxProgressLine {
			r.part, r.long = nil, true
		} else if !r.long {
			r.part = append(r.part, b[:end]...)
		}
		if i < 0 {
			return
		}
		r.line(on)
		b = b[i+1:]
	}
}

func (r *ProgressReader) line(on func(Progress)) {
	text := bytes.TrimSpace(r.part)
	long := r.long
	r.part, r.long = r.part[:0], false
	if len(text) == 0 && !long {
		return
	}
	r.Lines++
	p, ok := parseProgress(text)
	if long || !ok {
		r.Malformed++
		return
	}
	on(p)
}

func parseProgress(b []byte) (Progress, bool) {
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil || m == nil {
		return Progress{}, false
	}
	var p Progress
	for name, v := range m {
		switch v := v.(type) {
		case float64:
			switch name {
			case "step":
				p.Step = v
			case "of":
				p.Of = v
			default:
				if p.Values == nil {
					p.Values = map[string]float64{}
				}
				p.Values[name] = v
			}
		case string:
			if p.Text == nil {
				p.Text = map[string]string{}
			}
			p.Text[name] = v
		}
	}
	for _, name := range []string{"step", "of"} {
		if v, ok := m[name]; ok {
			if n, ok := v.(float64); !ok || n < 0 || math.IsInf(n, 0) {
				return Progress{}, false
			}
		}
	}
	return p, true
}
