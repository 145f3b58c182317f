// Package windows keeps what a monitor found in its last windows, for those who
// want to see how a signal came to where it stands.
//
// The verdict itself is in the state; this is its story, and nothing is decided
// by it. So it lies in files beside the state, one for each signal, and is
// bounded: [Append] adds to the newest windows and lets the oldest go, [Read]
// gives them back. A file that is lost costs a chart. [Keeps] bounds how many.
package windows

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Keeps is how many windows of a signal are given back.
const Keeps = 200

// Limits of a file, in bytes: one line, what is read, and when it is made shorter.
const (
	maxLine = 256 << 10
	maxKept = 8 << 20
	maxFile = 16 << 20
)

func path(dir string, monitor resource.Address, signal string) string {
	return filepath.Join(dir, monitor.Slug()+"."+signal+".jsonl")
}

// Append adds windows of one monitor, oldest first, below folder dir, which it
// makes if need be. Evidence of more than a quarter of a megabyte is left out.
func Append(dir string, monitor resource.Address, list []state.Window) error {
	if len(list) == 0 {
		return nil
	}
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("windows of %s: %w", monitor, err)
	}
	lines := map[string][]byte{}
	for _, w := range list {
		raw, err := json.Marshal(w)
		if err == nil && len(raw) > maxLine {
			w.Evidence, w.Message = nil, w.Message+" (its evidence is too large to be kept)"
			raw, err = json.Marshal(w)
		}
		if err != nil {
			return fmt.Errorf("windows of %s: %w", monitor, err)
		}
		lines[w.Signal] = append(append(lines[w.Signal], raw...), '\n')
	}
	for signal, text := range lines {
		if err := add(path(dir, monitor, signal), text); err != nil {
			return fmt.Errorf("windows of %s: %w", monitor, err)
		}
	}
	return nil
}

// add writes at the end of a file, and makes a long file short before. A line
// that a crash cut off is ended first.
func add(file string, text []byte) error {
	raw, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if n := bytes.Count(raw, []byte("\n")); n >= 2*Keeps || len(raw)+len(text) > maxFile {
		return durable.WriteFile(file, append(newest(raw), text...), 0o644)
	}
	if len(raw) > 0 && raw[len(raw)-1] != '\n' {
		text = append([]byte("\n"), text...)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil || len(raw) > 0 {
		return err
	}
	return durable.SyncDir(filepath.Dir(file)) // it may be new
}

// newest is the end of a file: whole lines, no more than are kept.
func newest(raw []byte) []byte {
	from, lines := len(raw), 0
	for lines < Keeps {
		at := bytes.LastIndexByte(raw[:max(from-1, 0)], '\n') + 1
		if from == 0 || len(raw)-at > maxKept {
			break
		}
		from, lines = at, lines+1
	}
	return raw[from:]
}

// Read gives the newest windows of a signal, oldest first; none when there are
// none. Lines that are no window are passed over.
func Read(dir string, monitor resource.Address, signal string) (_ []state.Window, err error) {
	f, err := os.Open(path(dir, monitor, signal))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("windows of %s: %w", monitor, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var out []state.Window
	lines := bufio.NewScanner(io.LimitReader(f, maxFile+maxLine))
	lines.Buffer(make([]byte, 0, 64<<10), 2*maxLine)
	for lines.Scan() {
		var w state.Window
		if json.Unmarshal(lines.Bytes(), &w) != nil || w.Signal != signal {
			continue
		}
		if out = append(out, w); len(out) > 2*Keeps {
			out = append(out[:0:0], out[len(out)-Keeps:]...)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("windows of %s: %w", monitor, err)
	}
	return out[max(0, len(out)-Keeps):], nil
}
