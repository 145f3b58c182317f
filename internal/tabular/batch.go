package tabular

import (
	"slices"

	"github.com/parquet-go/parquet-go"
)

// Batch is up to BatchRows rows of one file as columns. It is valid until the next call of Reader.Next; the values of its columns stay valid.
type Batch struct {
	Rows    int
	Columns []Column
	File    string // path of the file that the rows come from
	Row     int64  // 1-based data row, in File, of the batch's first row

	lines []string      // JSON Lines: the exact source line of each row
	rows  []parquet.Row // Parquet: the rows as the file holds them

	schema *parquet.Schema // Parquet: the file's schema
}

// Column is one column of a batch or a table. Where Nulls[i] is set, Num[i] is 0 and Str[i] is empty.
type Column struct {
	Name  string
	Type  Type
	Nulls []bool // nil when no value is null
	// Num holds number, integer, bool (0 or 1) and timestamp (Unix seconds); it may hold ±Inf. Nil for text.
	Num []float64
	// Str holds string and category. Nil for the other types.
	Str []string
	// Invalid lists the rows whose text is not a value of the declared type; they are null here.
	Invalid []int

	text  []string       // the source text of every cell; nil for Parquet
	exact map[int]string // Parquet: by row, the text of values that float64 cannot hold exactly (integers beyond 2^53, nanoseconds)
}

// IsNull reports whether row i is null.
func (c *Column) IsNull(i int) bool { return c.Nulls != nil && c.Nulls[i] }

// Text returns row i as the source spells it. For Parquet, which has no spelling, numbers are in Go's shortest form, timestamps in RFC 3339.
func (c *Column) Text(i int) string {
	if c.text != nil {
		return c.text[i]
	}
	if c.Str != nil {
		return c.Str[i]
	}
	if s, ok := c.exact[i]; ok {
		return s
	}
	if c.IsNull(i) {
		return ""
	}
	return formatValue(c.Type, c.Num[i])
}

// Column returns the column named name, or nil.
func (b *Batch) Column(name string) *Column { return named(b.Columns, name) }

func named(columns []Column, name string) *Column {
	i := slices.IndexFunc(columns, func(c Column) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &columns[i]
}
