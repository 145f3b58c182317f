package capture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/internal/durable"
)

type cursorFile struct {
	Seq uint64 `json:"seq"`
}

// ReadCursor returns the sequence number up to which a sink with that cursor
// file has sent everything; found is false when there is no file. A file that
// cannot be understood is an error, and counts as 0: to send all records again
// is allowed, to pass over one is not.
func ReadCursor(name string) (seq uint64, found bool, err error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, true, fmt.Errorf("read sink cursor: %w", err)
	}
	var c cursorFile
	if err := json.Unmarshal(data, &c); err != nil {
		return 0, true, fmt.Errorf("read sink cursor %s: %w; every captured answer is sent again", name, err)
	}
	return c.Seq, true, nil
}

// WriteCursor stores a cursor durably.
func WriteCursor(name string, seq uint64) error {
	data, err := json.Marshal(cursorFile{Seq: seq})
	if err != nil {
		return fmt.Errorf("store sink cursor: %w", err)
	}
	if err := durable.WriteFile(name, data, 0o600); err != nil {
		return fmt.Errorf("store sink cursor: %w", err)
	}
	return nil
}

// appendBatch appends records to the file, syncs it, then moves the cursor.
func (s *Sink) appendBatch(batch []Record) error {
	var lines []byte
	count := uint64(0)
	for _, rec := range batch {
		if !ok(rec) {
			continue
		}
		line, err := json.Marshal(rec)
		if err != nil {
			return fmt.Errorf("encode record %d: %w", rec.Seq, err)
		}
		lines = append(append(lines, line...), '\n')
		count++
	}
	if err := appendSynced(s.target.File, lines); err != nil {
		return err
	}
	s.stats.Sent.Add(count)
	return s.advance(batch[len(batch)-1].Seq)
}

// appendSynced appends whole lines to a file. A torn line that a crash left
// there is cut first: its record was never acknowledged and comes again.
func appendSynced(name string, lines []byte) (err error) {
	if len(lines) == 0 {
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open sink: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// Another deployment may have the same file: the end must not move in between.
	lock := flock.New(name)
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("lock sink: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	end, err := lastLineEnd(f)
	if err != nil {
		return fmt.Errorf("read sink: %w", err)
	}
	if err := f.Truncate(end); err != nil {
		return fmt.Errorf("cut sink: %w", err)
	}
	if _, err := f.WriteAt(lines, end); err != nil {
		return fmt.Errorf("write sink: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync sink: %w", err)
	}
	if end > 0 {
		return nil
	}
	return durable.SyncDir(filepath.Dir(name)) // the file may be new
}

// lastLineEnd returns the offset behind the last line break.
func lastLineEnd(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 32<<10)
	for end := info.Size(); end > 0; {
		start := max(0, end-int64(len(buf)))
		part := buf[:end-start]
		if _, err := f.ReadAt(part, start); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}

// Export writes the answers in dir that a sink would be sent, from sequence
// number from on, to a file of one JSON record a line, durably, and returns how
// many they were. It makes no file for none.
func Export(dir string, from uint64, name string) (n int, err error) {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("export answers: %w", err)
	}
	if err := durable.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return 0, fmt.Errorf("export answers: %w", err)
	}
	var lines []byte
	for rec, err := range Records(dir, from) {
		var bad *LineError
		if errors.As(err, &bad) {
			continue
		}
		if err != nil {
			return n, err
		}
		if !ok(rec) {
			continue
		}
		line, err := json.Marshal(rec)
		if err != nil {
			return n, fmt.Errorf("encode record %d: %w", rec.Seq, err)
		}
		lines = append(append(lines, line...), '\n')
		n++
		if len(lines) > 1<<20 {
			if err := appendSynced(name, lines); err != nil {
				return n, err
			}
			lines = lines[:0]
		}
	}
	return n, appendSynced(name, lines)
}
