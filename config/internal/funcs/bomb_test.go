package funcs

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"
)

func TestDecodersSurviveDeepAndRepetitiveText(t *testing.T) {
	laughs := "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
	for i := range 12 {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 9), ","))
	}
	for name, c := range map[string][2]string{
		"deep json":      {"jsondecode", strings.Repeat("[", 1_000_000)},
		"deep json ends": {"jsondecode", strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000)},
		"deep yaml":      {"yamldecode", strings.Repeat("[", 500_000)},
		"deep yaml ends": {"yamldecode", strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)},
		"deep dashes":    {"yamldecode", strings.Repeat("- ", 100_000)},
		"question marks": {"yamldecode", strings.Repeat("? ", 100_000)},
		"large":          {"yamldecode", strings.Repeat("a", 2<<20)},
		"aliases":        {"yamldecode", laughs},
		"number":         {"jsondecode", "1e999999999"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			v, diags := eval(t, c[0]+"(x)", map[string]cty.Value{"x": cty.StringVal(c[1])})
			if !diags.HasErrors() {
				t.Errorf("accepted: %.100s", v.GoString())
			}
			if took := time.Since(start); took > time.Minute {
				t.Errorf("took %s: that is a hang", took)
			}
		})
	}
}

func TestOrdinaryTextIsDecoded(t *testing.T) {
	for _, src := range []string{
		`jsondecode("{\"a\": \"[[[\\\"\", \"n\": 1e10, \"h\": \"12e456789\"}")`, `jsondecode("[1E+2, -1e-5]")`,
		`yamldecode("a: &x [1]\nb: *x\n")`, `yamldecode("- - 1\n- {a: [b]}\n")`, `yamldecode("text: \"a ! b & c\"")`,
	} {
		if _, diags := eval(t, src, nil); diags.HasErrors() {
			t.Errorf("%s: %s", src, diags)
		}
	}
}
