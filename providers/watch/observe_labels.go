package watch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/continuo-ml/continuo/config"
)

// join judges the windows up to the last one that has enough labels. Those behind it wait; those before it that have too few are
// passed, for labels come roughly in the order of the predictions.
func (o *observation) join(w *watcher, labels config.Data, waiting []*predictionWindow) error {
	if len(waiting) == 0 {
		return nil
	}
	p := *o.spec.Performance
	ids := map[string]bool{}
	for _, pw := range waiting {
		for _, r := range pw.rows {
			ids[r.id] = true
		}
	}
	src, err := source(o.Workspace, labels, o.req.State)
	if err != nil {
		return fmt.Errorf("labels: %w", err)
	}
	known, err := readTruth(o.ctx, src.paths, src.Format, p, ids)
	if err != nil {
		return err
	}
	least := w.cut.least(p.MinSamples)
	last := -1
	for i, pw := range waiting {
		if pw.joined(known) >= least {
			last = i
		}
	}
	for _, pw := range waiting[:last+1] {
		op, err := judgePerformance(pw, known, p, least)
		if err != nil {
			return err
		}
		if err := w.track.add(op); err != nil {
			return err
		}
		w.pass(pw.at)
	}
	w.track.cursor.Labels, w.track.cursor.Seen = labels.Digest, waiting[len(waiting)-1].at.To
	if last < 0 {
		pw := waiting[len(waiting)-1]
		w.track.signal.Message = fewLabels(pw.joined(known), len(pw.rows), least)
		w.track.moved = true
	}
	return nil
}

func (w *predictionWindow) joined(t truth) int {
	n := 0
	for _, r := range w.rows {
		if _, ok := t.byID[r.id]; ok {
			n++
		}
	}
	return n
}

// lastSeq is the sequence number of the last whole record in a capture folder, 0 if it has none. It reads the end of the last
// segment only, so that a look at quiet traffic costs nothing.
func lastSeq(dir string) (uint64, error) {
	segments, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return 0, err
	}
	slices.Sort(segments)
	for _, name := range slices.Backward(segments) {
		seq, err := lastSeqOf(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // rotated away meanwhile
		}
		if err != nil || seq > 0 {
			return seq, err
		}
	}
	return 0, nil
}

func lastSeqOf(name string) (_ uint64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	for size := min(int64(64<<10), info.Size()); ; size = min(4*size, info.Size()) {
		part, err := io.ReadAll(io.NewSectionReader(f, info.Size()-size, size))
		if err != nil {
			return 0, err
		}
		if seq, ok := seqOfLast(part, size == info.Size()); ok {
			return seq, nil
		}
		if size == info.Size() {
			return 0, nil
		}
	}
}

// seqOfLast reads the last whole line of the end of a segment. whole says that the part is all of it.
func seqOfLast(part []byte, whole bool) (uint64, bool) {
	for end := bytes.LastIndexByte(part, '\n'); end >= 0; end = bytes.LastIndexByte(part[:end], '\n') {
		start := bytes.LastIndexByte(part[:end], '\n')
		if start < 0 && !whole {
			return 0, false
		}
		var head struct {
			Seq uint64 `json:"seq"`
		}
		if json.Unmarshal(part[start+1:end], &head) == nil && head.Seq > 0 {
			return head.Seq, true
		}
	}
	return 0, false
}
