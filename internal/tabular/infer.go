package tabular

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

// column turns a source's cells into a typed column, widening what is known of it.
func (inf *inference) column(c *cells, rows int) Column {
	col := Column{Name: inf.name, text: c.text}
	switch {
	case c.native != "":
		return inf.nativeColumn(c, rows)
	case inf.declared != "":
		col.read(inf.declared, rows, c.null)
	default:
		inf.infer(&col, c, rows)
	}
	return col
}

// infer fills col with numbers until it turns out to be text.
func (inf *inference) infer(col *Column, c *cells, rows int) {
	if inf.class != classText {
		col.Num = make([]float64, rows)
	}
	for i := range rows {
		switch {
		case c.null(i):
			col.setNull(i, rows)
			continue
		case inf.class != classText:
			var class class
			class, col.Num[i] = classify(c.text[i], c.kind(i), inf.class)
			inf.class = join(inf.class, class)
		}
		inf.note(c.text[i])
	}
	if inf.class == classText || inf.class == classNone {
		col.Num = nil
		col.setText(rows)
	}
	col.Type = inf.batchType()
}

// nativeColumn adopts typed values, or reads them again as the declared type through their text.
func (inf *inference) nativeColumn(c *cells, rows int) Column {
	src := Column{Name: inf.name, Type: c.native, Nulls: c.nulls, Num: c.num, Str: c.str, exact: c.exact}
	switch {
	case inf.declared == "" && c.str != nil:
		inf.class = classText
		for i := range rows {
			if !src.IsNull(i) {
				inf.note(c.str[i])
			}
		}
		src.Type = inf.batchType()
	case inf.declared == "":
		inf.class = classOf(c.native)
	case inf.declared == c.native, !inf.declared.Numeric() && c.str != nil, inf.declared == Number && c.native == Integer:
		src.Type = inf.declared
	default:
		col := Column{Name: inf.name, text: make([]string, rows)}
		for i := range rows {
			col.text[i] = src.Text(i)
		}
		col.read(inf.declared, rows, src.IsNull)
		return col
	}
	return src
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

// read fills c from its text with values of a declared type; null tells the rows that have none.
func (c *Column) read(t Type, rows int, null func(i int) bool) {
	c.Type = t
	if t.Numeric() {
		c.Num = make([]float64, rows)
	}
	for i := range rows {
		if null(i) {
			c.setNull(i, rows)
		} else if t.Numeric() {
			var ok bool
			if c.Num[i], ok = parseAs(t, c.text[i]); !ok {
				c.Num[i] = 0
				c.setNull(i, rows)
				c.Invalid = append(c.Invalid, i)
			}
		}
	}
	if !t.Numeric() {
		c.setText(rows)
	}
}

func (c *Column) setNull(i, rows int) {
	if c.Nulls == nil {
		c.Nulls = make([]bool, rows)
	}
	c.Nulls[i] = true
}

// setText gives a text column its values: its own ones where some are null, so that a null token is never taken for a value.
func (c *Column) setText(rows int) {
	c.Str = c.text
	if c.Nulls == nil {
		return
	}
	c.Str = make([]string, rows)
	for i, null := range c.Nulls {
		if !null {
			c.Str[i] = c.text[i]
		}
	}
}
