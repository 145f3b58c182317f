package tabular

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// ScanOptions says what Scan judges and writes.
type ScanOptions struct {
	Options
	Columns  []ColumnRule
	Expect   []Expectation
	Splits   []Split
	SplitDir string    // folder of the split files; created if needed
	Now      time.Time // what Freshness is measured against
}

// Result is what Scan found. Findings stand in the order of the rules: declared columns, then expectations, each as declared.
type Result struct {
	Rows     int64                  `json:"rows"`
	Schema   Schema                 `json:"schema"`
	Profile  Profile                `json:"profile"`
	Findings []Finding              `json:"findings,omitempty"`
	Splits   map[string]SplitResult `json:"splits,omitempty"`
}

// Scan reads paths once: it profiles every column, judges the rules and writes the split files, which are there whole or not at all. A rule
// that does not hold is a finding; an error means that the data could not be read, a rule makes no sense, or a split not be written.
func Scan(ctx context.Context, paths []string, opts ScanOptions) (res *Result, err error) {
	s := &scan{opts: opts, stats: map[string]*columnStats{}}
	read := opts.Options
	for _, c := range opts.Columns {
		if c.Type == "" {
			continue
		}
		if f, ok := read.Declared.Field(c.Name); !ok {
			read.Declared = append(slices.Clone(read.Declared), Field{c.Name, c.Type})
		} else if f.Type != c.Type {
			return nil, fmt.Errorf("scan data: column %s is declared both %s and %s", clip(c.Name), f.Type, c.Type)
		}
	}
	read.keepRows = len(opts.Splits) > 0
	format, err := commonFormat(paths, read.Format)
	if err != nil {
		return nil, err
	}
	if s.split, err = newSplitter(opts.Splits, opts.SplitDir, format); err != nil {
		return nil, err
	}
	if s.checks, err = s.compile(); err != nil {
		return nil, fmt.Errorf("scan data: %w", err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r, err := Open(ctx, paths, read)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := s.run(r); err != nil {
		return nil, err
	}
	return s.result(r.Schema())
}

// scan is one Scan under way.
type scan struct {
	opts   ScanOptions
	split  *splitter
	checks []check
	keys   []*keyCheck
	files  fileIndex
	stats  map[string]*columnStats
	order  []*columnStats
	rows   int64
}

func (s *scan) run(r *Reader) error {
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := s.batch(b); err != nil {
			return err
		}
	}
	if s.split.files == nil && len(s.opts.Splits) > 0 {
		// No rows: the splits are written all the same, with the columns.
		return s.split.create(r.emptyBatch())
	}
	return nil
}

func (s *scan) batch(b *Batch) error {
	s.files.note(b, s.rows)
	for i := range b.Columns {
		c := &b.Columns[i]
		st := s.stats[c.Name]
		if st == nil {
			var err error
			if st, err = newStats(c.Name); err != nil {
				return fmt.Errorf("profile column %s: %w", clip(c.Name), err)
			}
			st.nulls = s.rows
			s.stats[c.Name] = st
			s.order = append(s.order, st)
		}
		if err := st.add(c, b.Rows); err != nil {
			return fmt.Errorf("profile column %s: %w", clip(c.Name), err)
		}
	}
	if err := s.split.write(b); err != nil {
		return err
	}
	for _, k := range s.checks {
		if err := k.batch(b); err != nil {
			return err
		}
	}
	s.rows += int64(b.Rows)
	return nil
}

func (s *scan) result(schema Schema) (*Result, error) {
	res := &Result{Rows: s.rows, Schema: schema, Profile: Profile{Rows: s.rows}}
	for i, f := range schema {
		if i == len(s.order) { // a table without rows
			st, err := newStats(f.Name)
			if err != nil {
				return nil, fmt.Errorf("profile column %s: %w", clip(f.Name), err)
			}
			s.order = append(s.order, st)
		}
		p, err := s.order[i].profile(f.Type)
		if err != nil {
			return nil, fmt.Errorf("profile column %s: %w", clip(f.Name), err)
		}
		res.Profile.Columns = append(res.Profile.Columns, p)
	}
	for _, k := range s.checks {
		found, err := k.findings(res)
		if err != nil {
			return nil, err
		}
		res.Findings = append(res.Findings, found...)
	}
	var err error
	res.Splits, err = s.split.commit()
	return res, err
}

func (s *scan) close() error {
	err := s.split.discard()
	for _, k := range s.keys {
		err = errors.Join(err, k.set.close())
	}
	return err
}

// compile turns declared columns and expectations into checks, in the order in which findings are reported.
func (s *scan) compile() ([]check, error) {
	c := &compiler{scan: s}
	for _, col := range s.opts.Columns {
		c.column(col)
	}
	for _, e := range s.opts.Expect {
		c.rows(e)
		c.table(e)
	}
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	for _, k := range s.keys {
		k.set.max = max(keySetBudget/len(s.keys), 1024)
	}
	return c.out, nil
}

// compiler collects checks and what is wrong with the rules.
type compiler struct {
	scan *scan
	out  []check
	errs []error
}

func (c *compiler) cell(r rule, column, what string, nulls bool, bad func(*Column, int) bool) {
	c.out = append(c.out, &cellCheck{rule: r, column: column, what: what, nulls: nulls, bad: bad})
}

func (c *compiler) key(r rule, columns []string, most int64, sides bool) {
	if slices.Contains(columns, "*") {
		columns = nil
	}
	k := &keyCheck{rule: r, columns: columns, most: most, sides: sides, scan: c.scan, set: keySet{dir: c.scan.opts.TempDir}}
	c.out = append(c.out, k)
	c.scan.keys = append(c.scan.keys, k)
}

func (c *compiler) fail(r rule, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s, %s: %w", r.expectation, r.name, fmt.Errorf(format, args...)))
}

func (c *compiler) column(col ColumnRule) {
	at := func(name string) rule { return rule{"column." + col.Name, name, col.Severity} }
	before := len(c.out)
	if col.Type != "" {
		c.cell(at("type"), col.Name, "are not of type "+string(col.Type), true, notOfType(col.Type))
	}
	if col.Range != [2]*float64{} {
		c.cell(at("range"), col.Name, "are outside "+rangeText(col.Range), false, outside(col.Range))
	}
	if col.Nullable != nil && !*col.Nullable {
		c.cell(at("nullable"), col.Name, "are null", true, isNullCell)
	}
	if col.Values != nil {
		c.cell(at("in_set"), col.Name, "are not among the allowed", false, notInSet(col.Values))
	}
	if col.Unique {
		c.key(at("unique"), []string{col.Name}, 0, false)
	}
	// The column must be there, and one that is not is reported once.
	c.out = append(c.out[:before], &columnCheck{rule: at("missing_column"), column: col.Name, checks: slices.Clone(c.out[before:])})
}

// columnCheck holds the checks of one declared column.
type columnCheck struct {
	rule
	column string
	checks []check
}

func (k *columnCheck) batch(b *Batch) error {
	for _, c := range k.checks {
		if err := c.batch(b); err != nil {
			return err
		}
	}
	return nil
}

func (k *columnCheck) findings(r *Result) ([]Finding, error) {
	if _, ok := r.Schema.Field(k.column); !ok {
		return []Finding{k.finding(k.column, 1, nil, "the declared column %s is missing", clip(k.column))}, nil
	}
	var out []Finding
	for _, c := range k.checks {
		found, err := c.findings(r)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// rows compiles the rules that look at rows.
func (c *compiler) rows(e Expectation) {
	at := func(name string) rule { return rule{e.Name, name, e.Severity} }
	for _, col := range e.NotNull {
		c.cell(at("not_null"), col, "are null", true, isNullCell)
	}
	for _, col := range slices.Sorted(maps.Keys(e.Type)) {
		if !e.Type[col].Valid() {
			c.fail(at("type"), "column %s: unknown type %q", clip(col), e.Type[col])
		}
		c.cell(at("type"), col, "are not of type "+string(e.Type[col]), true, notOfType(e.Type[col]))
	}
	for _, col := range slices.Sorted(maps.Keys(e.Range)) {
		c.cell(at("range"), col, "are outside "+rangeText(e.Range[col]), false, outside(e.Range[col]))
	}
	for _, col := range slices.Sorted(maps.Keys(e.InSet)) {
		c.cell(at("in_set"), col, "are not among the allowed", false, notInSet(e.InSet[col]))
	}
	for _, col := range slices.Sorted(maps.Keys(e.Matches)) {
		bad, err := notMatching(e.Matches[col])
		if err != nil {
			c.fail(at("matches"), "column %s: %w", clip(col), err)
			continue
		}
		c.cell(at("matches"), col, "do not match "+clip(e.Matches[col]), false, bad)
	}
	if len(e.Unique) > 0 {
		c.key(at("unique"), e.Unique, 0, false)
	}
	if e.MaxDuplicates != nil {
		c.key(at("max_duplicates"), []string{"*"}, int64(*e.MaxDuplicates), false)
	}
	if len(e.NoOverlap) > 0 {
		if len(c.scan.opts.Splits) < 2 {
			c.fail(at("no_overlap"), "there are %d splits; declare at least two", len(c.scan.opts.Splits))
		}
		c.key(at("no_overlap"), e.NoOverlap, 0, true)
	}
}
