package tabular

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"
)

// scalar is one decoded value.
type scalar struct {
	num   float64
	str   string
	exact string // the text of a number that num does not hold exactly
}

// decodeColumn turns the values of a batch's rows into cells; bad is the row that an error is about.
func decodeColumn(leaf *parquetLeaf, rows [][]parquet.Value, t valueDecoder) (c cells, bad int, err error) {
	c = cells{native: t.native}
	if leaf.maxRep > 0 {
		c.native = String
	}
	if c.native.Numeric() {
		c.num = make([]float64, len(rows))
	} else {
		c.str = make([]string, len(rows))
	}
	for i, values := range rows {
		if leaf.maxRep > 0 {
			text, null, err := listText(leaf, t, values)
			if err != nil {
				return c, i, err
			}
			c.set(i, scalar{str: text}, null)
			continue
		}
		v := values[0]
		if v.IsNull() {
			c.set(i, scalar{}, true)
			continue
		}
		s, err := t.decode(v)
		if err != nil {
			return c, i, err
		}
		c.set(i, s, math.IsNaN(s.num))
	}
	return c, 0, nil
}

func (c *cells) set(i int, s scalar, null bool) {
	if null {
		if c.nulls == nil {
			c.nulls = make([]bool, max(len(c.num), len(c.str)))
		}
		c.nulls[i] = true
		return
	}
	if c.num == nil {
		c.str[i] = s.str
		return
	}
	c.num[i] = s.num
	if s.exact != "" {
		if c.exact == nil {
			c.exact = map[int]string{}
		}
		c.exact[i] = s.exact
	}
}

// valueDecoder reads the values of one column chunk.
type valueDecoder struct {
	leafType
	texts  map[*byte]string // text by place in the dictionary, which the map keeps alive
	shared int              // most entries of texts: the size of the dictionary
	limits Limits
}

// decode reads one non-null value.
func (t valueDecoder) decode(v parquet.Value) (scalar, error) {
	switch v.Kind() {
	case parquet.Boolean:
		if v.Boolean() {
			return scalar{num: 1}, nil
		}
		return scalar{}, nil
	case parquet.Int32:
		if t.kind == leafUnsigned {
			return t.integer(int64(v.Uint32())), nil
		}
		return t.integer(int64(v.Int32())), nil
	case parquet.Int64:
		return t.integer(v.Int64()), nil
	case parquet.Int96:
		return int96Time(v.Int96()), nil
	case parquet.Float:
		// The shortest decimal of the float32, so that 0.1 stays 0.1.
		num, err := strconv.ParseFloat(strconv.FormatFloat(float64(v.Float()), 'g', -1, 32), 64)
		return scalar{num: num}, err
	case parquet.Double:
		return scalar{num: v.Double()}, nil
	}
	b := v.ByteArray()
	if len(b) > t.limits.FieldBytes {
		return scalar{}, limitf("field bytes", "the value has %d bytes, more than %d", len(b), t.limits.FieldBytes)
	}
	return t.bytes(b)
}

func (t leafType) integer(n int64) scalar {
	switch t.kind {
	case leafDecimal:
		return decimal(big.NewInt(n), t.scale)
	case leafDate:
		return scalar{num: float64(n) * 86400}
	case leafTimestamp:
		unit := int64(max(t.unit, 1))
		perSecond := int64(time.Second) / unit
		sec, part := n/perSecond, n%perSecond
		if part < 0 {
			sec, part = sec-1, part+perSecond
		}
		return timestamp(sec, part*unit)
	case leafUnsigned:
		s := scalar{num: float64(uint64(n))}
		if uint64(n) >= exactInt {
			s.exact = strconv.FormatUint(uint64(n), 10)
		}
		return s
	}
	s := scalar{num: float64(n)}
	if n >= exactInt || n <= -exactInt {
		s.exact = strconv.FormatInt(n, 10)
	}
	return s
}

// int96Time reads the legacy timestamp: nanoseconds of the day, and the Julian day. 2440588 is 1970-01-01.
func int96Time(v deprecated.Int96) scalar {
	nanos := int64(uint64(v[0]) | uint64(v[1])<<32)
	days := int64(int32(v[2])) - 2440588
	return timestamp(days*86400+nanos/1e9, nanos%1e9)
}

func timestamp(sec, nanos int64) scalar {
	s := scalar{num: float64(sec) + float64(nanos)/1e9}
	if nanos%1000 != 0 {
		s.exact = time.Unix(sec, nanos).UTC().Format(time.RFC3339Nano)
	}
	return s
}

func decimal(n *big.Int, scale int) scalar {
	if scale < 0 || scale > 1000 {
		return scalar{num: math.NaN()}
	}
	r := new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil))
	num, exact := r.Float64()
	s := scalar{num: num}
	if !exact {
		s.exact = r.FloatString(scale)
	}
	return s
}

func (t valueDecoder) bytes(b []byte) (scalar, error) {
	switch {
	case t.kind == leafDecimal:
		n := new(big.Int).SetBytes(b)
		if len(b) > 0 && b[0]&0x80 != 0 { // two's complement
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
		return decimal(n, t.scale), nil
	case t.kind == leafFloat16 && len(b) == 2:
		return scalar{num: float16(binary.LittleEndian.Uint16(b))}, nil
	case t.kind == leafUUID && len(b) == 16:
		h := hex.EncodeToString(b)
		return scalar{str: h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]}, nil
	case t.native != String:
		return scalar{}, fmt.Errorf("a value of %d bytes is no %s; the file is damaged", len(b), t.native)
	case len(b) == 0:
		return scalar{}, nil
	}
	// Rows that share a dictionary's value share its memory, and so its text: a dictionary of one long value cannot become a million copies.
	key := unsafe.SliceData(b)
	if s, ok := t.texts[key]; ok && len(s) == len(b) {
		return scalar{str: s}, nil
	}
	s := string(b)
	if !utf8.Valid(b) {
		if t.kind == leafText {
			return scalar{}, fmt.Errorf("the text %s is not UTF-8", clip(s))
		}
		return scalar{str: "base64:" + base64.StdEncoding.EncodeToString(b)}, nil
	}
	if len(t.texts) < t.shared {
		t.texts[key] = s
	}
	return scalar{str: s}, nil
}

// float16 reads an IEEE 754 half.
func float16(h uint16) float64 {
	sign, exp, frac := float64(1), int(h>>10&0x1F), float64(h&0x3FF)
	if h>>15 == 1 {
		sign = -1
	}
	switch exp {
	case 0:
		return sign * math.Ldexp(frac, -24)
	case 31:
		if frac != 0 {
			return math.NaN()
		}
		return sign * math.Inf(1)
	}
	return sign * math.Ldexp(1024+frac, exp-25)
}

// listText renders a repeated leaf's values in one row as a JSON array, flat whatever the nesting.
func listText(leaf *parquetLeaf, t valueDecoder, values []parquet.Value) (text string, null bool, err error) {
	elementNull := leaf.maxDef // the definition level of a null element, if elements may be null
	if leaf.element.RepetitionType.V == format.Optional {
		elementNull--
	}
	if len(values) == 1 && values[0].IsNull() && values[0].DefinitionLevel() < elementNull {
		return "[]", leaf.optional && values[0].DefinitionLevel() == 0, nil
	}
	out := []byte{'['}
	for i, v := range values {
		if i > 0 {
			out = append(out, ',')
		}
		switch {
		case v.IsNull():
			out = append(out, "null"...)
		default:
			s, err := t.decode(v)
			if err != nil {
				return "", false, err
			}
			if out, err = s.appendJSON(out, t.native); err != nil {
				return "", false, err
			}
		}
		if len(out) > t.limits.FieldBytes {
			return "", false, limitf("field bytes", "the list takes more than %d bytes", t.limits.FieldBytes)
		}
	}
	return string(append(out, ']')), false, nil
}

func (s scalar) appendJSON(out []byte, t Type) ([]byte, error) {
	switch {
	case t == Number || t == Integer:
		if math.IsNaN(s.num) || math.IsInf(s.num, 0) {
			return append(out, "null"...), nil
		}
		if s.exact != "" {
			return append(out, s.exact...), nil
		}
		return append(out, formatValue(t, s.num)...), nil
	case t == Bool:
		return append(out, formatValue(t, s.num)...), nil
	case t == Timestamp && s.exact == "":
		s.str = formatValue(t, s.num)
	case t == Timestamp:
		s.str = s.exact
	}
	b, err := json.Marshal(s.str)
	return append(out, b...), err
}
