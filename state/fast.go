package state

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/continuo-ml/continuo/resource"
)

// Records and run keys are most of what a snapshot decodes: encoding/json took
// two thirds of its time on 10,000 of them. This reader knows the plain form
// that marshal writes and cuts strings out of one copy. Whatever it does not
// know it leaves to encoding/json, so it can be slow but not wrong.

// errSlow asks for encoding/json.
var errSlow = errors.New("not in plain form")

// scanner reads compact JSON from s.
type scanner struct {
	s string
	i int
}

func (c *scanner) skip(b byte) bool {
	if c.i < len(c.s) && c.s[c.i] == b {
		c.i++
		return true
	}
	return false
}

// object calls field for each key, with the scanner at its value.
func (c *scanner) object(field func(key string) error) error {
	if !c.skip('{') {
		return errSlow
	}
	for first := true; !c.skip('}'); first = false {
		if !first && !c.skip(',') {
			return errSlow
		}
		key, err := c.text()
		if err != nil {
			return err
		}
		if !c.skip(':') {
			return errSlow
		}
		if err := field(key); err != nil {
			return err
		}
	}
	return nil
}

// text reads a string; one without escapes costs nothing.
func (c *scanner) text() (string, error) {
	if !c.skip('"') {
		return "", errSlow
	}
	start, ascii := c.i, true
	for ; c.i < len(c.s); c.i++ {
		switch b := c.s[c.i]; {
		case b == '"':
			out := c.s[start:c.i]
			c.i++
			if !ascii && !utf8.ValidString(out) {
				return "", errSlow
			}
			return out, nil
		case b == '\\':
			return c.escaped(start)
		case b < ' ':
			return "", errSlow
		case b >= utf8.RuneSelf:
			ascii = false
		}
	}
	return "", errSlow
}

// escaped reads on from the first escape of a string. Values that are JSON
// themselves stand in strings: they have escaped quotes, and nothing else.
func (c *scanner) escaped(start int) (string, error) {
	if out, ok := c.quotes(start); ok {
		return out, nil
	}
	for ; c.i < len(c.s); c.i++ {
		if c.s[c.i] == '\\' {
			c.i++
		} else if c.s[c.i] == '"' {
			c.i++
			var out string
			err := json.Unmarshal([]byte(c.s[start-1:c.i]), &out)
			return out, err
		}
	}
	return "", errSlow
}

// quotes reads a string of plain characters, escaped quotes and backslashes; on
// anything else it moves nothing.
func (c *scanner) quotes(start int) (string, bool) {
	end := c.i
	for ; end < len(c.s) && c.s[end] != '"'; end++ {
		switch b := c.s[end]; {
		case b == '\\':
			if end++; end >= len(c.s) || c.s[end] != '"' && c.s[end] != '\\' {
				return "", false
			}
		case b < ' ' || b >= utf8.RuneSelf:
			return "", false
		}
	}
	if end >= len(c.s) {
		return "", false
	}
	var out strings.Builder
	out.Grow(end - start)
	from := start
	for i := c.i; i < end; i++ {
		if c.s[i] == '\\' {
			out.WriteString(c.s[from:i])
			i++
			from = i // the escaped character itself
		}
	}
	out.WriteString(c.s[from:end])
	c.i = end + 1
	return out.String(), true
}

// raw reads one value of any kind and returns its text.
func (c *scanner) raw() (string, error) {
	start, depth := c.i, 0
	for c.i < len(c.s) {
		switch c.s[c.i] {
		case '"':
			if _, err := c.text(); err != nil {
				return "", err
			}
		case '{', '[':
			depth++
			c.i++
		case '}', ']', ',':
			if depth == 0 {
				return c.s[start:c.i], nil
			}
			if c.s[c.i] != ',' {
				depth--
			}
			c.i++
		default:
			c.i++
		}
		if depth == 0 && c.i < len(c.s) && (c.s[c.i] == ',' || c.s[c.i] == '}' || c.s[c.i] == ']') {
			return c.s[start:c.i], nil
		}
	}
	return "", errSlow
}

func (c *scanner) message(into *json.RawMessage) error {
	text, err := c.raw()
	if err != nil {
		return err
	}
	raw := []byte(text)
	if text == "null" || strings.TrimSpace(text) != text || !json.Valid(raw) {
		return errSlow
	}
	*into = raw
	return nil
}

func (c *scanner) integer(into *int) error {
	text, err := c.raw()
	if err != nil {
		return err
	}
	if *into, err = strconv.Atoi(text); err != nil || text[0] == '+' || len(text) > 1 && strings.TrimLeft(text, "-")[0] == '0' {
		return errSlow
	}
	return nil
}

func (c *scanner) boolean(into *bool) error {
	text, err := c.raw()
	if err == nil && text != "true" && text != "false" {
		err = errSlow
	}
	*into = text == "true"
	return err
}

func (c *scanner) time(into *time.Time) error {
	text, err := c.raw()
	if err != nil {
		return err
	}
	return into.UnmarshalJSON([]byte(text))
}

func (c *scanner) parts(into *resource.Parts) error {
	m := make(resource.Parts, 8)
	*into = m
	return c.object(func(key string) (err error) {
		m[key], err = c.text()
		return err
	})
}

func (c *scanner) addresses(into *[]resource.Address) error {
	if !c.skip('[') {
		return errSlow
	}
	out := []resource.Address{}
	for first := true; !c.skip(']'); first = false {
		if !first && !c.skip(',') {
			return errSlow
		}
		text, err := c.text()
		if err != nil {
			return err
		}
		a, err := plainAddress(text)
		if err != nil {
			return err
		}
		out = append(out, a)
	}
	*into = out
	return nil
}

// plainAddress cuts an address without instance keys, which needs no grammar.
func plainAddress(s string) (resource.Address, error) {
	dot := strings.LastIndexByte(s, '.')
	if dot < 0 || strings.IndexByte(s, '[') >= 0 {
		return resource.Address{}, errSlow
	}
	a := resource.Address{Name: s[dot+1:], Kind: s[:dot]}
	if dot := strings.LastIndexByte(a.Kind, '.'); dot >= 0 {
		a.Module, a.Kind = a.Kind[:dot], a.Kind[dot+1:]
		if !strings.HasPrefix(a.Module, "module.") {
			return resource.Address{}, errSlow
		}
	}
	if !resource.ValidName(a.Kind) || !resource.ValidName(a.Name) {
		return resource.Address{}, errSlow
	}
	return a, nil
}

// value leaves one field to encoding/json.
func (c *scanner) value(into any) error {
	text, err := c.raw()
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), into)
}

// setText reads a string into a field of a string type.
func setText[T ~string](c *scanner, into *T) error {
	s, err := c.text()
	*into = T(s)
	return err
}

func decodeRecord(payload []byte, addr resource.Address) (*Record, error) {
	r := &Record{Address: addr}
	c := &scanner{s: string(payload)}
	if err := c.object(func(key string) error { return c.recordField(r, key) }); err == nil && c.i == len(c.s) {
		return r, nil
	}
	r = &Record{Address: addr}
	return r, json.Unmarshal(payload, &storedRecord{Record: r})
}

func (c *scanner) recordField(r *Record, key string) error {
	switch key {
	case "provider":
		return setText(c, &r.Provider)
	case "phase":
		return setText(c, &r.Phase)
	case "parts":
		return c.parts(&r.Parts)
	case "inputs":
		return setText(c, &r.Inputs)
	case "policy":
		return c.parts(&r.Policy)
	case "judge":
		return c.parts(&r.Judge)
	case "rows":
		return c.value(&r.Rows)
	case "spec":
		return c.message(&r.Spec)
	case "outputs":
		return c.message(&r.Outputs)
	case "verdict":
		return c.value(&r.Verdict)
	case "ref":
		return c.message(&r.Ref)
	case "deps":
		return c.addresses(&r.Deps)
	case "seen":
		return c.value(&r.Seen)
	case "run":
		return setText(c, &r.Run)
	case "version":
		return c.integer(&r.Version)
	case "attempt":
		return c.integer(&r.Attempt)
	case "failed_inputs":
		return setText(c, &r.FailedInputs)
	case "message":
		return setText(c, &r.Message)
	case "protected":
		return c.boolean(&r.Protected)
	case "created":
		return c.time(&r.Created)
	case "updated":
		return c.time(&r.Updated)
	}
	return errSlow
}

func decodeRunKey(payload []byte) (k RunKey, err error) {
	c := &scanner{s: string(payload)}
	if err := c.object(func(key string) error { return c.runKeyField(&k, key) }); err == nil && c.i == len(c.s) {
		return k, nil
	}
	k = RunKey{}
	return k, json.Unmarshal(payload, &k)
}

func (c *scanner) runKeyField(k *RunKey, key string) error {
	switch key {
	case "id":
		return setText(c, &k.ID)
	case "inputs":
		return setText(c, &k.Inputs)
	case "phase":
		return setText(c, &k.Phase)
	case "trigger":
		return c.boolean(&k.Trigger)
	case "version":
		return c.integer(&k.Version)
	case "started":
		return c.time(&k.Started)
	case "finished":
		return c.time(&k.Finished)
	}
	return errSlow
}
