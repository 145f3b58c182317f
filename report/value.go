package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/continuo-ml/continuo/resource"
)

// valueLimit bounds the text of one value before it is cut to the line; values
// may be megabytes and a line shows the start only.
const valueLimit = 2000

const sensitiveText = "(sensitive)"

// Value renders a JSON value for people, as one would write it in HCL and on one
// line; text stands without quotes.
func Value(raw json.RawMessage) string {
	v, ok := decode(raw)
	if s, isText := v.(string); ok && isText && !isDigest(s) {
		return s
	}
	return valueText(raw)
}

// valueText renders a JSON value as one would write it in HCL, on one line.
// Digests are short, a model is its version and digest, data is its digest and
// rows: what tells one from another.
func valueText(raw json.RawMessage) string {
	v, ok := decode(raw)
	if !ok {
		return string(raw)
	}
	var b strings.Builder
	writeValue(&b, v)
	return b.String()
}

func decode(raw json.RawMessage) (any, bool) {
	if len(raw) == 0 {
		return nil, true
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, false
	}
	return v, true
}

func writeValue(b *strings.Builder, v any) {
	if b.Len() > valueLimit {
		return
	}
	switch x := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(x))
	case json.Number:
		b.WriteString(x.String())
	case string:
		writeString(b, x)
	case []any:
		writeList(b, x)
	case map[string]any:
		if s, ok := known(x); ok {
			b.WriteString(s)
			return
		}
		writeObject(b, x)
	}
}

func writeString(b *strings.Builder, s string) {
	switch {
	case s == sensitiveText, strings.HasPrefix(s, knownText):
		b.WriteString(s)
	case isDigest(s):
		b.WriteString(resource.Digest(s).Short())
	default:
		if len(s) > valueLimit {
			s = strings.ToValidUTF8(s[:valueLimit], "") + "…"
		}
		b.WriteString(quote(s))
	}
}

// quote keeps printable text readable and escapes only what a string literal
// must; control characters are left to Clean.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func writeList(b *strings.Builder, list []any) {
	b.WriteByte('[')
	for i, e := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		writeValue(b, e)
		if b.Len() > valueLimit {
			break
		}
	}
	b.WriteByte(']')
}

// writeObject leaves out attributes that are not set: absent and null mean the
// same in HCL.
func writeObject(b *strings.Builder, o map[string]any) {
	wrote := false
	for _, k := range slices.Sorted(maps.Keys(o)) {
		if o[k] == nil {
			continue
		}
		if wrote {
			b.WriteString(", ")
		} else {
			b.WriteString("{ ")
		}
		wrote = true
		name := k
		if !isName(k) {
			name = quote(k)
		}
		b.WriteString(name + " = ")
		writeValue(b, o[k])
		if b.Len() > valueLimit {
			break
		}
	}
	if !wrote {
		b.WriteString("{}")
		return
	}
	b.WriteString(" }")
}

// known renders the objects that blocks hand to each other: a model, data, or the block itself.
func known(o map[string]any) (string, bool) {
	d, ok := o["digest"].(string)
	if !ok || !isDigest(d) {
		return onlyAddress(o)
	}
	s := resource.Digest(d).Short()
	if n, ok := o["version"].(json.Number); ok {
		return "version " + n.String() + ", " + s, true
	}
	if n, ok := o["rows"].(json.Number); ok {
		if i, err := strconv.Atoi(n.String()); err == nil {
			return s + " (" + plural(i, "row") + ")", true
		}
	}
	return s, true
}

// onlyAddress renders a block of which nothing else is known yet.
func onlyAddress(o map[string]any) (string, bool) {
	for name, v := range o {
		if name != "address" && isSet(v) {
			return "", false
		}
	}
	a, ok := o["address"].(string)
	return a, ok && a != ""
}

// isSet tells an attribute that says something from one left at nothing.
func isSet(v any) bool {
	switch x := v.(type) {
	case nil:
		return false
	case bool:
		return x
	case string:
		return x != ""
	case json.Number:
		return x.String() != "0"
	case []any:
		return len(x) > 0
	case map[string]any:
		for _, e := range x {
			if e != nil {
				return true
			}
		}
		return false
	}
	return true
}

// reasonValue renders Old or New of a reason: digests short, JSON as HCL, other
// text as it is.
func reasonValue(s string) string {
	switch {
	case isDigest(s):
		return resource.Digest(s).Short()
	case s != "" && strings.ContainsAny(s[:1], `{["`) && json.Valid([]byte(s)):
		return valueText(json.RawMessage(s))
	}
	return s
}

// summarise renders a list of blocks such as thresholds as "3 blocks": their
// content is better read in the files.
func summarise(v any) string {
	list, ok := v.([]any)
	if ok && len(list) > 0 {
		if first, ok := list[0].(map[string]any); ok {
			if _, named := first["name"]; named || first["metric"] != nil {
				return blockNames(list)
			}
			return plural(len(list), "block")
		}
	}
	var b strings.Builder
	writeValue(&b, v)
	return b.String()
}

func blockNames(list []any) string {
	var names []string
	for _, e := range list {
		o, ok := e.(map[string]any)
		if !ok {
			continue
		}
		n, ok := o["name"].(string)
		if !ok {
			n = fmt.Sprint(o["metric"])
		}
		names = append(names, n)
	}
	return strings.Join(names, ", ")
}

// isDigest tells a content address, "sha256:" and 64 hex digits.
func isDigest(s string) bool {
	h, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(h) == 64 && strings.Trim(h, "0123456789abcdef") == ""
}

// isName tells what may stand as an attribute name without quotes.
func isName(s string) bool {
	for i, r := range s {
		switch {
		case r == '_', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
		case i > 0 && (r == '-' || r >= '0' && r <= '9'):
		default:
			return false
		}
	}
	return s != ""
}
