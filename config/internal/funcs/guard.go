package funcs

import (
	"fmt"
	"math"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// SensitiveMark is carried by every value that came from something sensitive.
type SensitiveMark struct{}

// guard refuses a call whose result could be larger than a value may be. size
// is an upper bound of the result in bytes, from known arguments.
func guard(f function.Function, lim Limits, size func(args []cty.Value) float64) function.Function {
	return function.New(&function.Spec{
		Description: f.Description(),
		Params:      f.Params(),
		VarParam:    f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			if err := within(args, lim, size); err != nil {
				return cty.NilType, err
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if err := within(args, lim, size); err != nil {
				return cty.NilVal, err
			}
			return f.Call(args)
		},
	})
}

func within(args []cty.Value, lim Limits, size func(args []cty.Value) float64) error {
	for _, a := range args {
		if !a.IsWhollyKnown() {
			return nil
		}
	}
	plain := make([]cty.Value, len(args))
	for i, a := range args {
		plain[i], _ = a.UnmarkDeep()
	}
	if n := size(plain); n > float64(lim.ValueBytes) {
		return fmt.Errorf("the result could be larger than %d MiB", lim.ValueBytes>>20)
	}
	return nil
}

// text is the string in v, or "".
func text(v cty.Value) string {
	if v.Type() == cty.String && !v.IsNull() {
		return v.AsString()
	}
	return ""
}

// weight is about the number of bytes of all texts in v.
func weight(v cty.Value) float64 {
	switch {
	case v.IsNull():
		return 4
	case v.Type() == cty.String:
		return float64(len(v.AsString()))
	case v.CanIterateElements():
		n := 0.0
		for it := v.ElementIterator(); it.Next(); {
			_, e := it.Element()
			n += 1 + weight(e)
		}
		return n
	}
	return 32
}

// formatSize adds up the widths and precisions in a format, and the arguments
// once for each verb.
func formatSize(args []cty.Value) float64 {
	spec := text(args[0])
	total, number := float64(len(spec)), 0.0
	in := false
	verbs := 0.0
	for _, c := range spec {
		switch {
		case c == '%':
			in, number = !in, 0
			verbs++
		case in && c >= '0' && c <= '9':
			number = math.Min(number*10+float64(c-'0'), 1e12)
			continue
		case in && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'):
			in = false
		}
		total += number
		number = 0
	}
	rows := 1.0
	heaviest := 0.0
	for _, a := range args[1:] {
		heaviest = math.Max(heaviest, weight(a))
		if a.CanIterateElements() {
			rows = math.Max(rows, float64(a.LengthInt()))
		}
	}
	return total*rows + verbs*heaviest
}

func indentSize(args []cty.Value) float64 {
	n := 0.0
	if args[0].Type() == cty.Number && !args[0].IsNull() {
		n, _ = args[0].AsBigFloat().Float64()
	}
	return float64(len(text(args[1]))) + n*float64(1+strings.Count(text(args[1]), "\n"))
}

func joinSize(args []cty.Value) float64 {
	n, elems := 0.0, 0.0
	for _, a := range args[1:] {
		n += weight(a)
		if !a.IsNull() && a.CanIterateElements() {
			elems += float64(a.LengthInt())
		}
	}
	return n + elems*float64(len(text(args[0])))
}

// patternSize refuses patterns that are huge by themselves; RE2 is linear in
// the text, and bounds what repetition can unfold to.
func patternSize(args []cty.Value) float64 {
	if len(text(args[0])) > 64<<10 {
		return math.Inf(1)
	}
	return 40 * float64(len(text(args[1])))
}

func replaceSize(args []cty.Value) float64 {
	str, old, repl := text(args[0]), text(args[1]), text(args[2])
	if len(old) > 1 && strings.HasPrefix(old, "/") && strings.HasSuffix(old, "/") {
		return float64(len(str)) + float64(len(str)+1)*float64(len(repl))*float64(1+strings.Count(repl, "$")*len(str))
	}
	n := float64(strings.Count(str, old))
	return float64(len(str)) + n*float64(len(repl))
}

func splitSize(args []cty.Value) float64 {
	if text(args[0]) == "" {
		return 48 * float64(len(text(args[1])))
	}
	return 48*float64(strings.Count(text(args[1]), text(args[0]))) + float64(len(text(args[1])))
}

func productSize(args []cty.Value) float64 {
	n := 48.0
	for _, a := range args {
		if !a.IsNull() && a.CanIterateElements() {
			n *= float64(a.LengthInt())
		}
	}
	return n * float64(len(args))
}

// replaceFunc replaces a text, or matches of a pattern between slashes.
var replaceFunc = function.New(&function.Spec{
	Description: "replaces every occurrence of a text, or of a /pattern/, by another",
	Params: []function.Parameter{
		{Name: "str", Type: cty.String}, {Name: "substr", Type: cty.String}, {Name: "replace", Type: cty.String},
	},
	Type: function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		old := args[1].AsString()
		if len(old) > 1 && strings.HasPrefix(old, "/") && strings.HasSuffix(old, "/") {
			return stdlib.RegexReplace(args[0], cty.StringVal(old[1:len(old)-1]), args[2])
		}
		return stdlib.Replace(args[0], args[1], args[2])
	},
})
