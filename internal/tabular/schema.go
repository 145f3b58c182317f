package tabular

import "strings"

// Type is the logical type of a column.
type Type string

// The column types. Number, Integer, Timestamp and Bool are held as float64, String and Category as text.
const (
	Number    Type = "number"
	Integer   Type = "integer"
	String    Type = "string"
	Category  Type = "category"
	Bool      Type = "bool"
	Timestamp Type = "timestamp"
)

// Valid reports whether t is one of the six types.
func (t Type) Valid() bool {
	switch t {
	case Number, Integer, String, Category, Bool, Timestamp:
		return true
	}
	return false
}

// Numeric reports whether values of t are held in Column.Num.
func (t Type) Numeric() bool {
	switch t {
	case Number, Integer, Bool, Timestamp:
		return true
	}
	return false
}

// satisfies reports whether every value of type t is also a value of want: an integer is a number, and anything is text.
func (t Type) satisfies(want Type) bool {
	return t == want || want == String || want == Category || (t == Integer && want == Number)
}

// Field is one column of a schema.
type Field struct {
	Name string `json:"name"`
	Type Type   `json:"type"`
}

// Schema is the columns of a table in file order.
type Schema []Field

// Field returns the field named name.
func (s Schema) Field(name string) (Field, bool) {
	for _, f := range s {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// Names returns the column names in file order.
func (s Schema) Names() []string {
	names := make([]string, len(s))
	for i, f := range s {
		names[i] = f.Name
	}
	return names
}

// Options says how to read a table.
type Options struct {
	// Format is "csv", "jsonl" or "parquet"; empty means by file extension (a trailing .gz or .zst is looked through).
	Format string
	// Declared overrides the inferred type of the columns it names; names that the data lacks are ignored here (Scan reports them).
	Declared Schema
	// Limits bounds what a file may ask for; zero fields take the documented defaults.
	Limits Limits
	// MaxRows caps what Load keeps: above it a deterministic sample stays. 0 means DefaultMaxRows, negative means no cap.
	MaxRows int
	// TempDir holds spill files; empty means os.TempDir().
	TempDir string

	keepRows bool // Scan has splits to write
}

// DefaultMaxRows is how many rows Load keeps when Options.MaxRows is 0.
const DefaultMaxRows = 2_000_000

// Limits bounds what one table may cost. Wall time is bounded by the context. A zero field means its default.
type Limits struct {
	RowBytes   int   // encoded bytes of one row; default 16 MiB, at most 1 GiB
	FieldBytes int   // decoded bytes of one value; default 8 MiB
	NameBytes  int   // bytes of one column name; default 1,024
	Columns    int   // columns of the table; default 10,000
	Depth      int   // nesting of a JSON value or a Parquet schema; default 64
	Ratio      int   // decompressed bytes per compressed byte, judged past the first 8 MiB; default 200
	Rows       int64 // rows of the table; default 1,000,000,000
	PageBytes  int   // decompressed bytes of one Parquet page, and of a Parquet footer; default 64 MiB
	OpenBytes  int64 // decompressed bytes of all Parquet pages held at once; default 1 GiB
	SpoolBytes int64 // bytes of the temporary copy of a compressed Parquet file; default 64 GiB
}

func (l Limits) withDefaults() Limits {
	orInt := func(p *int, d int) {
		if *p <= 0 {
			*p = d
		}
	}
	orInt64 := func(p *int64, d int64) {
		if *p <= 0 {
			*p = d
		}
	}
	orInt(&l.RowBytes, 16<<20)
	orInt(&l.FieldBytes, 8<<20)
	orInt(&l.NameBytes, 1024)
	orInt(&l.Columns, 10_000)
	orInt(&l.Depth, 64)
	orInt(&l.Ratio, 200)
	orInt64(&l.Rows, 1_000_000_000)
	orInt(&l.PageBytes, 64<<20)
	orInt64(&l.OpenBytes, 1<<30)
	orInt64(&l.SpoolBytes, 64<<30)
	l.RowBytes = min(l.RowBytes, 1<<30) // positions inside a batch are 32 bits
	return l
}

// The formats.
const (
	formatCSV     = "csv"
	formatJSONL   = "jsonl"
	formatParquet = "parquet"
)

// FormatOf returns the format that the extension of path names ("csv", "jsonl", "parquet" or "" if none) and its compression ("", "gz" or "zst").
func FormatOf(path string) (format, compression string) {
	p := strings.ToLower(path)
	switch {
	case strings.HasSuffix(p, ".gz"):
		p, compression = strings.TrimSuffix(p, ".gz"), "gz"
	case strings.HasSuffix(p, ".zst"):
		p, compression = strings.TrimSuffix(p, ".zst"), "zst"
	}
	switch {
	case strings.HasSuffix(p, ".csv"):
		format = formatCSV
	case strings.HasSuffix(p, ".jsonl"), strings.HasSuffix(p, ".ndjson"):
		format = formatJSONL
	case strings.HasSuffix(p, ".parquet"), strings.HasSuffix(p, ".pq"):
		format = formatParquet
	}
	return format, compression
}
