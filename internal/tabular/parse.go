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

// pow10 holds the powers of ten that float64 represents exactly.
var pow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// numeral is what parseNumber found.
type numeral struct {
	value   float64
	integer bool // written without point or exponent
	padded  bool // has a leading zero such as 007: an identifier more often than a number
}

// parseNumber reads a decimal numeral: [+-] digits [. digits] [e [+-] digits], or inf/infinity in any case. It refuses hex, underscores,
// locale separators, and finite numerals too large for float64 (1e999).
func parseNumber(s string) (numeral, bool) {
	var n numeral
	i, neg := 0, false
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		neg = s[i] == '-'
		i++
	}
	start := i
	var mant uint64
	digits, scale := 0, 0
	for ; i < len(s) && s[i]-'0' <= 9; i++ {
		if digits < 19 {
			mant = mant*10 + uint64(s[i]-'0')
		}
		digits++
	}
	whole := i - start
	n.integer = true
	n.padded = whole > 1 && s[start] == '0'
	if i < len(s) && s[i] == '.' {
		n.integer = false
		i++
		for ; i < len(s) && s[i]-'0' <= 9; i++ {
			if digits < 19 {
				mant = mant*10 + uint64(s[i]-'0')
			}
			digits++
			scale++
		}
	}
	if digits == 0 {
		return parseInf(s)
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		return parseExponent(s, i, n)
	}
	if i != len(s) {
		return n, false
	}
	// Both operands are exact below 2^53 and 10^22, so one IEEE operation rounds correctly (Clinger 1990); anything else is strconv's.
	if digits <= 19 && mant < exactInt && scale <= 22 {
		n.value = float64(mant) / pow10[scale]
		if neg {
			n.value = -n.value
		}
		return n, true
	}
	v, err := strconv.ParseFloat(s, 64)
	n.value = v
	return n, err == nil
}

// parseExponent finishes a numeral whose exponent mark stands at s[at].
func parseExponent(s string, at int, n numeral) (numeral, bool) {
	n.integer = false
	i := at + 1
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		i++
	}
	if i == len(s) {
		return n, false
	}
	for ; i < len(s); i++ {
		if s[i]-'0' > 9 {
			return n, false
		}
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
