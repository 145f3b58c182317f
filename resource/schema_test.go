package resource

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"
)

type inner struct {
	Name string   `ml:"name,label"`
	Min  *float64 `ml:"min" doc:"Least value."`
}

type window struct {
	Requests int           `ml:"requests,min=1"`
	Duration time.Duration `ml:"duration"`
}

type common struct {
	Timeout time.Duration `ml:"timeout,policy,default=10s"`
}

type sample struct {
	common
	Command []string          `ml:"command,required,input,probe" doc:"What runs."`
	Params  any               `ml:"params,input=params"`
	Env     map[string]string `ml:"env,input"`
	Window  *window           `ml:"window"`
	Inputs  map[string]any    `ml:"inputs,input=data"`
	Rules   []inner           `ml:"rule,block,judge"`
	Secret  string            `ml:"secret,sensitive"`
	Port    int               `ml:"port,immutable,min=0,max=65535"`
	Method  string            `ml:"method,default=auto" enum:"auto|manual"`
	Untold  string
}

func TestASchemaIsReadOffAStruct(t *testing.T) {
	s, err := SchemaOf(sample{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range s.Attrs {
		names = append(names, a.Name)
	}
	if got := strings.Join(names, " "); got != "command env inputs method params port secret timeout window" {
		t.Fatalf("attributes: %s", got)
	}
	cmd := s.Attr("command")
	if !cmd.Required || !cmd.Probe || cmd.Role != RoleInput || cmd.Code != ReasonConfigChanged || cmd.Type.FriendlyName() != "list of string" {
		t.Errorf("command: %+v", cmd)
	}
	if p := s.Attr("params"); p.Code != ReasonParamsChanged || p.Type != cty.DynamicPseudoType {
		t.Errorf("params: %+v", p)
	}
	if p := s.Attr("port"); !p.Immutable || *p.Max != 65535 || p.Role != RoleSpec {
		t.Errorf("port: %+v", p)
	}
	if d := s.Attr("timeout"); !d.Duration || d.Role != RolePolicy || d.Default.AsString() != "10s" {
		t.Errorf("timeout: %+v", d)
	}
	if m := s.Attr("method"); !reflect.DeepEqual(m.Enum, []string{"auto", "manual"}) {
		t.Errorf("method: %+v", m)
	}
	b := s.Block("rule")
	if b == nil || !b.Many || b.Label != "name" || b.Schema.Attr("min").Role != RoleJudge {
		t.Errorf("a block's attributes take over its role: %+v", b)
	}
	if s.Attr("untold") != nil || s.Attr("nothing") != nil || s.Block("window") != nil {
		t.Error("what has no tag, or is no block, stays out")
	}
}

func TestAStructThatCannotStandInHCLIsRefused(t *testing.T) {
	for name, v := range map[string]any{
		"a channel": struct {
			C chan int `ml:"c"`
		}{},
		"an unknown option": struct {
			S string `ml:"s,nonsense"`
		}{},
		"an unknown cause": struct {
			S string `ml:"s,input=moon"`
		}{},
		"a block of strings": struct {
			B []string `ml:"b,block"`
		}{},
		"a default of a list": struct {
			L []string `ml:"l,default=x"`
		}{},
		"a bound in words": struct {
			N int `ml:"n,min=few"`
		}{},
	} {
		if _, err := SchemaOf(v); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestDecodeFillsTheStruct(t *testing.T) {
	v := cty.ObjectVal(map[string]cty.Value{
		"command": cty.ListVal([]cty.Value{cty.StringVal("a"), cty.StringVal("b")}),
		"params":  cty.ObjectVal(map[string]cty.Value{"epochs": cty.NumberIntVal(3), "rate": cty.NumberFloatVal(0.5), "deep": cty.TupleVal([]cty.Value{cty.True, cty.NullVal(cty.String)})}),
		"env":     cty.MapVal(map[string]cty.Value{"A": cty.StringVal("1")}),
		"window":  cty.ObjectVal(map[string]cty.Value{"requests": cty.NumberIntVal(7), "duration": cty.StringVal("2d")}),
		"inputs":  cty.NullVal(cty.DynamicPseudoType),
		"rule":    cty.TupleVal([]cty.Value{cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal("x"), "min": cty.NumberFloatVal(1.5)})}),
		"timeout": cty.StringVal("1m30s"), "port": cty.NumberIntVal(80).Mark("secret"),
	})
	var got sample
	if err := Decode(v, &got); err != nil {
		t.Fatal(err)
	}
	min := 1.5
	want := sample{
		common: common{Timeout: 90 * time.Second}, Command: []string{"a", "b"}, Port: 80, Env: map[string]string{"A": "1"},
		Params: map[string]any{"epochs": int64(3), "rate": 0.5, "deep": []any{true, nil}},
		Window: &window{Requests: 7, Duration: 48 * time.Hour}, Rules: []inner{{Name: "x", Min: &min}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func TestDecodeNeverLetsADriverSeeHalfASpec(t *testing.T) {
	for path, v := range map[string]cty.Value{
		"command":    cty.ObjectVal(map[string]cty.Value{"command": cty.UnknownVal(cty.List(cty.String))}),
		"command[1]": cty.ObjectVal(map[string]cty.Value{"command": cty.TupleVal([]cty.Value{cty.StringVal("a"), cty.UnknownVal(cty.String)})}),
		"params":     cty.ObjectVal(map[string]cty.Value{"params": cty.ObjectVal(map[string]cty.Value{"x": cty.UnknownVal(cty.Number)})}),
	} {
		var s sample
		err := Decode(v, &s)
		if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

func TestEncodeGivesOneTypeWhateverTheContent(t *testing.T) {
	empty, err := Encode(sample{})
	if err != nil {
		t.Fatal(err)
	}
	full, err := Encode(sample{Env: map[string]string{"a": "b"}, Window: &window{Requests: 1}, Command: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"command", "env", "window", "timeout"} {
		if !empty.GetAttr(name).Type().Equals(full.GetAttr(name).Type()) {
			t.Errorf("%s: %#v and %#v", name, empty.GetAttr(name).Type(), full.GetAttr(name).Type())
		}
	}
	if full.GetAttr("window").GetAttr("requests").AsBigFloat().String() != "1" {
		t.Errorf("window: %#v", full.GetAttr("window"))
	}
	if _, err := Encode(struct {
		X float64 `ml:"x"`
	}{math.NaN()}); err == nil || !strings.Contains(err.Error(), "x") {
		t.Errorf("NaN: %v", err)
	}
}

func TestGoValuesSurviveTheRoundTrip(t *testing.T) {
	in := map[string]any{"a": []any{int64(1), 2.5, "x", true, nil}, "b": map[string]any{}}
	v, err := FromGo(in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := ToGo(v)
	if err != nil || !reflect.DeepEqual(in, out) {
		t.Fatalf("got %v, %v", out, err)
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{"30s": 30 * time.Second, "1h30m": 90 * time.Minute, "30d": 720 * time.Hour, "2w": 336 * time.Hour, "0.5d": 12 * time.Hour, "0s": 0} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "-1s", "-3d", "9999999h", "9999999d", "1e9w", "NaNd", "soon"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q was read as %s", text, got)
		}
	}
}

func TestPartsDigestTellsEveryMove(t *testing.T) {
	base := Parts{"a": "1", "b": "2"}
	if base.Digest() != (Parts{"b": "2", "a": "1"}).Digest() {
		t.Error("the order of a map must not matter")
	}
	for _, other := range []Parts{{"a": "1"}, {"a": "1", "b": "3"}, {"a": "1", "c": "2"}, {"a": "1b", "": "2"}, {"a1": "", "b": "2"}} {
		if other.Digest() == base.Digest() {
			t.Errorf("%v has the digest of %v", other, base)
		}
	}
}
