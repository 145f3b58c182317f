package tabular

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func csvOf(values []string) string {
	var b strings.Builder
	b.WriteString("k,v\n")
	for _, v := range values {
		b.WriteString("x,")
		if strings.ContainsAny(v, "\",\n\r") {
			v = `"` + strings.ReplaceAll(v, `"`, `""`) + `"`
		}
		b.WriteString(v + "\n")
	}
	return b.String()
}

func TestInferredTypes(t *testing.T) {
	many := make([]string, 120)
	for i := range many {
		many[i] = fmt.Sprint("name", i%51)
	}
	few := make([]string, 120)
	for i := range few {
		few[i] = fmt.Sprint("name", i%50)
	}
	for name, c := range map[string]struct {
		values []string
		want   Type
	}{
		"integers":                              {[]string{"1", "2", "-3"}, Integer},
		"integers and numbers":                  {[]string{"1", "2.5", "3"}, Number},
		"nulls do not count":                    {[]string{"NA", "1", "", "null"}, Integer},
		"nothing but nulls":                     {[]string{"NA", ""}, String},
		"bools":                                 {[]string{"true", "False"}, Bool},
		"bools and integers":                    {[]string{"true", "1"}, String},
		"dates and times":                       {[]string{"2024-01-02", "2024-01-02T03:04:05Z", "2024-01-02 03:04:05.5"}, Timestamp},
		"dates and integers":                    {[]string{"2024-01-02", "20240102"}, String},
		"50 distinct of 120":                    {few, Category},
		"51 distinct of 120":                    {many, String},
		"two distinct of four":                  {[]string{"a", "b", "a", "b"}, Category},
		"two distinct of three":                 {[]string{"a", "b", "a"}, String},
		"zip codes with leading zeros":          {[]string{"00501", "10001"}, String},
		"numbers and one word":                  {[]string{"1", "2", "x", "2", "1", "x"}, Category},
		"a word behind a thousand and one rows": {append(make([]string, 1500), "x"), String},
	} {
		t.Run(name, func(t *testing.T) {
			schema, rows, err := readAll(t, []string{write(t, "x.csv", csvOf(c.values))}, Options{})
			must(t, err)
			if schema[1].Type != c.want || len(rows) != len(c.values) {
				t.Errorf("%s of %d rows, want %s of %d", schema[1].Type, len(rows), c.want, len(c.values))
			}
		})
	}
}

// TestSchemaDoesNotDependOnOrder shuffles the rows, over batches and files, and wants the same schema.
func TestSchemaDoesNotDependOnOrder(t *testing.T) {
	pools := [][]string{{"1", "2", "3"}, {"1", "2.5", "-1e3"}, {"true", "false"}, {"2024-01-02", "2024-01-02 10:00:00"}, {"a", "b"}, {""}, {"1", "x"}, {"true", "1"}, {"007", "1"}}
	rapid.Check(t, func(rt *rapid.T) {
		pool := rapid.SampledFrom(pools).Draw(rt, "pool")
		n := rapid.IntRange(1, 2600).Draw(rt, "rows")
		values := make([]string, n)
		for i := range values {
			values[i] = pool[mix64(uint64(i))%uint64(len(pool))]
		}
		odd := rapid.SampledFrom([]string{"", "1", "1.5", "word", "true", "2024-01-01"}).Draw(rt, "odd")
		values[rapid.IntRange(0, n-1).Draw(rt, "place")] = odd
		first, _, err := readAll(t, []string{write(t, "x.csv", csvOf(values))}, Options{})
		must(t, err)
		shuffled := rapid.Permutation(values).Draw(rt, "order")
		cut := rapid.IntRange(0, n).Draw(rt, "cut")
		a, b := write(t, "a.csv", csvOf(shuffled[:cut])), write(t, "b.csv", csvOf(shuffled[cut:]))
		again, _, err := readAll(t, []string{a, b}, Options{})
		must(t, err)
		if d := cmp.Diff(first, again); d != "" {
			rt.Fatal(d)
		}
	})
}

func TestParseNumberAgreesWithStrconv(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.OneOf(
			rapid.Map(rapid.Float64(), func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }),
			rapid.Map(rapid.Float64(), func(f float64) string { return strconv.FormatFloat(f, 'f', 6, 64) }),
			rapid.Map(rapid.Int64(), func(n int64) string { return strconv.FormatInt(n, 10) }),
			rapid.StringMatching(`[+-]?[0-9]{0,22}\.?[0-9]{0,22}(e[+-]?[0-9]{1,3})?`),
		).Draw(rt, "numeral")
		want, err := strconv.ParseFloat(s, 64)
		got, ok := parseNumber(s)
		if ok != (err == nil) && s != "NaN" {
			rt.Fatalf("%q: %v, strconv says %v", s, ok, err)
		}
		if ok && math.Float64bits(got.value) != math.Float64bits(want) {
			rt.Fatalf("%q is %v, strconv says %v", s, got.value, want)
		}
	})
}

func TestLoadReadsAgainWhenNumbersTurnOutToBeText(t *testing.T) {
	values := make([]string, 2500)
	for i := range values {
		values[i] = "1.50"
	}
	values[2400] = "n/k"
	table, err := Load(context.Background(), []string{write(t, "x.csv", csvOf(values))}, Options{})
	must(t, err)
	c := table.Column("v")
	if c.Type != Category || c.Str[0] != "1.50" || c.Str[2400] != "n/k" || len(c.Str) != 2500 || c.Num != nil {
		t.Errorf("%s %q %q", c.Type, c.Str[0], c.Str[2400])
	}
}

func TestLoadSamplesAboveTheCap(t *testing.T) {
	values := make([]string, 20_000)
	for i := range values {
		values[i] = fmt.Sprint(i)
	}
	path := write(t, "x.csv", csvOf(values))
	load := func(paths []string, rows int) *Table {
		table, err := Load(context.Background(), paths, Options{MaxRows: rows})
		must(t, err)
		return table
	}
	a := load([]string{path}, 1000)
	if a.Rows != 1000 || a.Total != 20_000 || len(a.Column("v").Num) != 1000 || len(a.Column("k").Str) != 1000 {
		t.Fatalf("%d of %d rows", a.Rows, a.Total)
	}
	if d := cmp.Diff(a.Column("v").Num, load([]string{path}, 1000).Column("v").Num); d != "" {
		t.Error("not the same twice", d)
	}
	sum := 0.0
	for i, v := range a.Column("v").Num {
		sum += v
		if i > 0 && v <= a.Column("v").Num[i-1] {
			t.Fatal("not in file order")
		}
	}
	if mean := sum / 1000; math.Abs(mean-10_000) > 600 { // 3.3 standard errors of a uniform sample
		t.Errorf("the sample's mean is %g, the table's is 10000", mean)
	}
	// Appended rows displace no more than their share.
	kept := 0
	in := map[float64]bool{}
	for _, v := range load([]string{path, write(t, "y.csv", csvOf(values[:2000]))}, 1000).Column("v").Num {
		in[v] = true
	}
	for _, v := range a.Column("v").Num {
		if in[v] {
			kept++
		}
	}
	if kept < 850 {
		t.Errorf("%d of 1000 rows stayed", kept)
	}
}

func TestFilesOfOneTable(t *testing.T) {
	a, b := write(t, "a.csv", "x,y\n1,2\n"), write(t, "b.csv", "x,y\n3,4\n")
	_, rows, err := readAll(t, []string{b, a}, Options{})
	must(t, err)
	first, second := "1", "3"
	if b < a {
		first, second = second, first
	}
	if rows[0][0] != first || rows[1][0] != second {
		t.Errorf("not in path order: %v", rows)
	}
	for content, want := range map[string]string{"x\n1\n": `"y" is missing`, "x,y,z\n1,2,3\n": `"z" is new`, "y,x\n1,2\n": `column 1 is "y" instead of "x"`} {
		other := write(t, "zz.csv", content)
		_, _, err := readAll(t, []string{a, other}, Options{})
		wantError(t, err, a, other, want)
	}
	_, _, err = readAll(t, []string{a, write(t, "b.jsonl", "{}")}, Options{})
	wantError(t, err, a, "b.jsonl: is jsonl")
	schema, rows, err := readAll(t, []string{write(t, "a.jsonl", `{"x":1}`+"\n"), write(t, "a.jsonl", `{"y":true,"x":null}`+"\n")}, Options{})
	must(t, err)
	if d := cmp.Diff(Schema{{"x", Integer}, {"y", Bool}}, schema); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([][]string{{"1"}, {"∅", "true"}}, rows); d != "" {
		t.Error(d)
	}
}

func TestJSONLinesKeepTypesApart(t *testing.T) {
	content := `{"n":1.50,"s":"12","b":true,"d":{"x":[1]},"t":"2024-01-02T03:04:05+02:00"}` + "\n\n" + `{"b":false,"n":2,"s":"13","t":"2024-01-03T00:00:00Z","e":"NA"}` + "\r\n"
	schema, rows, err := readAll(t, []string{write(t, "x.jsonl", content)}, Options{})
	must(t, err)
	want := Schema{{"n", Number}, {"s", String}, {"b", Bool}, {"d", String}, {"t", Timestamp}, {"e", String}}
	if d := cmp.Diff(want, schema); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([][]string{{"1.50", "12", "true", `{"x":[1]}`, "2024-01-02T03:04:05+02:00", "∅"}, {"2", "13", "false", "∅", "2024-01-03T00:00:00Z", "NA"}}, rows); d != "" {
		t.Error(d)
	}
}

func TestDeclaredTypesAreReadFreely(t *testing.T) {
	declared := Schema{{"a", Bool}, {"b", Integer}, {"c", Number}, {"d", String}, {"e", Timestamp}}
	table, err := Load(context.Background(), []string{write(t, "x.csv", "a,b,c,d,e\n1,3.0,007,12,2024-01-02\n0,4,inf,NA,1970-01-01\n")}, Options{Declared: declared})
	must(t, err)
	if d := cmp.Diff(declared, table.Schema); d != "" {
		t.Error(d)
	}
	got := []any{table.Column("a").Num, table.Column("b").Num, table.Column("c").Num, table.Column("d").Str, table.Column("d").Nulls, table.Column("e").Num}
	want := []any{[]float64{1, 0}, []float64{3, 4}, []float64{7, math.Inf(1)}, []string{"12", ""}, []bool{false, true}, []float64{1704153600, 0}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	r, err := Open(ctx, []string{benchCSV(t, 20_000, 5)}, Options{})
	must(t, err)
	cancel()
	_, err = drain(r)
	must(t, r.Close())
	wantError(t, err, "bench.csv", "canceled")
	late, stop := context.WithDeadline(context.Background(), time.Unix(0, 0))
	defer stop()
	_, err = Open(late, []string{"x.csv"}, Options{})
	wantError(t, err, "deadline")
}

func TestRowsHaveALimit(t *testing.T) {
	path := write(t, "x.csv", csvOf(make([]string, 2500)))
	wantError(t, readFile(t, path, Limits{Rows: 2400}), path, "row 2401", "limit rows")
	must(t, readFile(t, path, Limits{Rows: 2500}))
}
