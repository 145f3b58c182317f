package tabular

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// exactInt bounds the magnitudes below which float64 holds every integer; at it, a neighbour may have been rounded.
const exactInt = 1 << 53

// isNull reports whether a CSV cell is null: empty, NA, N/A, NaN, nan, null or NULL. JSON has its own null and uses no tokens.
func isNull(s string) bool {
	switch len(s) {
	case 0:
		return true
	case 2:
		return s == "NA"
	case 3:
		return s == "NaN" || s == "nan" || s == "N/A"
	case 4:
		return s == "null" || s == "NULL"
	}
	return false
}

// numeral is what parseNumber found.
type numeral struct {
	value   float64
	integer bool // written without point or exponent
	padded  bool // has a leading zero such as 007: an identifier more often than a number
}

// pow10 holds the powers of ten up to the digits that a short numeral has.
var pow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// parseNumber reads a decimal numeral: [+-] digits [. digits] [e [+-] digits], or inf/infinity in any case. It refuses hex, underscores,
// locale separators, and finite numerals too large for float64 (1e999).
func parseNumber(s string) (n numeral, ok bool) {
	n.integer = true
	digits, scale, mantissa, short := 0, 0, uint64(0), true
	for i := range len(s) {
		switch c := s[i]; {
		case c-'0' <= 9:
			mantissa = mantissa*10 + uint64(c-'0')
			digits++
			if !n.integer {
				scale++
			}
		case (c == '+' || c == '-') && (i == 0 || s[i-1]|0x20 == 'e'):
		case c == '.':
			short = short && n.integer // a second point is for strconv to refuse
			n.integer = false
		case c|0x20 == 'e' && i > 0:
			short, n.integer = false, false
		default:
			return parseInf(s)
		}
	}
	whole := s
	if s != "" && (s[0] == '+' || s[0] == '-') {
		whole = s[1:]
	}
	n.padded = len(whole) > 1 && whole[0] == '0' && whole[1]-'0' <= 9
	// Below 10^15 mantissa and power are exact, so one IEEE operation rounds correctly (Clinger 1990), in a third of strconv's time.
	if short && digits > 0 && digits < len(pow10) {
		n.value = float64(mantissa) / pow10[scale]
		if s[0] == '-' {
			n.value = -n.value
		}
		return n, true
	}
	v, err := strconv.ParseFloat(s, 64)
	n.value = v
	return n, err == nil
}

func parseInf(s string) (numeral, bool) {
	if len(s) < 3 || len(s) > 9 {
		return numeral{}, false
	}
	t := strings.ToLower(strings.TrimLeft(s, "+-"))
	if len(s)-len(t) > 1 || (t != "inf" && t != "infinity") {
		return numeral{}, false
	}
	if s[0] == '-' {
		return numeral{value: math.Inf(-1)}, true
	}
	return numeral{value: math.Inf(1)}, true
}

// timeLayouts are the accepted timestamps; without a zone they are UTC. Fractions of a second are accepted in all of them.
var timeLayouts = [...]string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04"}

// parseTime reads a timestamp as seconds since 1970-01-01T00:00:00Z.
func parseTime(s string) (float64, bool) {
	if len(s) < 10 || len(s) > 40 || s[4] != '-' || s[7] != '-' || s[0]-'0' > 9 {
		return 0, false
	}
	if len(s) == 10 {
		t, err := time.Parse(time.DateOnly, s)
		return float64(t.Unix()), err == nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return unixSeconds(t), true
		}
	}
	return 0, false
}

func unixSeconds(t time.Time) float64 {
	return float64(t.Unix()) + float64(t.Nanosecond())/1e9
}

// inferBool reads the spellings that inference takes for a bool.
func inferBool(s string) (float64, bool) {
	switch s {
	case "true", "True", "TRUE":
		return 1, true
	case "false", "False", "FALSE":
		return 0, true
	}
	return 0, false
}

// parseAs reads s as a value of a declared type. Declared types are read more freely than inferred ones: 0 and 1 are bools, 3.0 is an
// integer, 007 is a number.
func parseAs(t Type, s string) (float64, bool) {
	switch t {
	case Number:
		n, ok := parseNumber(s)
		return n.value, ok
	case Integer:
		n, ok := parseNumber(s)
		return n.value, ok && (n.integer || (n.value == math.Trunc(n.value) && !math.IsInf(n.value, 0)))
	case Bool:
		if s == "0" || s == "1" {
			return float64(s[0] - '0'), true
		}
		return inferBool(s)
	case Timestamp:
		return parseTime(s)
	}
	return 0, true
}

// formatValue is the text of a value that had none of its own (Parquet).
func formatValue(t Type, v float64) string {
	switch t {
	case Bool:
		return strconv.FormatBool(v != 0)
	case Integer:
		if math.Abs(v) <= exactInt {
			return strconv.FormatInt(int64(v), 10)
		}
	case Timestamp:
		sec := math.Floor(v)
		// float64 resolves about a quarter of a microsecond today, so anything finer would be invented.
		micros := math.Round((v - sec) * 1e6)
		return time.Unix(int64(sec), int64(micros)*1000).UTC().Format(time.RFC3339Nano)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}
