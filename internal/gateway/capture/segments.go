package capture

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
	"slices"
	"strconv"
	"strings"
)

type segmentInfo struct {
	number int
	size   int64
	first  uint64 // sequence number of its first record; only a Writer knows it
}

func segmentName(number int) string { return fmt.Sprintf("%06d.jsonl", number) }

// listSegments returns the segments in dir, oldest first; other files are not
// ours and are ignored. A folder that is not there has none.
func listSegments(dir string) ([]segmentInfo, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	var list []segmentInfo
	for _, e := range entries {
		stem, ok := strings.CutSuffix(e.Name(), ".jsonl")
		number, err := strconv.Atoi(stem)
		if !ok || err != nil || number < 1 || !e.Type().IsRegular() || segmentName(number) != e.Name() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated away meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list segments: %w", err)
		}
		list = append(list, segmentInfo{number: number, size: info.Size()})
	}
	slices.SortFunc(list, func(a, b segmentInfo) int { return a.number - b.number })
	return list, nil
}

// seqOf returns the sequence number of a line, which must be whole.
func seqOf(line []byte) (uint64, error) {
	var head struct {
		Seq uint64 `json:"seq"`
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return 0, fmt.Errorf("decode record: %w", err)
	}
	if head.Seq == 0 {
		return 0, errors.New("decode record: no sequence number")
	}
	return head.Seq, nil
}

// firstSeq returns the sequence number of the first whole line of a segment,
// or io.EOF when it has none.
func firstSeq(name string) (uint64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(f).ReadBytes('\n')
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return seqOf(line)
}

// resume lists the segments with their first sequence numbers, finds the last
// one and cuts a torn last line off.
func (w *Writer) resume(after uint64) error {
	var err error
	if w.segments, err = listSegments(w.dir); err != nil {
		return err
	}
	whole := 0 // the newest segment with a whole line, or 0
	for i, s := range slices.Backward(w.segments) {
		name := filepath.Join(w.dir, segmentName(s.number))
		seq, end, err := lastSeq(name)
		if err != nil {
			return err
		}
		if end < s.size {
			if err := os.Truncate(name, end); err != nil {
				return fmt.Errorf("cut torn line: %w", err)
			}
			w.segments[i].size = end
		}
		if seq > 0 {
			w.seq.Store(seq)
			whole = s.number
			break
		}
	}
	w.seq.Store(max(w.seq.Load(), after))
	if len(w.segments) == 0 {
		return nil
	}
	// A segment that begins with no whole record counts as beginning where the
	// next one does, so that those before it are kept for longer, not shorter.
	next := w.seq.Load() + 1
	for i, s := range slices.Backward(w.segments) {
		if first, err := firstSeq(filepath.Join(w.dir, segmentName(s.number))); err == nil {
			next = min(next, first)
		}
		w.segments[i].first = next
	}
	w.seg.number = w.segments[len(w.segments)-1].number
	if whole == w.seg.number {
		return w.openSegment(whole)
	}
	return nil
}

// lastSeq returns the highest sequence number in a segment (0 for none) and
// the offset behind its last whole line.
func lastSeq(name string) (seq uint64, end int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, 0, fmt.Errorf("read segment: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := bufio.NewReaderSize(f, 256<<10)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return seq, end, nil
		}
		if err != nil {
			return 0, 0, fmt.Errorf("read segment: %w", err)
		}
		end += int64(len(line))
		if n, err := seqOf(bytes.TrimSpace(line)); err == nil {
			seq = max(seq, n)
		}
	}
}
