package planner

import (
	"math/big"
	"strconv"
	"testing"

	"github.com/zclconf/go-cty/cty"
	"pgregory.net/rapid"
)

func TestDecimalsPrintAsTheirShortestText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`-?[0-9]{1,18}\.[0-9]{1,24}`).Draw(t, "decimal")
		x := rapid.Float64().Draw(t, "float")
		third, err := cty.ParseNumberVal(text)
		if err != nil {
			t.Fatal(err)
		}
		third = third.Divide(cty.NumberIntVal(3))
		for _, v := range []cty.Value{cty.MustParseNumberVal(text), cty.NumberFloatVal(x), third, cty.MustParseNumberVal(strconv.FormatFloat(x, 'f', -1, 64))} {
			f := v.AsBigFloat()
			if got, want := decimal(f), f.Text('f', -1); got != want {
				t.Fatalf("decimal: %s, want %s", got, want)
			}
		}
	})
}

func BenchmarkDecimal(b *testing.B) {
	f := cty.MustParseNumberVal("0.85").AsBigFloat()
	for name, text := range map[string]func(*big.Float) string{"decimal": decimal, "big": func(f *big.Float) string { return f.Text('f', -1) }} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				text(f)
			}
		})
	}
}
