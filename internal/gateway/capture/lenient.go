package capture

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
)

// Python's json module writes NaN, Infinity and -Infinity, which are not
// JSON. DecodeJSON stands a marked string in for each, outside of strings
// only, and turns the marks into numbers after decoding.
var (
	markNaN    = "\x00NaN"
	markInf    = "\x00Infinity"
	markNegInf = "\x00-Infinity"
)

// DecodeJSON decodes a body as encoding/json does into an any, and accepts
// the tokens NaN, Infinity and -Infinity as the float64 values they mean.
func DecodeJSON(body []byte) (any, error) {
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return nil, fmt.Errorf("decode body: empty")
	}
	var v any
	err := json.Unmarshal(body, &v)
	if err == nil {
		return v, nil
	}
	marked, found := markNonFinite(body)
	if !found {
		return nil, fmt.Errorf("decode body: %w", err)
	}
	if err := json.Unmarshal(marked, &v); err != nil {
		return nil, fmt.Errorf("decode body: %w", err)
	}
	return unmark(v), nil
}

// markNonFinite replaces the three tokens outside of strings.
func markNonFinite(body []byte) ([]byte, bool) {
	tokens := []struct{ token, mark string }{
		{"-Infinity", `"\u0000-Infinity"`}, {"Infinity", `"\u0000Infinity"`}, {"NaN", `"\u0000NaN"`},
	}
	var out []byte
	inString, found := false, false
scan:
	for i := 0; i < len(body); i++ {
		c := body[i]
		switch {
		case inString && c == '\\' && i+1 < len(body):
			out = append(out, c, body[i+1])
			i++
			continue
		case c == '"':
			inString = !inString
		case !inString:
			for _, t := range tokens {
				if bytes.HasPrefix(body[i:], []byte(t.token)) {
					out = append(out, t.mark...)
					i += len(t.token) - 1
					found = true
					continue scan
				}
			}
		}
		out = append(out, c)
	}
	return out, found
}

// unmark turns marks into numbers, in place where it can.
func unmark(v any) any {
	switch v := v.(type) {
	case string:
		switch v {
		case markNaN:
			return math.NaN()
		case markInf:
			return math.Inf(1)
		case markNegInf:
			return math.Inf(-1)
		}
	case []any:
		for i := range v {
			v[i] = unmark(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = unmark(v[k])
		}
	}
	return v
}
