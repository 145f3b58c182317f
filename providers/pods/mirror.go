package pods

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/internal/runner"
)

const (
	progressFile = "progress.jsonl"
	// saveEvery is how much of a mirrored log a crash may cost: it is read again then.
	saveEvery = time.Second
)

// mirror keeps the log and the progress of the pods of one index in the stage's folder, where the runner of this machine would
// have them. It notes how far it came, so that the next process goes on there: a kubelet keeps only the end of a long log.
type mirror struct {
	path          string // of its note
	log, progress *os.File
	on            func(runner.Progress)
	note          mirrored
	saved         time.Time
	full          bool
}

// mirrored is what a mirror remembers.
type mirrored struct {
	Cursor   cursor `json:"cursor"`
	Log      int64  `json:"log"`      // bytes
	Progress int64  `json:"progress"` // bytes
}

func newMirror(f folder, index int, on func(runner.Progress)) (_ *mirror, err error) {
	if err := durable.MkdirAll(string(f), 0o755); err != nil {
		return nil, err
	}
	m := &mirror{path: f.at(fmt.Sprintf("mirror-%d.json", index)), on: on}
	defer func() {
		if err != nil {
			err = fmt.Errorf("mirror the log: %w", errors.Join(err, m.closeFiles()))
		}
	}()
	if _, err := durable.ReadJSON(m.path, &m.note); err != nil {
		return nil, err
	}
	if m.log, err = openAt(runner.LogPath(string(f), index), m.note.Log); err != nil {
		return nil, err
	}
	if index > 0 {
		return m, nil // progress is that of the first
	}
	if m.progress, err = openAt(f.at(progressFile), m.note.Progress); err != nil || on == nil {
		return m, err
	}
	r, err := runner.NewProgressReader(string(f))
	if err != nil {
		return nil, err
	}
	return m, r.Next(on)
}

// mirrored reports whether the log of a pod's command was ever followed: then there is one, be it empty.
func (f folder) mirrored() (bool, error) {
	logs, err := filepath.Glob(f.at("*.log"))
	return len(logs) > 0, err
}

// openAt opens a file to be written on from a place; what stands behind it was not noted and comes again.
func openAt(path string, size int64) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := file.Truncate(size); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if _, err := file.Seek(size, io.SeekStart); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (m *mirror) at() cursor { return m.note.Cursor }

func (m *mirror) line(c cursor, line string) error {
	if old := m.note.Cursor.Pod; old != "" && old != c.Pod {
		if err := m.write(fmt.Sprintf("[ml: pod %s is over; pod %s goes on]", old, c.Pod)); err != nil {
			return err
		}
	}
	text, p := pod.ParseLine(line)
	var err error
	if p == nil {
		err = m.write(text)
	} else {
		err = m.step(*p)
	}
	m.note.Cursor = c
	if err == nil && time.Since(m.saved) > saveEvery {
		err = m.save()
	}
	return err
}

func (m *mirror) write(text string) error {
	if m.full {
		return nil
	}
	if m.note.Log > runner.DefaultLogLimit {
		m.full = true
		text = fmt.Sprintf("[ml: the log outgrew %d bytes; what follows is not kept here]", runner.DefaultLogLimit)
	}
	n, err := io.WriteString(m.log, text+"\n")
	m.note.Log += int64(n)
	return err
}

// step writes a line of progress as a command writes it: one flat object.
func (m *mirror) step(p runner.Progress) error {
	if m.progress == nil {
		return nil
	}
	flat := map[string]any{"step": p.Step}
	if p.Of > 0 {
		flat["of"] = p.Of
	}
	for k, v := range p.Values {
		flat[k] = v
	}
	for k, v := range p.Text {
		flat[k] = v
	}
	b, err := json.Marshal(flat)
	if err != nil {
		return err
	}
	n, err := m.progress.Write(append(b, '\n'))
	m.note.Progress += int64(n)
	if err == nil && m.on != nil {
		m.on(p)
	}
	return err
}

// save notes how far the files are good. They are synced first: a note must not promise what a power cut takes.
func (m *mirror) save() error {
	m.saved = time.Now()
	err := m.log.Sync()
	if m.progress != nil {
		err = errors.Join(err, m.progress.Sync())
	}
	if err != nil {
		return err
	}
	return durable.WriteJSON(m.path, m.note)
}

func (m *mirror) close() error { return errors.Join(m.save(), m.closeFiles()) }

func (m *mirror) closeFiles() error {
	var err error
	for _, f := range []*os.File{m.log, m.progress} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// plain writes the command's own lines and nothing else.
type plain struct {
	w io.Writer
	c cursor
}

func (p *plain) at() cursor { return p.c }

func (p *plain) line(c cursor, line string) error {
	p.c = c
	text, progress := pod.ParseLine(line)
	if progress != nil {
		return nil
	}
	_, err := io.WriteString(p.w, text+"\n")
	return err
}

func (p *plain) close() error { return nil }

// discard takes everything.
type discard struct{}

func (discard) at() cursor                { return cursor{} }
func (discard) line(cursor, string) error { return nil }
func (discard) close() error              { return nil }

// copyLog writes a log that is here; one that is not there is empty.
func copyLog(path string, w io.Writer) (err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(w, f)
	return err
}
