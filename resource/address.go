package resource

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Address names one block instance: `training.churn`,
// `module.eu.training.churn["de"]`, `check.unit[0]`. It is comparable, so it
// serves as a map key. The zero Address names nothing.
type Address struct {
	// Module is the rendered module path, `module.eu.module.x["a"]`, or "".
	Module string
	// Kind is the block's type, "training".
	Kind string
	// Name is the block's label, "churn".
	Name string
	// Key is the instance key as written, `["de"]` or `[0]`, or "".
	Key string
}

// String renders the address as users write it.
func (a Address) String() string {
	s := a.Kind + "." + a.Name + a.Key
	if a.Module != "" {
		s = a.Module + "." + s
	}
	return s
}

// Arg is the address as a shell takes it for an argument: quoted where it has
// brackets and quotes, which a shell would keep for itself.
func (a Address) Arg() string {
	if s := a.String(); strings.ContainsAny(s, `["`) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return a.String()
}

// Trim is text without the address at its start, "smoke run failed" of
// "training.t: smoke run failed": an error names the address wherever it may be
// read alone, and views print it before the text anyway.
func (a Address) Trim(text string) string {
	rest, ok := strings.CutPrefix(text, a.String())
	if !ok {
		return text
	}
	if own, ok := strings.CutPrefix(rest, ": "); ok {
		return own
	}
	if own, ok := strings.CutPrefix(rest, " "); ok {
		return own
	}
	return text // another address that begins alike
}

// IsZero says whether the address names nothing.
func (a Address) IsZero() bool { return a == Address{} }

// Block is the address without its instance key: what all instances of one
// for_each share.
func (a Address) Block() Address { a.Key = ""; return a }

// Compare orders addresses by module, kind, name and key; integer keys by value.
func (a Address) Compare(b Address) int {
	if c := cmp.Compare(a.Module, b.Module); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Kind, b.Kind); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	if x, ok := intKey(a.Key); ok {
		if y, ok := intKey(b.Key); ok {
			return cmp.Compare(x, y)
		}
	}
	return cmp.Compare(a.Key, b.Key)
}

// Slug renders the address for file and object names: lower case letters,
// digits, single dots and dashes. Two addresses of one project never share a
// slug: names that collide after `_` → `-` are refused by config, and a key that
// cannot stand as it is, or might be taken for another, brings a hash with it.
func (a Address) Slug() string {
	plain := a
	plain.Key = ""
	out := plainSlug(plain.String())
	key := strings.Trim(a.Key, `[]"`)
	exact := plainKey.MatchString(key) && !strings.Contains(a.Module, "[")
	if exact && key != "" {
		out += "." + key
	}
	if !exact && (a.Key != "" || a.Module != "") || len(out) > 100 {
		out = strings.Trim(out[:min(len(out), 60)], ".-") + "." + DigestOf([]byte(a.String())).Hex()[:12]
	}
	return out
}

// plainKey are the keys that stand in a slug as they are.
var plainKey = regexp.MustCompile(`^[a-z0-9]*$`)

// plainSlug keeps letters and digits, turns `_` into `-` and everything else
// into single dots.
func plainSlug(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			b.WriteRune(r)
		case r == '_':
			b.WriteByte('-')
		case !strings.HasSuffix(b.String(), "."):
			b.WriteByte('.')
		}
	}
	return strings.Trim(b.String(), ".-")
}

// MarshalText renders the address, so that it can stand in JSON and as a key.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText parses what MarshalText wrote.
func (a *Address) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*a = Address{}
		return nil
	}
	p, err := ParseAddress(string(text))
	if err != nil {
		return err
	}
	*a = p
	return nil
}

func intKey(key string) (int, bool) {
	if len(key) < 3 || key[0] != '[' || key[1] == '"' {
		return 0, false
	}
	n, err := strconv.Atoi(key[1 : len(key)-1])
	return n, err == nil
}

// StringKey renders a for_each key as it stands in an address.
func StringKey(k string) string { return "[" + strconv.Quote(k) + "]" }

// IntKey renders a count index as it stands in an address.
func IntKey(i int) string { return "[" + strconv.Itoa(i) + "]" }

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,39}$`)

// ValidName says whether s may name a block: `[a-z][a-z0-9_-]{0,39}`.
func ValidName(s string) bool { return namePattern.MatchString(s) }

// ParseAddress reads an address as users write it. The error says what is wrong
// and shows the form that is expected.
func ParseAddress(s string) (Address, error) {
	steps, err := splitAddress(s)
	if err != nil {
		return Address{}, fmt.Errorf("%q is not an address: %w; an address looks like training.churn or module.eu.training.churn[\"de\"]", s, err)
	}
	var a Address
	a.Module, steps = modulePath(steps)
	if len(steps) != 2 || steps[0].key != "" {
		return Address{}, fmt.Errorf("%q is not an address: it needs a kind and a name; an address looks like training.churn or module.eu.training.churn[\"de\"]", s)
	}
	a.Kind, a.Name, a.Key = steps[0].name, steps[1].name, steps[1].key
	return a, nil
}

// ParseModule reads the address of a module, such as module.eu["de"].
func ParseModule(s string) (string, error) {
	steps, err := splitAddress(s)
	if err == nil {
		if module, rest := modulePath(steps); len(rest) == 0 && module != "" {
			return module, nil
		}
		err = errors.New("it names no module")
	}
	return "", fmt.Errorf("%q is not the address of a module: %w; one looks like module.eu[\"de\"]", s, err)
}

// modulePath takes the modules off the front of an address.
func modulePath(steps []addressStep) (string, []addressStep) {
	var module []string
	for len(steps) >= 2 && steps[0].name == "module" && steps[0].key == "" {
		module = append(module, "module."+steps[1].name+steps[1].key)
		steps = steps[2:]
	}
	return strings.Join(module, "."), steps
}

// WithinModule gives what follows a module's address in that of a module at or
// below it, with whether there is one: "" for the module itself, `["de"]` for an
// instance of it, ".module.x" for one inside.
func WithinModule(module, outer string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(module, outer)
	switch {
	case !ok || outer == "":
		return "", false
	case rest == "" || rest[0] == '.':
		return rest, true
	}
	return rest, rest[0] == '[' && !strings.HasSuffix(outer, "]")
}

type addressStep struct{ name, key string }

func splitAddress(s string) ([]addressStep, error) {
	var steps []addressStep
	for rest := s; ; {
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			end = len(rest)
		}
		st := addressStep{name: rest[:end]}
		if !ValidName(st.name) {
			return nil, fmt.Errorf("%q is not a name", st.name)
		}
		rest = rest[end:]
		if strings.HasPrefix(rest, "[") {
			key, n, err := addressKey(rest)
			if err != nil {
				return nil, err
			}
			st.key, rest = key, rest[n:]
		}
		steps = append(steps, st)
		if rest == "" {
			return steps, nil
		}
		if rest[0] != '.' {
			return nil, fmt.Errorf("unexpected %q", rest)
		}
		rest = rest[1:]
	}
}

// addressKey reads `["de"]` or `[0]` at the start of s and returns it rendered,
// with the number of bytes that it took.
func addressKey(s string) (string, int, error) {
	if strings.HasPrefix(s, `["`) {
		quoted, err := strconv.QuotedPrefix(s[1:])
		if err != nil || !strings.HasPrefix(s[1+len(quoted):], "]") {
			return "", 0, fmt.Errorf("the key in %q is not closed", s)
		}
		k, err := strconv.Unquote(quoted)
		if err != nil {
			return "", 0, fmt.Errorf("the key %s is not a string: %w", quoted, err)
		}
		return StringKey(k), len(quoted) + 2, nil
	}
	end := strings.IndexByte(s, ']')
	if end < 0 {
		return "", 0, fmt.Errorf("the key in %q is not closed", s)
	}
	i, err := strconv.Atoi(s[1:end])
	if err != nil || i < 0 {
		return "", 0, fmt.Errorf("the key %q is neither a quoted string nor a count index", s[1:end])
	}
	return IntKey(i), end + 1, nil
}
