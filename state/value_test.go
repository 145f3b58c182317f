package state_test

import (
	"math/big"
	"reflect"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/state"
)

func TestEncodeValue(t *testing.T) {
	for _, tc := range []struct {
		name string
		v    cty.Value
		want string
		err  string
	}{
		{"attributes are sorted", cty.ObjectVal(map[string]cty.Value{"b": cty.True, "a": cty.NumberIntVal(1)}), `{"a":1,"b":true}`, ""},
		{"a null has no type", cty.ObjectVal(map[string]cty.Value{"a": cty.NullVal(cty.DynamicPseudoType)}), `{"a":null}`, ""},
		{"numbers are whole", cty.MustParseNumberVal("12345678901234567890123.25"), `12345678901234567890123.25`, ""},
		{"a set has one order", cty.SetVal([]cty.Value{cty.StringVal("b"), cty.StringVal("a")}), `["a","b"]`, ""},
		{"unknown parts are refused by path", cty.ObjectVal(map[string]cty.Value{"m": cty.MapVal(map[string]cty.Value{"k": cty.UnknownVal(cty.String)})}), "", `the value.m["k"] is not known yet`},
		{"marked parts are refused by path", cty.ListVal([]cty.Value{cty.StringVal("s").Mark("sensitive")}), "", "the value[0] is marked"},
		{"Go values are refused", cty.CapsuleVal(cty.Capsule("int", reflect.TypeFor[big.Int]()), big.NewInt(1)), "", "cannot be stored"},
		{"nothing is refused", cty.NilVal, "", "there is no value"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			raw, err := state.EncodeValue(tc.v)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("error %v, want %q", err, tc.err)
			}
			if string(raw) != tc.want {
				t.Errorf("got %s, want %s", raw, tc.want)
			}
		})
	}
}

func TestDecodeValue(t *testing.T) {
	obj := cty.ObjectWithOptionalAttrs(map[string]cty.Type{"a": cty.String, "n": cty.List(cty.Number)}, []string{"n"})
	for _, tc := range []struct {
		name, raw string
		t         cty.Type
		want      cty.Value
		err       string
	}{
		{"a typed value", `{"a":"x","n":[1]}`, obj, cty.ObjectVal(map[string]cty.Value{"a": cty.StringVal("x"), "n": cty.ListVal([]cty.Value{cty.NumberIntVal(1)})}), ""},
		{"an attribute that came later is null", `{"a":"x"}`, obj, cty.ObjectVal(map[string]cty.Value{"a": cty.StringVal("x"), "n": cty.NullVal(cty.List(cty.Number))}), ""},
		{"an attribute that went is dropped", `{"a":"x","old":true}`, obj, cty.ObjectVal(map[string]cty.Value{"a": cty.StringVal("x"), "n": cty.NullVal(cty.List(cty.Number))}), ""},
		{"a dynamic type takes the shape of the JSON", `{"a":[1,"x"]}`, cty.DynamicPseudoType, cty.ObjectVal(map[string]cty.Value{"a": cty.TupleVal([]cty.Value{cty.NumberIntVal(1), cty.StringVal("x")})}), ""},
		{"nothing is null", ``, cty.String, cty.NullVal(cty.String), ""},
		{"text after the value is refused", `1 2`, cty.Number, cty.NilVal, "not JSON"},
		{"another type is refused", `{"a":1}`, cty.Number, cty.NilVal, "decode value as number"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := state.DecodeValue([]byte(tc.raw), tc.t)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || !got.RawEquals(tc.want) {
				t.Errorf("got %#v, error %v, want %#v", got, err, tc.want)
			}
		})
	}
}
