package tabular

import (
	"fmt"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// leafType is how a leaf's values are read.
type leafType struct {
	native Type
	unit   time.Duration // of an integer timestamp
	scale  int           // of a decimal
	kind   leafKind
}

type leafKind uint8

const (
	leafPlain    leafKind = iota
	leafUnsigned          // an unsigned integer
	leafDecimal
	leafTimestamp
	leafDate
	leafUUID
	leafFloat16
	leafText  // promised to be UTF-8
	leafBytes // text if it is UTF-8, else base64
)

// typeOfLeaf reads the logical type, or the one that the library makes of an older converted type.
// https://github.com/apache/parquet-format/blob/master/LogicalTypes.md
func typeOfLeaf(e *format.SchemaElement, t parquet.Type) leafType {
	logical := e.LogicalType.Value
	if l := t.LogicalType(); logical == nil && l != nil {
		logical = l.Value
	}
	switch lt := logical.(type) {
	case *format.DecimalType:
		return leafType{native: Number, kind: leafDecimal, scale: int(lt.Scale)}
	case *format.DateType:
		return leafType{native: Timestamp, kind: leafDate}
	case *format.TimestampType:
		return leafType{native: Timestamp, kind: leafTimestamp, unit: unitOf(lt.Unit)}
	case *format.IntType:
		if !lt.IsSigned {
			return leafType{native: Integer, kind: leafUnsigned}
		}
		return leafType{native: Integer}
	case *format.UUIDType:
		return leafType{native: String, kind: leafUUID}
	case *format.Float16Type:
		return leafType{native: Number, kind: leafFloat16}
	case *format.StringType, *format.EnumType, *format.JsonType:
		return leafType{native: String, kind: leafText}
	}
	switch e.Type.V {
	case format.Boolean:
		return leafType{native: Bool}
	case format.Int32, format.Int64:
		return leafType{native: Integer}
	case format.Int96:
		return leafType{native: Timestamp, kind: leafTimestamp}
	case format.Float, format.Double:
		return leafType{native: Number}
	}
	return leafType{native: String, kind: leafBytes}
}

// setTypes gives the leaves their types, and holds what the library takes their values for to what the schema says they are, which it takes on trust: a text in a column of
// integers would be read from memory that is not there.
func setTypes(leaves []parquetLeaf, root *parquet.Column) error {
	types := leafTypes(root, nil)
	if len(types) != len(leaves) {
		return fmt.Errorf("the library sees %d columns, not %d", len(types), len(leaves))
	}
	for i, t := range types {
		e := &leaves[i].element
		leaves[i].leafType = typeOfLeaf(e, t)
		if _, null := e.LogicalType.Value.(*format.NullType); null {
			continue // of no type, and so never read as one
		}
		if kind := format.Type(t.Kind()); kind != e.Type.V || (kind == format.FixedLenByteArray && t.Length() != int(e.TypeLength.V)) {
			return fmt.Errorf("column %s: the type %s does not fit the physical type %s; the file is damaged", clip(leaves[i].name), t, e.Type.V)
		}
	}
	return nil
}

func leafTypes(c *parquet.Column, out []parquet.Type) []parquet.Type {
	if c.Leaf() {
		return append(out, c.Type())
	}
	for _, child := range c.Columns() {
		out = leafTypes(child, out)
	}
	return out
}

func unitOf(u format.TimeUnit) time.Duration {
	switch u.Value.(type) {
	case *format.MilliSeconds:
		return time.Millisecond
	case *format.MicroSeconds:
		return time.Microsecond
	}
	return time.Nanosecond
}
