package tabular

import (
	"bufio"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math"
	"os"
	"path/filepath"
	"regexp"
)

// Split is a share of the rows. The splits of a table are consecutive intervals of [0, 1) in the order declared, each as wide as its
// fraction; a row lies where splitHash / 2^64 of its canonical form (or of its GroupBy value) lies, and past the sum it is in no split.
// The place depends on nothing else, so a row stays on its side when data is appended, reordered or spread over other files.
type Split struct {
	Name     string  // also the file name: letters, digits, - and _
	Fraction float64 // 0 < Fraction ≤ 1; all fractions sum to at most 1
	GroupBy  string  // rows with the same value of this column stay together; the same for all splits
	Seed     int64   // another seed is another partition; the same for all splits
}

// SplitResult is one written split file.
type SplitResult struct {
	Path   string `json:"path"`
	Rows   int64  `json:"rows"`
	Digest string `json:"digest"` // SHA-256 of the file in hex
}

var splitName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$`)

// fractionSlack forgives the rounding of sums such as 0.7 + 0.2 + 0.1.
const fractionSlack = 1e-9

// splitter places rows and writes them.
type splitter struct {
	splits []Split
	bounds []float64 // upper end of each interval, scaled to 2^64
	enc    rowEncoder
	buf    []byte
	sides  []uint8 // of the rows of the batch at hand
	files  []*splitFile
	dir    string
	format string
}

func newSplitter(splits []Split, dir, format string) (*splitter, error) {
	if len(splits) >= noSide {
		return nil, fmt.Errorf("split data: %d splits, more than %d", len(splits), noSide-1)
	}
	if len(splits) > 0 && dir == "" {
		return nil, errors.New("split data: no folder to write the splits to")
	}
	s := &splitter{splits: splits, dir: dir, format: format}
	sum, names := 0.0, map[string]bool{}
	for _, sp := range splits {
		switch {
		case !splitName.MatchString(sp.Name):
			return nil, fmt.Errorf("split data: %s is no name for a split; use letters, digits, - and _", clip(sp.Name))
		case names[sp.Name]:
			return nil, fmt.Errorf("split data: two splits are named %s; rename one", sp.Name)
		case !(sp.Fraction > 0 && sp.Fraction <= 1):
			return nil, fmt.Errorf("split data: split %s has fraction %g; use more than 0 and at most 1", sp.Name, sp.Fraction)
		case sp.GroupBy != splits[0].GroupBy || sp.Seed != splits[0].Seed:
			return nil, fmt.Errorf("split data: splits %s and %s differ in group_by or seed, so their rows could overlap; give all splits the same", splits[0].Name, sp.Name)
		}
		names[sp.Name] = true
		sum += sp.Fraction
		if sum > 1+fractionSlack {
			return nil, fmt.Errorf("split data: the fractions up to split %s sum to %g; keep the sum at most 1", sp.Name, sum)
		}
		bound := sum
		if bound > 1-fractionSlack {
			bound = 2 // past every hash
		}
		s.bounds = append(s.bounds, math.Ldexp(bound, 64))
	}
	if len(splits) > 0 && splits[0].GroupBy != "" {
		s.enc.columns = []string{splits[0].GroupBy}
	}
	return s, nil
}

// place sets the side of every row of the batch.
func (s *splitter) place(b *Batch) error {
	s.sides = s.sides[:0]
	if missing := s.enc.prepare(b); missing != "" {
		return &Error{File: b.File, Column: missing, Err: errors.New("the splits are grouped by this column, which the data lacks; name one that it has")}
	}
	for i := range b.Rows {
		form, _ := s.enc.encode(b, i)
		var h uint64
		h, s.buf = splitHash(s.buf, s.splits[0].Seed, form)
		side := uint8(noSide)
		for n, bound := range s.bounds {
			if float64(h) < bound {
				side = uint8(n)
				break
			}
		}
		s.sides = append(s.sides, side)
	}
	return nil
}

// write places the batch's rows and appends them to their files.
func (s *splitter) write(b *Batch) error {
	if len(s.splits) == 0 {
		return nil
	}
	if err := s.place(b); err != nil {
		return err
	}
	if s.files == nil {
		if err := s.create(b); err != nil {
			return err
		}
	}
	for i, side := range s.sides {
		if side == noSide {
			continue
		}
		if err := s.files[side].row(b, i); err != nil {
			return fmt.Errorf("write split %s: %w", s.splits[side].Name, err)
		}
	}
	return nil
}

// create opens the split files; b gives the columns, and may have no rows.
func (s *splitter) create(b *Batch) error {
	if err := os.MkdirAll(s.dir, 0o750); err != nil {
		return fmt.Errorf("create split folder: %w", err)
	}
	for _, sp := range s.splits {
		f, err := os.CreateTemp(s.dir, "."+sp.Name+"-*")
		if err != nil {
			return fmt.Errorf("create split %s: %w", sp.Name, err)
		}
		sf := &splitFile{name: sp.Name, file: f, hash: sha256.New()}
		s.files = append(s.files, sf)
		sf.out = bufio.NewWriterSize(sf, 256<<10)
		if err := sf.start(s.format, b); err != nil {
			return fmt.Errorf("create split %s: %w", sp.Name, err)
		}
	}
	return nil
}

// commit makes the bytes of all files durable and gives them their names; whoever keeps the files makes those durable.
func (s *splitter) commit() (map[string]SplitResult, error) {
	out := map[string]SplitResult{}
	for i, f := range s.files {
		if err := f.finish(); err != nil {
			return nil, fmt.Errorf("write split %s: %w", f.name, err)
		}
		path := filepath.Join(s.dir, f.name+"."+s.format)
		if err := os.Rename(f.file.Name(), path); err != nil {
			return nil, fmt.Errorf("write split %s: %w", f.name, err)
		}
		f.named = true
		out[s.splits[i].Name] = SplitResult{Path: path, Rows: f.rows, Digest: hex.EncodeToString(f.hash.Sum(nil))}
	}
	if len(s.files) == 0 {
		return nil, nil
	}
	return out, nil
}

// discard removes what was not committed.
func (s *splitter) discard() error {
	var err error
	for _, f := range s.files {
		if !f.named {
			if !f.closed {
				err = errors.Join(err, f.file.Close())
			}
			err = errors.Join(err, os.Remove(f.file.Name()))
		}
	}
	if err != nil {
		return fmt.Errorf("remove unfinished splits: %w", err)
	}
	return nil
}

// splitFile is one split being written.
type splitFile struct {
	name    string
	file    *os.File
	hash    hash.Hash
	out     *bufio.Writer
	csv     *csv.Writer
	record  []string
	parquet *parquetWriter
	rows    int64
	closed  bool
	named   bool
}

// Write appends to the file and its digest.
func (f *splitFile) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.hash.Write(p[:n]) // a hash never errors
	return n, err
}

func (f *splitFile) start(format string, b *Batch) error {
	switch format {
	case formatCSV:
		f.csv = csv.NewWriter(f.out)
		for i := range b.Columns {
			f.record = append(f.record, b.Columns[i].Name)
		}
		return f.csv.Write(f.record)
	case formatParquet:
		var err error
		f.parquet, err = newParquetWriter(f.out, b.schema)
		return err
	}
	return nil
}

func (f *splitFile) row(b *Batch, i int) error {
	f.rows++
	switch {
	case f.csv != nil:
		for c := range b.Columns {
			f.record[c] = b.Columns[c].Text(i)
		}
		if len(f.record) == 1 && f.record[0] == "" {
			// The writer would leave a blank line, which every reader skips.
			f.csv.Flush()
			_, err := f.out.WriteString("\"\"\n")
			return errors.Join(f.csv.Error(), err)
		}
		return f.csv.Write(f.record)
	case f.parquet != nil:
		return f.parquet.write(b.rows[i])
	}
	if _, err := f.out.WriteString(b.lines[i]); err != nil {
		return err
	}
	return f.out.WriteByte('\n')
}

// finish flushes, makes the bytes durable and closes the file.
func (f *splitFile) finish() error {
	if f.csv != nil {
		f.csv.Flush()
		if err := f.csv.Error(); err != nil {
			return err
		}
	}
	if f.parquet != nil {
		if err := f.parquet.close(); err != nil {
			return err
		}
	}
	if err := f.out.Flush(); err != nil {
		return err
	}
	f.closed = true
	return errors.Join(f.file.Sync(), f.file.Close())
}
