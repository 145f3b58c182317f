package tabular

import "math"

// How types are inferred. Each value has a class: none (null), bool, integer, number, timestamp or text. The class of a column is the
// join of its values' classes: none joins with anything, integer joins with number to number, and any other pair joins to text. The join
// is commutative, so the final schema depends on the set of values and never on their order or on batch boundaries. While a file is being
// read, a column has the join of what has been seen, and Open has already seen the first batch (1,000 rows, or fewer very long ones).
// At the end a text column whose distinct values are at most 50 and at most half of its non-null values is a category, and a column
// with no value at all is a string. An integer with a leading zero (007) is text, as it is an identifier.

const (
	maxCategories    = 50
	categoryShareDiv = 2 // distinct × 2 ≤ values
)

type class uint8

const (
	classNone class = iota
	classBool
	classInteger
	classNumber
	classTime
	classText
)

func join(a, b class) class {
	switch {
	case a == b || b == classNone:
		return a
	case a == classNone:
		return b
	case a == classInteger && b == classNumber, a == classNumber && b == classInteger:
		return classNumber
	}
	return classText
}

// kind is how the format itself spelled a cell: CSV says nothing, JSON tells strings from numbers.
type kind uint8

const (
	kindBare   kind = iota // CSV
	kindNull               // JSON null, or an absent key
	kindString             // JSON string
	kindNumber
	kindBool
	kindNested // JSON object or array, kept as its text
)

// classify returns the class and the value of one non-null cell. hint is what the column has been so far and is tried first.
func classify(s string, k kind, hint class) (class, float64) {
	if k == kindNested {
		return classText, 0
	}
	if k == kindBare || k == kindNumber {
		if n, ok := parseNumber(s); ok && !n.padded {
			if n.integer {
				return classInteger, n.value
			}
			return classNumber, n.value
		}
		if k == kindNumber || hint == classNumber || hint == classInteger {
			return classText, 0
		}
	}
	if k == kindBare || k == kindBool {
		if v, ok := inferBool(s); ok {
			return classBool, v
		}
	}
	if v, ok := parseTime(s); ok && k != kindBool {
		return classTime, v
	}
	return classText, 0
}

// inference is what is known of one column across batches.
type inference struct {
	name     string
	declared Type // empty when the type is inferred
	class    class
	values   int64               // non-null values seen
	distinct map[string]struct{} // distinct texts; nil once there are more than maxCategories
}

func newInference(name string, declared Schema) *inference {
	inf := &inference{name: name, distinct: map[string]struct{}{}}
	if f, ok := declared.Field(name); ok {
		inf.declared = f.Type
		inf.distinct = nil
	}
	return inf
}

// batchType is the type of the column in the batch at hand: final knowledge is not needed to hold values.
func (inf *inference) batchType() Type {
	if inf.declared != "" {
		return inf.declared
	}
	switch inf.class {
	case classBool:
		return Bool
	case classInteger:
		return Integer
	case classNumber:
		return Number
	case classTime:
		return Timestamp
	}
	if inf.class == classText && inf.distinct != nil && int64(len(inf.distinct))*categoryShareDiv <= inf.values {
		return Category
	}
	return String
}

func (inf *inference) note(s string) {
	inf.values++
	if inf.distinct == nil {
		return
	}
	if _, ok := inf.distinct[s]; !ok {
		if len(inf.distinct) == maxCategories {
			inf.distinct = nil
			return
		}
		inf.distinct[s] = struct{}{}
	}
}

// cells is one column of a batch as a source hands it over: text with optional kinds, or values of a native type.
type cells struct {
	text  []string
	kinds []kind // nil for CSV

	native Type // Parquet: the type that the file declares; text is nil
	nulls  []bool
	num    []float64
	str    []string
	exact  map[int]string
}

func (c *cells) null(i int) bool {
	if c.kinds != nil {
		return c.kinds[i] == kindNull
	}
	return isNull(c.text[i])
}

func (c *cells) kind(i int) kind {
	if c.kinds != nil {
		return c.kinds[i]
	}
	return kindBare
}

// column turns a source's cells into a typed column, widening what is known of it. buf is reused for the values.
func (inf *inference) column(c *cells, rows int, buf *colBuffer) Column {
	if c.native != "" {
		return inf.nativeColumn(c, rows, buf)
	}
	col := Column{Name: inf.name, text: c.text}
	if inf.declared != "" {
		inf.declaredColumn(&col, c, rows, buf)
		return col
	}
	if inf.class != classText && !inf.inferNumeric(&col, c, rows, buf) {
		col = Column{Name: inf.name, text: c.text}
	}
	if inf.class == classText || inf.class == classNone {
		inf.inferText(&col, c, rows, buf)
	}
	col.Type = inf.batchType()
	return col
}

// inferNumeric fills col with numbers; it reports false as soon as the column turns out to be text.
func (inf *inference) inferNumeric(col *Column, c *cells, rows int, buf *colBuffer) bool {
	num := buf.nums(rows)
	for i := range rows {
		if c.null(i) {
			buf.setNull(col, i, rows)
			num[i] = 0
			continue
		}
		s := c.text[i]
		cl, v := classify(s, c.kind(i), inf.class)
		if cl != inf.class {
			if inf.class = join(inf.class, cl); inf.class == classText {
				return false
			}
		}
		num[i] = v
		if cl == classInteger && math.Abs(v) >= exactInt {
			col.setExact(i, s)
		}
	}
	// Counted only now: a batch that ends as text is counted by inferText, and nothing may be counted twice.
	for i := range rows {
		if !col.IsNull(i) {
			inf.note(c.text[i])
		}
	}
	if inf.class != classNone {
		col.Num = num
	}
	return true
}

func (inf *inference) inferText(col *Column, c *cells, rows int, buf *colBuffer) {
	col.Str = c.text
	for i := range rows {
		if c.null(i) {
			if !col.IsNull(i) {
				buf.setNull(col, i, rows)
			}
			continue
		}
		inf.note(c.text[i])
	}
	buf.blankNulls(col, rows)
}

func (inf *inference) declaredColumn(col *Column, c *cells, rows int, buf *colBuffer) {
	col.Type = inf.declared
	if !inf.declared.Numeric() {
		col.Str = c.text
		for i := range rows {
			if c.null(i) {
				buf.setNull(col, i, rows)
			}
		}
		buf.blankNulls(col, rows)
		return
	}
	col.Num = buf.nums(rows)
	for i := range rows {
		col.Num[i] = 0
		if c.null(i) {
			buf.setNull(col, i, rows)
			continue
		}
		buf.parseDeclared(col, i, rows, c.text[i])
	}
}

// nativeColumn adopts typed values, or reads them again as the declared type through their text.
func (inf *inference) nativeColumn(c *cells, rows int, buf *colBuffer) Column {
	src := Column{Name: inf.name, Type: c.native, Nulls: c.nulls, Num: c.num, Str: c.str, Exact: c.exact}
	if inf.declared == "" {
		if c.str != nil {
			inf.class = classText
			for i := range rows {
				if !src.IsNull(i) {
					inf.note(c.str[i])
				}
			}
			src.Type = inf.batchType()
		} else {
			inf.class = classOf(c.native)
		}
		return src
	}
	if inf.declared == c.native || (!inf.declared.Numeric() && c.str != nil) || (inf.declared == Number && c.native == Integer) {
		src.Type = inf.declared
		return src
	}
	col := Column{Name: inf.name, Type: inf.declared}
	text := make([]string, rows)
	for i := range rows {
		text[i] = src.Text(i)
	}
	col.text = text
	if inf.declared.Numeric() {
		col.Num = buf.nums(rows)
	} else {
		col.Str = text
	}
	for i := range rows {
		if src.IsNull(i) {
			buf.setNull(&col, i, rows)
			text[i] = ""
		} else if inf.declared.Numeric() {
			buf.parseDeclared(&col, i, rows, text[i])
		}
	}
	return col
}

func classOf(t Type) class {
	switch t {
	case Number:
		return classNumber
	case Integer:
		return classInteger
	case Bool:
		return classBool
	case Timestamp:
		return classTime
	}
	return classText
}

func (c *Column) setExact(i int, s string) {
	if c.Exact == nil {
		c.Exact = map[int]string{}
	}
	c.Exact[i] = s
}

// colBuffer is the memory of one column, reused from batch to batch.
type colBuffer struct {
	num   []float64
	nulls []bool
	str   []string
}

func (b *colBuffer) nums(rows int) []float64 {
	if cap(b.num) < rows {
		b.num = make([]float64, rows)
	}
	return b.num[:rows]
}

func (b *colBuffer) setNull(col *Column, i, rows int) {
	if col.Nulls == nil {
		if cap(b.nulls) < rows {
			b.nulls = make([]bool, rows)
		}
		col.Nulls = b.nulls[:rows]
		clear(col.Nulls)
	}
	col.Nulls[i] = true
}

// blankNulls gives a text column its own values where some are null, so that a null token is never taken for a value.
func (b *colBuffer) blankNulls(col *Column, rows int) {
	if col.Nulls == nil {
		return
	}
	if cap(b.str) < rows {
		b.str = make([]string, rows)
	}
	str := b.str[:rows]
	for i := range rows {
		str[i] = col.text[i]
		if col.Nulls[i] {
			str[i] = ""
		}
	}
	col.Str = str
}

func (b *colBuffer) parseDeclared(col *Column, i, rows int, s string) {
	v, ok := parseAs(col.Type, s)
	if !ok {
		b.setNull(col, i, rows)
		col.Num[i] = 0
		col.Invalid = append(col.Invalid, i)
		return
	}
	col.Num[i] = v
	if col.Type == Integer && math.Abs(v) >= exactInt {
		col.setExact(i, s)
	}
}
