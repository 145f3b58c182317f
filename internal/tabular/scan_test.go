package tabular

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const people = `id,age,city,seen,score
1,34,Bern,2024-03-01T10:00:00Z,0.5
2,,Basel,2024-03-02T10:00:00Z,0.6
3,140,Bern,2024-03-03T10:00:00Z,0.7
3,28,Genf,2024-03-04T10:00:00Z,0.8
5,abc,Bern,2024-03-05T10:00:00Z,
5,28,Genf,2024-03-04T10:00:00Z,0.8
5,28,Genf,2024-03-04T10:00:00Z,0.8
`

func TestEveryRuleFindsWhatBreaksItAndNothingElse(t *testing.T) {
	path := write(t, "people.csv", people)
	day := 24 * time.Hour
	now := time.Date(2024, 3, 6, 10, 0, 0, 0, time.UTC)
	at := func(row int64, value string) SampleRow { return SampleRow{Row: row, File: path, Value: value} }
	dup := ptr(0)
	for name, c := range map[string]struct {
		good, bad Expectation
		want      Finding
	}{
		"not_null":       {Expectation{NotNull: []string{"id", "city"}}, Expectation{NotNull: []string{"age"}}, Finding{Rule: "not_null", Column: "age", Count: 1, Samples: []SampleRow{at(2, "")}}},
		"not_null of *":  {Expectation{NotNull: []string{"seen"}}, Expectation{NotNull: []string{"*"}}, Finding{Rule: "not_null", Column: "age", Count: 1, Samples: []SampleRow{at(2, "")}}},
		"unique of two":  {Expectation{}, Expectation{Unique: []string{"id", "seen"}}, Finding{Rule: "unique", Column: "id, seen", Count: 1, Samples: []SampleRow{at(7, "same as row 6")}}},
		"unique":         {Expectation{}, Expectation{Unique: []string{"id"}}, Finding{Rule: "unique", Column: "id", Count: 3, Samples: []SampleRow{at(4, "same as row 3"), at(6, "same as row 5"), at(7, "same as row 5")}}},
		"in_set":         {Expectation{InSet: map[string][]string{"city": {"Bern", "Basel", "Genf"}}}, Expectation{InSet: map[string][]string{"city": {"Bern", "Genf"}}}, Finding{Rule: "in_set", Column: "city", Count: 1, Samples: []SampleRow{at(2, "Basel")}}},
		"matches":        {Expectation{Matches: map[string]string{"city": "^[BG]"}}, Expectation{Matches: map[string]string{"city": "^B"}}, Finding{Rule: "matches", Column: "city", Count: 3, Samples: []SampleRow{at(4, "Genf"), at(6, "Genf"), at(7, "Genf")}}},
		"range":          {Expectation{Range: map[string][2]*float64{"score": {ptr(0.5), ptr(0.8)}}}, Expectation{Range: map[string][2]*float64{"score": {nil, ptr(0.55)}}}, Finding{Rule: "range", Column: "score", Count: 5, Samples: []SampleRow{at(2, "0.6"), at(3, "0.7"), at(4, "0.8"), at(6, "0.8"), at(7, "0.8")}}},
		"type":           {Expectation{Type: map[string]Type{"id": Number, "city": String}}, Expectation{Type: map[string]Type{"age": Integer}}, Finding{Rule: "type", Column: "age", Count: 1, Samples: []SampleRow{at(5, "abc")}}},
		"columns":        {Expectation{Columns: []string{"score", "seen", "city", "age", "id"}}, Expectation{Columns: []string{"id", "age", "name"}}, Finding{Rule: "columns", Count: 1}},
		"row_count":      {Expectation{RowCount: &MinMax{ptr(7.0), ptr(7.0)}}, Expectation{RowCount: &MinMax{Min: ptr(8.0)}}, Finding{Rule: "row_count", Count: 1}},
		"mean":           {Expectation{Mean: map[string]MinMax{"score": {ptr(0.69), ptr(0.71)}}}, Expectation{Mean: map[string]MinMax{"score": {Max: ptr(0.69)}}}, Finding{Rule: "mean", Column: "score", Count: 1}},
		"mean of text":   {Expectation{}, Expectation{Mean: map[string]MinMax{"city": {}}}, Finding{Rule: "mean", Column: "city", Count: 1}},
		"null_share":     {Expectation{NullShare: map[string]float64{"age": 0.2}}, Expectation{NullShare: map[string]float64{"age": 0.1}}, Finding{Rule: "null_share", Column: "age", Count: 1}},
		"distinct_count": {Expectation{DistinctCount: map[string]MinMax{"city": {ptr(3.0), ptr(3.0)}}}, Expectation{DistinctCount: map[string]MinMax{"city": {Max: ptr(2.0)}}}, Finding{Rule: "distinct_count", Column: "city", Count: 1}},
		"max_duplicates": {Expectation{MaxDuplicates: ptr(1)}, Expectation{MaxDuplicates: dup}, Finding{Rule: "max_duplicates", Column: "*", Count: 1, Samples: []SampleRow{at(7, "same as row 6")}}},
		"freshness":      {Expectation{Freshness: &Freshness{"seen", day}}, Expectation{Freshness: &Freshness{"seen", day - 1}}, Finding{Rule: "freshness", Column: "seen", Count: 1}},
		"no column":      {Expectation{}, Expectation{Range: map[string][2]*float64{"gone": {}}}, Finding{Rule: "missing_column", Column: "gone", Count: 1}},
		"no key column":  {Expectation{}, Expectation{Unique: []string{"id", "gone"}}, Finding{Rule: "missing_column", Column: "gone", Count: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			c.good.Name, c.bad.Name, c.bad.Severity = "good", "bad", "warn"
			c.want.Expectation, c.want.Severity = "bad", "warn"
			res, err := Scan(context.Background(), []string{path}, ScanOptions{Expect: []Expectation{c.good, c.bad}, Now: now})
			must(t, err)
			if len(res.Findings) == 0 {
				t.Fatal("nothing found")
			}
			if res.Findings[0].Message == "" {
				t.Error("no message")
			}
			c.want.Message = res.Findings[0].Message
			found := res.Findings
			if name == "not_null of *" { // score has a null too
				found = found[:1]
			}
			if d := cmp.Diff([]Finding{c.want}, found); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDeclaredColumns(t *testing.T) {
	path := write(t, "people.csv", people)
	res, err := Scan(context.Background(), []string{path}, ScanOptions{Columns: []ColumnRule{
		{Name: "age", Type: Integer, Range: [2]*float64{ptr(0.0), ptr(120.0)}, Nullable: ptr(false)},
		{Name: "city", Type: Category, Values: []string{"Bern", "Genf"}, Severity: "warn"},
		{Name: "id", Unique: true},
		{Name: "gone", Type: Number, Range: [2]*float64{nil, ptr(1.0)}},
		{Name: "score", Type: Number, Range: [2]*float64{ptr(0.0), ptr(1.0)}, Nullable: ptr(true)},
	}})
	must(t, err)
	var got []string
	for _, f := range res.Findings {
		got = append(got, fmt.Sprintf("%s %s %s %s %d", f.Expectation, f.Rule, f.Column, f.Severity, f.Count))
	}
	want := []string{
		"column.age type age error 1", "column.age range age error 1", "column.age nullable age error 1", "column.city in_set city warn 1", "column.id unique id error 3", "column.gone missing_column gone error 1",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if p := res.Profile.Column("age"); p.Type != Integer || p.Invalid != 1 || p.Nulls != 1 || p.Count != 5 || *p.Max != 140 {
		t.Errorf("%+v", p)
	}
	if m := res.Findings[1].Message; m != `column "age": 1 of 7 values are outside [0, 120]` {
		t.Error(m)
	}
}

func TestRulesThatMakeNoSenseAreErrors(t *testing.T) {
	path := write(t, "people.csv", people)
	for want, opts := range map[string]ScanOptions{
		"missing closing":    {Expect: []Expectation{{Name: "e", Matches: map[string]string{"id": "("}}}},
		"invalid repeat":     {Expect: []Expectation{{Name: "e", Matches: map[string]string{"id": "(a{1000}){1000}"}}}},
		"unknown type":       {Expect: []Expectation{{Name: "e", Type: map[string]Type{"id": "int"}}}},
		"the unknown type":   {Columns: []ColumnRule{{Name: "id", Type: "int"}}},
		"no time given":      {Expect: []Expectation{{Name: "e", Freshness: &Freshness{"seen", 1}}}},
		"fraction 0":         {SplitDir: "d", Splits: []Split{{Name: "a"}}},
		"fraction NaN":       {SplitDir: "d", Splits: []Split{{Name: "a", Fraction: math.NaN()}}},
		"sum to 1.1":         {SplitDir: "d", Splits: []Split{{Name: "a", Fraction: 0.6}, {Name: "b", Fraction: 0.5}}},
		"both named":         {},
		"differ in group_by": {SplitDir: "d", Splits: []Split{{Name: "a", Fraction: 0.5}, {Name: "b", Fraction: 0.5, Seed: 1}}},
		"no name":            {SplitDir: "d", Splits: []Split{{Name: "../a", Fraction: 0.5}}},
		"no folder":          {Splits: []Split{{Name: "a", Fraction: 0.5}}},
		"grouped by":         {SplitDir: filepath.Join(t.TempDir(), "d"), Splits: []Split{{Name: "a", Fraction: 0.5, GroupBy: "gone"}}},
	} {
		p := path
		if want == "both named" {
			p = write(t, "twice.csv", "a,a\n")
		}
		_, err := Scan(context.Background(), []string{p}, opts)
		wantError(t, err, want)
	}
}

// splitRows returns the lines of each split file, header apart.
func splitRows(t testing.TB, res *Result) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for name, s := range res.Splits {
		b, err := os.ReadFile(s.Path)
		must(t, err)
		lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
		out[name] = lines[1:]
		if int64(len(out[name])) != s.Rows {
			t.Errorf("split %s has %d rows, %d told", name, len(out[name]), s.Rows)
		}
	}
	return out
}

func TestRowsKeepTheirSide(t *testing.T) {
	splits := []Split{{Name: "train", Fraction: 0.7}, {Name: "valid", Fraction: 0.2}, {Name: "test", Fraction: 0.1}}
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 300).Draw(rt, "rows")
		rows := make([]string, n)
		for i := range rows {
			rows[i] = fmt.Sprintf("%d,n%d,", i, i%9)
		}
		scan := func(header string, rows []string) map[string][]string {
			path := write(t, "x.csv", header+"\n"+strings.Join(rows, "\n")+"\n")
			dir, err := os.MkdirTemp(t.TempDir(), "")
			must(t, err)
			res, err := Scan(context.Background(), []string{path}, ScanOptions{Splits: splits, SplitDir: dir})
			must(t, err)
			return splitRows(t, res)
		}
		before := scan("id,name,gone", rows)
		more := append(slices.Clone(rows), "appended,x,")
		after := scan("id,name,gone", rapid.Permutation(more).Draw(rt, "order"))
		// Another order of the columns, and no null column, is the same row.
		other := make([]string, n)
		for i := range rows {
			other[i] = fmt.Sprintf("n%d,%d", i%9, i)
		}
		swapped := scan("name,id", other)
		total := 0
		for name, lines := range before {
			total += len(lines)
			for _, l := range lines {
				id, rest, _ := strings.Cut(l, ",")
				if !slices.Contains(after[name], l) {
					rt.Fatalf("row %s left %s when data was appended and shuffled", l, name)
				}
				if !slices.Contains(swapped[name], strings.TrimSuffix(rest, ",")+","+id) {
					rt.Fatalf("row %s left %s when the columns were swapped", l, name)
				}
			}
		}
		if total != n {
			rt.Fatalf("%d of %d rows are in a split", total, n)
		}
	})
}

func TestASplitOfOneColumnKeepsItsEmptyRows(t *testing.T) {
	dir := t.TempDir()
	res, err := Scan(t.Context(), []string{write(t, "a.csv", "v\n1\n\"\"\n2\n\"\"\n")}, ScanOptions{Splits: []Split{{Name: "all", Fraction: 1}}, SplitDir: dir})
	must(t, err)
	_, rows, err := readAll(t, []string{res.Splits["all"].Path}, Options{})
	must(t, err)
	if want := [][]string{{"1"}, {"∅"}, {"2"}, {"∅"}}; !slices.EqualFunc(rows, want, slices.Equal) {
		t.Errorf("rows %q, want %q", rows, want)
	}
}

// TestSplitHashIsFixed pins the hash: a change would move rows of every data set in use.
func TestSplitHashIsFixed(t *testing.T) {
	b := &Batch{Rows: 1, Columns: []Column{{Name: "b", Type: String, Str: []string{"x"}}, {Name: "a", Type: Integer, Num: []float64{7}}, {Name: "c", Type: Integer, Num: []float64{0}, Nulls: []bool{true}}}}
	var e rowEncoder
	e.prepare(b)
	form, nulls := e.encode(b, 0)
	if string(form) != "\x01a\x017\x01b\x01x" || nulls != 1 {
		t.Fatalf("%q", form)
	}
	for seed, want := range map[int64]uint64{0: 0xad196d6ef7290899, 1: 0x80b348bfe6555abb} {
		if h, _ := splitHash(nil, seed, form); h != want {
			t.Errorf("seed %d: %#x", seed, h)
		}
	}
}

func TestSplitFilesAreTheSameBytesEachTime(t *testing.T) {
	inputs := map[string]string{
		"x.csv":     "id,text\n1,plain\n2,\"with, comma and \"\"quotes\"\"\"\n3,\"two\nlines\"\n4,NA\n5,\n",
		"x.csv.gz":  "id,text\n1,plain\n2,x\n",
		"x.jsonl":   `{"id":1, "text":"a"}` + "\n" + `{"text":"b","id":2.50}` + "\n",
		"x.parquet": string(parquetBytes(t, pairs(2000))),
	}
	for name, content := range inputs {
		t.Run(name, func(t *testing.T) {
			path := write(t, name, content)
			var digests []string
			for range 2 {
				dir := t.TempDir()
				res, err := Scan(context.Background(), []string{path}, ScanOptions{Splits: []Split{{Name: "all", Fraction: 1, Seed: 3}}, SplitDir: dir})
				must(t, err)
				s := res.Splits["all"]
				format, _ := FormatOf(name)
				if s.Path != filepath.Join(dir, "all."+format) || s.Rows != res.Rows {
					t.Errorf("%+v", s)
				}
				digests = append(digests, s.Digest)
				// The split holds what the input holds.
				_, want, err := readAll(t, []string{path}, Options{})
				must(t, err)
				_, got, err := readAll(t, []string{s.Path}, Options{})
				must(t, err)
				if d := cmp.Diff(want, got); d != "" {
					t.Error(d)
				}
				left, err := os.ReadDir(dir)
				must(t, err)
				if len(left) != 1 {
					t.Errorf("%d files in the folder", len(left))
				}
			}
			if digests[0] != digests[1] {
				t.Error(digests)
			}
		})
	}
}

func TestAFailedScanLeavesNoSplit(t *testing.T) {
	dir := t.TempDir()
	rows := strings.Repeat("1,2\n", 5000)
	_, err := Scan(context.Background(), []string{write(t, "x.csv", "a,b\n"+rows+"1\n")}, ScanOptions{Splits: []Split{{Name: "train", Fraction: 1}}, SplitDir: dir})
	wantError(t, err, "row 5001")
	left, err := os.ReadDir(dir)
	must(t, err)
	if len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

func TestKeySetFindsDuplicatesAcrossSpilledRuns(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		keys := rapid.SliceOfN(rapid.IntRange(0, 40), 0, 200).Draw(rt, "keys")
		dir, err := os.MkdirTemp(t.TempDir(), "")
		must(t, err)
		s := keySet{max: 7, dir: dir}
		first := map[int]int64{}
		want := map[int64]int64{}
		for i, k := range keys {
			must(t, s.add(keyEntry{key: keyOf([]byte{byte(k)}), row: int64(i)}))
			if f, ok := first[k]; ok {
				want[int64(i)] = f
			} else {
				first[k] = int64(i)
			}
		}
		got := map[int64]int64{}
		must(t, s.duplicates(func(f, again keyEntry) { got[again.row] = f.row }))
		must(t, s.close())
		if d := cmp.Diff(want, got); d != "" {
			rt.Fatal(d)
		}
		left, err := os.ReadDir(dir)
		must(t, err)
		if len(left) != 0 {
			rt.Fatal("the spill file is left behind")
		}
	})
}

func TestDuplicatesAcrossFilesNameBothPlaces(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.csv"), filepath.Join(dir, "b.csv")
	must(t, os.WriteFile(a, []byte("id\n1\n2\n"), 0o600))
	must(t, os.WriteFile(b, []byte("id\n3\n2\n"), 0o600))
	res, err := Scan(context.Background(), []string{b, a}, ScanOptions{Expect: []Expectation{{Name: "e", Unique: []string{"id"}}}})
	must(t, err)
	if d := cmp.Diff([]SampleRow{{2, b, "same as row 2 of " + a}}, res.Findings[0].Samples); d != "" {
		t.Error(d)
	}
}

func TestProfileIsRightAndSurvivesJSON(t *testing.T) {
	var b strings.Builder
	b.WriteString("n,c,mixed,t\n")
	for i := range 10_000 {
		fmt.Fprintf(&b, "%d,c%d,%d,2024-01-01\n", (i*7919)%10_000, i%3, i)
	}
	b.WriteString(",,word,\ninf,,,\n")
	res, err := Scan(context.Background(), []string{write(t, "x.csv", b.String())}, ScanOptions{})
	must(t, err)
	n, c, mixed, ts := res.Profile.Column("n"), res.Profile.Column("c"), res.Profile.Column("mixed"), res.Profile.Column("t")
	if n.Count != 10_001 || n.Nulls != 1 || n.Infinite != 1 || *n.Min != 0 || *n.Max != 9999 || math.Abs(*n.Mean-4999.5) > 1e-9 || math.Abs(*n.Std-2886.8956799071675) > 1e-6 {
		t.Errorf("%+v", n)
	}
	for _, q := range n.Quantiles {
		if math.Abs(q.Value-q.Q*10_000) > 100 {
			t.Errorf("quantile %g is %g", q.Q, q.Value)
		}
	}
	if math.Abs(float64(n.Distinct)-10_001) > 500 || n.Top != nil {
		t.Errorf("distinct %d, top %v", n.Distinct, n.Top)
	}
	if d := cmp.Diff([]ValueCount{{"c0", 3334}, {"c1", 3333}, {"c2", 3333}}, c.Top); d != "" || c.Distinct != 3 || c.TopError != 0 {
		t.Error(d)
	}
	if mixed.Type != String || mixed.Mean != nil || mixed.Quantiles != nil {
		t.Errorf("a column that ends as text has no mean: %+v", mixed)
	}
	if ts.Type != Timestamp || *ts.Max != 1704067200 {
		t.Errorf("%+v", ts)
	}
	text, err := json.Marshal(res.Profile)
	must(t, err)
	var back Profile
	must(t, json.Unmarshal(text, &back))
	if d := cmp.Diff(res.Profile, back); d != "" {
		t.Error(d)
	}
}

func TestTopCountsAreWithinTheirError(t *testing.T) {
	c := newTopCounter()
	truth := map[string]int64{}
	x := uint64(7)
	for range 60_000 {
		x = mix64(x)
		v := fmt.Sprint("rare", x%20_000)
		if x%4 == 0 {
			v = fmt.Sprint("often", x/4%5)
		}
		truth[v]++
		c.add(v, false)
	}
	top, bound := c.list(10)
	for i, v := range top {
		if v.Count > truth[v.Value] || v.Count+bound < truth[v.Value] {
			t.Errorf("%s counts %d ± %d, truly %d", v.Value, v.Count, bound, truth[v.Value])
		}
		if i < 5 && !strings.HasPrefix(v.Value, "often") {
			t.Errorf("place %d is %s", i, v.Value)
		}
	}
	if len(c.counts) > 2*topCap {
		t.Errorf("%d counts are kept", len(c.counts))
	}
}

func BenchmarkScanCSV(b *testing.B) {
	path := benchCSV(b, 100_000, 25)
	b.ReportAllocs()
	for b.Loop() {
		_, err := Scan(context.Background(), []string{path}, ScanOptions{
			Expect: []Expectation{{Name: "e", NotNull: []string{"*"}, MaxDuplicates: ptr(0)}}, Splits: []Split{{Name: "train", Fraction: 0.75}, {Name: "test", Fraction: 0.25}}, SplitDir: b.TempDir(),
		})
		must(b, err)
	}
}
