package tabular

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go/deprecated"
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

// typeOfLeaf reads the logical type, or the older converted type. https://github.com/apache/parquet-format/blob/master/LogicalTypes.md
func typeOfLeaf(e *format.SchemaElement) leafType {
	switch lt := e.LogicalType.Value.(type) {
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
	if e.ConvertedType.Valid {
		switch e.ConvertedType.V {
		case deprecated.UTF8, deprecated.Enum, deprecated.Json:
			return leafType{native: String, kind: leafText}
		case deprecated.Decimal:
			return leafType{native: Number, kind: leafDecimal, scale: int(e.Scale.V)}
		case deprecated.Date:
			return leafType{native: Timestamp, kind: leafDate}
		case deprecated.TimestampMillis:
			return leafType{native: Timestamp, kind: leafTimestamp, unit: time.Millisecond}
		case deprecated.TimestampMicros:
			return leafType{native: Timestamp, kind: leafTimestamp, unit: time.Microsecond}
		case deprecated.Uint8, deprecated.Uint16, deprecated.Uint32, deprecated.Uint64:
			return leafType{native: Integer, kind: leafUnsigned}
		}
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

// checkLeafType holds the logical type to the physical types that the specification allows it; the library takes it on trust.
func checkLeafType(e *format.SchemaElement) error {
	var allowed []format.Type
	length := int32(0) // that a fixed-length array must have
	switch e.LogicalType.Value.(type) {
	case nil, *format.NullType:
		return checkConvertedType(e)
	case *format.StringType, *format.EnumType, *format.JsonType, *format.BsonType, *format.GeometryType, *format.GeographyType:
		allowed = []format.Type{format.ByteArray}
	case *format.DecimalType:
		allowed = []format.Type{format.Int32, format.Int64, format.ByteArray, format.FixedLenByteArray}
	case *format.DateType:
		allowed = []format.Type{format.Int32}
	case *format.TimeType, *format.IntType:
		allowed = []format.Type{format.Int32, format.Int64}
	case *format.TimestampType:
		allowed = []format.Type{format.Int64}
	case *format.UUIDType:
		allowed, length = []format.Type{format.FixedLenByteArray}, 16
	case *format.Float16Type:
		allowed, length = []format.Type{format.FixedLenByteArray}, 2
	}
	if !slices.Contains(allowed, e.Type.V) || (length > 0 && e.TypeLength.V != length) {
		return fmt.Errorf("the logical type %s does not fit the physical type %s; the file is damaged", e.LogicalType.String(), e.Type.V)
	}
	return checkFixed(e)
}

func checkConvertedType(e *format.SchemaElement) error {
	if !e.ConvertedType.Valid || e.LogicalType.Value != nil {
		return checkFixed(e)
	}
	var allowed []format.Type
	switch e.ConvertedType.V {
	case deprecated.UTF8, deprecated.Enum, deprecated.Json, deprecated.Bson:
		allowed = []format.Type{format.ByteArray}
	case deprecated.Decimal:
		allowed = []format.Type{format.Int32, format.Int64, format.ByteArray, format.FixedLenByteArray}
	case deprecated.Date, deprecated.TimeMillis, deprecated.Int8, deprecated.Int16, deprecated.Int32, deprecated.Uint8, deprecated.Uint16, deprecated.Uint32:
		allowed = []format.Type{format.Int32}
	case deprecated.TimeMicros, deprecated.TimestampMillis, deprecated.TimestampMicros, deprecated.Int64, deprecated.Uint64:
		allowed = []format.Type{format.Int64}
	case deprecated.Interval:
		allowed = []format.Type{format.FixedLenByteArray}
	}
	if !slices.Contains(allowed, e.Type.V) {
		return fmt.Errorf("the converted type %d does not fit the physical type %s; the file is damaged", e.ConvertedType.V, e.Type.V)
	}
	return checkFixed(e)
}

// checkFixed asks for the length of fixed-length values, without which they cannot be told apart.
func checkFixed(e *format.SchemaElement) error {
	if e.Type.V == format.FixedLenByteArray && e.TypeLength.V <= 0 {
		return errors.New("its values have a fixed length that is not told; the file is damaged")
	}
	return nil
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
