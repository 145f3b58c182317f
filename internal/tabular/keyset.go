package tabular

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// keyEntry is one row in a keySet.
type keyEntry struct {
	key  rowKey
	row  int64 // 0-based row of the table
	side uint8 // split, or noSide
}

const (
	noSide        = 255
	keyEntryBytes = 16 + 8 + 1
	// keySetBudget is how many entries all key sets of a scan hold in memory together: 2 Mi × 32 bytes = 64 MiB. What goes beyond is
	// written to one temporary file per set as sorted runs.
	keySetBudget = 2 << 20
)

// keySet finds rows with equal keys among any number of rows in bounded memory: full buffers are sorted and spilled as runs, and groups
// walks the merged runs.
type keySet struct {
	max  int // entries in memory
	dir  string
	buf  []keyEntry
	file *os.File
	runs []int64 // end offset of each run in file
}

func (s *keySet) add(e keyEntry) error {
	s.buf = append(s.buf, e)
	if len(s.buf) >= s.max {
		return s.spill()
	}
	return nil
}

func compareEntries(a, b keyEntry) int {
	if c := bytes.Compare(a.key[:], b.key[:]); c != 0 {
		return c
	}
	switch {
	case a.row < b.row:
		return -1
	case a.row > b.row:
		return 1
	}
	return 0
}

func (s *keySet) spill() error {
	slices.SortFunc(s.buf, compareEntries)
	start := int64(0)
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "keys-*")
		if err != nil {
			return fmt.Errorf("spill row keys: %w", err)
		}
		s.file = f
	} else {
		start = s.runs[len(s.runs)-1]
	}
	w := bufio.NewWriterSize(s.file, 256<<10)
	var rec [keyEntryBytes]byte
	for _, e := range s.buf {
		copy(rec[:16], e.key[:])
		binary.BigEndian.PutUint64(rec[16:], uint64(e.row))
		rec[24] = e.side
		if _, err := w.Write(rec[:]); err != nil {
			return fmt.Errorf("spill row keys: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("spill row keys: %w", err)
	}
	s.runs = append(s.runs, start+int64(len(s.buf))*keyEntryBytes)
	s.buf = s.buf[:0]
	return nil
}

// close removes the spill file.
func (s *keySet) close() error {
	if s.file == nil {
		return nil
	}
	err := errors.Join(s.file.Close(), os.Remove(s.file.Name()))
	s.file = nil
	if err != nil {
		return fmt.Errorf("remove spilled row keys: %w", err)
	}
	return nil
}

// duplicates calls visit for every row whose key an earlier row has, with the first row of that key. Rows come by key, not by number.
func (s *keySet) duplicates(visit func(first, again keyEntry)) error {
	runs, err := s.sorted()
	if err != nil {
		return err
	}
	var first keyEntry
	for any := false; len(runs) > 0; any = true {
		e := runs[0].head
		if any && e.key == first.key {
			visit(first, e)
		} else {
			first = e
		}
		if err := runs.advance(); err != nil {
			return fmt.Errorf("read spilled row keys: %w", err)
		}
	}
	return nil
}

// sorted returns the runs as a heap by head: the spilled ones and what is still in memory.
func (s *keySet) sorted() (runHeap, error) {
	slices.SortFunc(s.buf, compareEntries)
	var runs runHeap
	start := int64(0)
	for _, end := range s.runs {
		part := io.NewSectionReader(s.file, start, end-start)
		runs = append(runs, &keyRun{r: bufio.NewReaderSize(part, 64<<10)})
		start = end
	}
	runs = append(runs, &keyRun{mem: s.buf})
	live := runs[:0]
	for _, r := range runs {
		more, err := r.next()
		if err != nil {
			return nil, fmt.Errorf("read spilled row keys: %w", err)
		}
		if more {
			live = append(live, r)
		}
	}
	heap.Init(&live)
	return live, nil
}

// keyRun is one sorted run with its first entry read.
type keyRun struct {
	head keyEntry
	mem  []keyEntry
	r    *bufio.Reader // nil for the run in memory
}

func (r *keyRun) next() (bool, error) {
	if r.r == nil {
		if len(r.mem) == 0 {
			return false, nil
		}
		r.head, r.mem = r.mem[0], r.mem[1:]
		return true, nil
	}
	var rec [keyEntryBytes]byte
	switch _, err := io.ReadFull(r.r, rec[:]); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return false, err
	case errors.Is(err, io.EOF):
		return false, nil
	case err != nil:
		return false, err
	}
	r.head = keyEntry{key: rowKey(rec[:16]), row: int64(binary.BigEndian.Uint64(rec[16:24])), side: rec[24]}
	return true, nil
}

// runHeap is a min-heap of runs by head.
type runHeap []*keyRun

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return compareEntries(h[i].head, h[j].head) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is not used: runs are only taken away.
func (h *runHeap) Push(x any) { *h = append(*h, x.(*keyRun)) }

// Pop removes the last run.
func (h *runHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// advance moves the first run on.
func (h *runHeap) advance() error {
	more, err := (*h)[0].next()
	switch {
	case err != nil:
		return err
	case more:
		heap.Fix(h, 0)
	default:
		heap.Pop(h)
	}
	return nil
}
