package funcs

import (
	"errors"
	"fmt"
	"strings"

	ctyyaml "github.com/zclconf/go-cty-yaml"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// Limits of decoded text. The YAML decoder takes quadratic time and unbounded
// stack for deep documents and expands aliases without end, so what it gets is
// bounded first.
const (
	maxDecodeDepth  = 200
	maxYAMLBytes    = 1 << 20
	maxYAMLAliases  = 16
	maxAliasedBytes = 64 << 10
)

var (
	jsonDecode = checked(stdlib.JSONDecodeFunc, "JSON", checkJSON)
	yamlDecode = checked(ctyyaml.YAMLDecodeFunc, "YAML", CheckYAML)
)

// checked looks at the text before a decoder does.
func checked(f function.Function, form string, check func(s string) error) function.Function {
	look := func(args []cty.Value) error {
		v, _ := args[0].Unmark()
		if !v.IsKnown() || v.IsNull() {
			return nil
		}
		return check(v.AsString())
	}
	return function.New(&function.Spec{
		Description: f.Description(), Params: f.Params(),
		Type: func(args []cty.Value) (cty.Type, error) {
			if err := look(args); err != nil {
				return cty.NilType, err
			}
			t, err := f.ReturnTypeForValues(args)
			if err != nil {
				return t, fmt.Errorf("the text is not %s: %w", form, err)
			}
			return t, nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f.Call(args) },
	})
}

// checkJSON bounds nesting, and the exponents of numbers, which could not be
// printed again.
func checkJSON(s string) error {
	depth, digits := 0, 0
	exponent := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		if exponent = exponent && (c >= '0' && c <= '9' || c == '+' || c == '-'); exponent {
			digits++
		}
		switch {
		case digits > 4:
			return errors.New("a number has an exponent of more than three digits")
		case c == '"':
			for i++; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' {
					i++
				}
			}
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case (c == 'e' || c == 'E') && i > 0 && s[i-1] >= '0' && s[i-1] <= '9':
			exponent, digits = true, 0
		}
		if depth > maxDecodeDepth {
			return fmt.Errorf("the text is nested deeper than %d levels", maxDecodeDepth)
		}
	}
	return nil
}

// CheckYAML bounds size, nesting in both styles, and aliases. It counts
// brackets and indicators wherever they stand, so it errs on the strict side.
func CheckYAML(s string) error {
	if len(s) > maxYAMLBytes {
		return fmt.Errorf("the text has %d bytes; at most %d are decoded as YAML", len(s), maxYAMLBytes)
	}
	depth, aliases := 0, 0
	for line := range strings.SplitSeq(s, "\n") {
		indicators := (len(line) - len(strings.TrimLeft(line, " \t"))) / 2
		for i := range len(line) {
			switch line[i] {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(depth-1, 0)
			case '-', '?', ':':
				if i+1 == len(line) || line[i+1] == ' ' || line[i+1] == '\t' {
					indicators++
				}
			case '*', '&':
				if (i == 0 || strings.IndexByte(" \t[{,-:", line[i-1]) >= 0) && i+1 < len(line) && line[i+1] > ' ' {
					aliases++
				}
			}
			if depth > maxDecodeDepth || indicators > 4*maxDecodeDepth {
				return fmt.Errorf("the text is nested deeper than %d levels", maxDecodeDepth)
			}
		}
	}
	if aliases > maxYAMLAliases || aliases > 0 && len(s) > maxAliasedBytes {
		return fmt.Errorf("the text has more than %d anchors and aliases, or some and more than %d bytes", maxYAMLAliases, maxAliasedBytes)
	}
	return nil
}
