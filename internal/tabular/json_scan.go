package tabular

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonScanner walks one line of valid UTF-8 as RFC 8259 JSON without recursion.
type jsonScanner struct {
	s     string
	at    int
	depth int // deepest nesting allowed inside a value
}

func (p *jsonScanner) space() {
	for p.at < len(p.s) && (p.s[p.at] == ' ' || p.s[p.at] == '\t' || p.s[p.at] == '\r') {
		p.at++
	}
}

func (p *jsonScanner) peek() byte {
	if p.at < len(p.s) {
		return p.s[p.at]
	}
	return 0
}

func (p *jsonScanner) take(b byte) bool {
	if p.peek() == b && p.at < len(p.s) {
		p.at++
		return true
	}
	return false
}

// rest returns up to n bytes from here, for a message.
func (p *jsonScanner) rest(n int) string {
	if p.at == len(p.s) {
		return "the end of the line"
	}
	return p.s[p.at:min(len(p.s), p.at+n)]
}

// value reads one value: the decoded text of a string, the source text of anything else.
func (p *jsonScanner) value() (string, kind, error) {
	switch b := p.peek(); {
	case b == '"':
		s, err := p.str()
		return s, kindString, err
	case b == '{' || b == '[':
		s, err := p.nested()
		return s, kindNested, err
	case b == '-' || b-'0' <= 9:
		s, err := p.number()
		return s, kindNumber, err
	}
	for _, lit := range [...]struct {
		text string
		kind kind
	}{{"null", kindNull}, {"true", kindBool}, {"false", kindBool}} {
		if strings.HasPrefix(p.s[p.at:], lit.text) {
			p.at += len(lit.text)
			if lit.kind == kindNull {
				return "", kindNull, nil
			}
			return lit.text, lit.kind, nil
		}
	}
	return "", 0, fmt.Errorf("no JSON value at %s; write null for a missing one (NaN is not JSON)", clip(p.rest(20)))
}

func (p *jsonScanner) digits() bool {
	from := p.at
	for p.at < len(p.s) && p.s[p.at]-'0' <= 9 {
		p.at++
	}
	return p.at > from
}

func (p *jsonScanner) number() (string, error) {
	from := p.at
	p.take('-')
	lead := p.at
	ok := p.digits()
	if p.at-lead > 1 && p.s[lead] == '0' {
		ok = false
	}
	if ok && p.take('.') {
		ok = p.digits()
	}
	if ok && (p.peek() == 'e' || p.peek() == 'E') {
		p.at++
		if !p.take('+') {
			p.take('-')
		}
		ok = p.digits()
	}
	if !ok {
		p.at = from
		return "", fmt.Errorf("no JSON number at %s", clip(p.rest(20)))
	}
	return p.s[from:p.at], nil
}

// nested reads an object or array as text. Its end is found by counting, its depth is judged, and encoding/json judges the rest.
func (p *jsonScanner) nested() (string, error) {
	from, open := p.at, 0
	for p.at < len(p.s) {
		switch p.s[p.at] {
		case '{', '[':
			if open++; open > p.depth {
				return "", limitf("depth", "the value is nested deeper than %d", p.depth)
			}
		case '}', ']':
			open--
		case '"':
			if _, err := p.str(); err != nil {
				return "", err
			}
			continue
		}
		p.at++
		if open == 0 {
			text := p.s[from:p.at]
			if !json.Valid([]byte(text)) {
				return "", fmt.Errorf("the nested value %s is not JSON", clip(text))
			}
			return text, nil
		}
	}
	return "", errors.New("a nested value is not closed before the end of the line")
}

// str reads a string literal and returns its decoded text.
func (p *jsonScanner) str() (string, error) {
	p.at++
	from := p.at
	for i := from; i < len(p.s); i++ {
		switch b := p.s[i]; {
		case b == '"':
			p.at = i + 1
			return p.s[from:i], nil
		case b == '\\':
			return p.escaped(from, i)
		case b < 0x20:
			return "", fmt.Errorf("a string holds the control character %#02x; escape it", b)
		}
	}
	return "", errors.New("a string is not closed before the end of the line")
}

// escaped finishes a string that started at from and has its first backslash at i.
func (p *jsonScanner) escaped(from, i int) (string, error) {
	out := append([]byte(nil), p.s[from:i]...)
	for i < len(p.s) {
		b := p.s[i]
		switch {
		case b == '"':
			p.at = i + 1
			return string(out), nil
		case b < 0x20:
			return "", fmt.Errorf("a string holds the control character %#02x; escape it", b)
		case b != '\\':
			out = append(out, b)
			i++
			continue
		}
		if i+1 == len(p.s) {
			break
		}
		const plain, meant = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
		if j := strings.IndexByte(plain, p.s[i+1]); j >= 0 {
			out = append(out, meant[j])
			i += 2
			continue
		}
		r, n, err := unicodeEscape(p.s[i:])
		if err != nil {
			return "", err
		}
		out = utf8.AppendRune(out, r)
		i += n
	}
	return "", errors.New("a string is not closed before the end of the line")
}

// unicodeEscape reads \uXXXX, or a pair of them that is one character, from the start of s.
func unicodeEscape(s string) (rune, int, error) {
	first, ok := hex4(s)
	if !ok {
		return 0, 0, fmt.Errorf("a string holds the unknown escape %s", clip(s[:min(len(s), 6)]))
	}
	if !utf16.IsSurrogate(first) {
		return first, 6, nil
	}
	second, ok := hex4(s[6:])
	if r := utf16.DecodeRune(first, second); ok && r != utf8.RuneError {
		return r, 12, nil
	}
	return 0, 0, fmt.Errorf("a string holds the lone surrogate %s, which is no character; write it as UTF-8", clip(s[:6]))
}

func hex4(s string) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(s[2:6], 16, 16)
	return rune(v), err == nil
}
