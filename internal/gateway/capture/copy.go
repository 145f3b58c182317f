package capture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/internal/durable"
)

// Copy brings what gateways elsewhere captured into a folder of this machine,
// each record once, and numbers the records anew: several sources become one
// sequence, in which each source keeps its order. A [Reader] reads it like
// what a [Writer] wrote.
type Copy struct {
	dir   string
	lock  *flock.Flock
	marks marks
	limit int64
}

// marks is what is known to be copied. Records and cursors move together: what
// lies in the newest segment beyond Size was written by a copy that was killed
// before it said so, and comes again.
type marks struct {
	Cursors map[string]string `json:"cursors"` // by source
	Last    uint64            `json:"last"`    // sequence number of the last record
	Segment int               `json:"segment"`
	Size    int64             `json:"size"` // bytes of that segment
}

const (
	marksFile = "copied.json"
	// copyWait is how long one copy waits for another of the same folder.
	copyWait = 30 * time.Second
)

// OpenCopy takes the folder dir for one copy at a time; limit bounds its bytes,
// the oldest records go first. Close gives it back.
func OpenCopy(ctx context.Context, dir string, limit int64) (_ *Copy, err error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("copy captured requests: %w", err)
	}
	c := &Copy{dir: dir, lock: flock.New(filepath.Join(dir, "lock")), limit: limit, marks: marks{Cursors: map[string]string{}, Segment: 1}}
	wait, cancel := context.WithTimeout(ctx, copyWait)
	defer cancel()
	if _, err := c.lock.TryLockContext(wait, 20*time.Millisecond); err != nil {
		return nil, fmt.Errorf("copy captured requests: another command copies into %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.lock.Close())
		}
	}()
	raw, err := os.ReadFile(filepath.Join(dir, marksFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("copy captured requests: %w", err)
	}
	if err := json.Unmarshal(raw, &c.marks); err != nil {
		return nil, fmt.Errorf("copy captured requests: read %s: %w; remove the folder to copy anew", filepath.Join(dir, marksFile), err)
	}
	return c, nil
}

// Close lets others copy into the folder.
func (c *Copy) Close() error { return c.lock.Close() }

// Cursor is where a source was left, "" at its beginning.
func (c *Copy) Cursor(source string) string { return c.marks.Cursors[source] }

// Append adds records of a source, and notes its cursor behind them.
func (c *Copy) Append(source, cursor string, records []Record) error {
	next := c.marks
	next.Cursors = maps.Clone(next.Cursors)
	next.Cursors[source] = cursor
	if next.Size > segmentSize(c.limit) {
		next.Segment, next.Size = next.Segment+1, 0
	}
	var lines bytes.Buffer
	for _, r := range records {
		next.Last++
		r.Seq = next.Last
		line, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("copy captured requests: record %s: %w", r.ID, err)
		}
		lines.Write(append(line, '\n'))
	}
	if err := c.write(next, lines.Bytes()); err != nil {
		return fmt.Errorf("copy captured requests: %w", err)
	}
	next.Size += int64(lines.Len())
	raw, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("copy captured requests: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(c.dir, marksFile), raw, 0o600); err != nil {
		return fmt.Errorf("copy captured requests: %w", err)
	}
	c.marks = next
	return c.drop()
}

// write puts lines behind what is known to be copied, over what is not.
func (c *Copy) write(at marks, lines []byte) (err error) {
	f, err := os.OpenFile(filepath.Join(c.dir, segmentName(at.Segment)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(at.Size); err != nil {
		return err
	}
	if _, err := f.WriteAt(lines, at.Size); err != nil {
		return err
	}
	return f.Sync()
}

// drop removes the oldest segments beyond the limit.
func (c *Copy) drop() error {
	list, err := listSegments(c.dir)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, s := range slices.Backward(list) {
		if total += s.size; total > c.limit && s.number < c.marks.Segment {
			if err := durable.RemoveIfThere(filepath.Join(c.dir, segmentName(s.number))); err != nil {
				return err
			}
		}
	}
	return nil
}
