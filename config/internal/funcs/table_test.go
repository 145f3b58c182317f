package funcs

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// memory is a project of two files.
var memory = map[string]string{"a.txt": "hello\n", "t/x.tpl": "hi ${name}%{ for i in n } ${i}%{ endfor }", "t/self.tpl": "${templatefile(\"t/x.tpl\", {})}"}

func memoryFiles() Files {
	return Files{
		ReadFile: func(p string, _ int64) ([]byte, error) {
			if strings.HasPrefix(p, "/") || strings.HasPrefix(p, "..") {
				return nil, errors.New("outside")
			}
			s, ok := memory[p]
			if !ok {
				return nil, fs.ErrNotExist
			}
			return []byte(s), nil
		},
		Glob: func(patterns []string) ([]string, error) {
			var out []string
			for n := range memory {
				if ok, err := path.Match(patterns[0], n); err != nil {
					return nil, err
				} else if ok {
					out = append(out, n)
				}
			}
			slices.Sort(out)
			return out, nil
		},
	}
}

func eval(t testing.TB, src string, vars map[string]cty.Value) (cty.Value, hcl.Diagnostics) {
	t.Helper()
	expr, diags := hclsyntax.ParseExpression([]byte(src), "", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatalf("%s: %s", src, diags)
	}
	return expr.Value(&hcl.EvalContext{Functions: Table(memoryFiles(), Limits{ValueBytes: 1 << 20}), Variables: vars})
}

// calls are one call of each function, and what it gives as JSON.
var calls = map[string][][2]string{
	"abs":             {{`abs(-3)`, `3`}},
	"alltrue":         {{`alltrue([true, "true"])`, `true`}, {`alltrue([true, false])`, `false`}, {`alltrue([])`, `true`}},
	"anytrue":         {{`anytrue([false, true])`, `true`}, {`anytrue([])`, `false`}},
	"base64decode":    {{`base64decode("aGk=")`, `"hi"`}},
	"base64encode":    {{`base64encode("hi")`, `"aGk="`}},
	"basename":        {{`basename("a/b.txt")`, `"b.txt"`}},
	"can":             {{`can(tonumber("x"))`, `false`}, {`can(1)`, `true`}},
	"ceil":            {{`ceil(1.2)`, `2`}},
	"chomp":           {{"chomp(\"a\\n\")", `"a"`}},
	"chunklist":       {{`chunklist([1, 2, 3], 2)`, `[[1,2],[3]]`}},
	"cidrhost":        {{`cidrhost("10.0.0.0/8", 5)`, `"10.0.0.5"`}},
	"cidrnetmask":     {{`cidrnetmask("10.0.0.0/8")`, `"255.0.0.0"`}},
	"cidrsubnet":      {{`cidrsubnet("10.0.0.0/8", 8, 2)`, `"10.2.0.0/16"`}},
	"cidrsubnets":     {{`cidrsubnets("10.0.0.0/8", 8, 8)`, `["10.0.0.0/16","10.1.0.0/16"]`}},
	"coalesce":        {{`coalesce(null, "", "a")`, `""`}},
	"coalescelist":    {{`coalescelist([], [1])`, `[1]`}},
	"compact":         {{`compact(["a", "", "b"])`, `["a","b"]`}},
	"concat":          {{`concat([1], [2, 3])`, `[1,2,3]`}},
	"contains":        {{`contains(["a"], "a")`, `true`}, {`contains(["a"], "b")`, `false`}},
	"csvdecode":       {{`csvdecode("a,b\n1,2")`, `[{"a":"1","b":"2"}]`}},
	"dirname":         {{`dirname("a/b.txt")`, `"a"`}},
	"distinct":        {{`distinct([1, 2, 1])`, `[1,2]`}},
	"element":         {{`element(["a", "b"], 3)`, `"b"`}},
	"endswith":        {{`endswith("abc", "bc")`, `true`}, {`endswith("abc", "ab")`, `false`}},
	"file":            {{`file("a.txt")`, `"hello\n"`}, {`file("./a.txt")`, `"hello\n"`}},
	"filebase64":      {{`filebase64("a.txt")`, `"aGVsbG8K"`}},
	"fileexists":      {{`fileexists("a.txt")`, `true`}, {`fileexists("b.txt")`, `false`}},
	"fileset":         {{`fileset("t", "*.tpl")`, `["self.tpl","x.tpl"]`}, {`fileset(".", "*.none")`, `[]`}},
	"filesha256":      {{`filesha256("a.txt")`, `"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"`}},
	"flatten":         {{`flatten([[1], [[2], 3]])`, `[1,2,3]`}},
	"floor":           {{`floor(1.8)`, `1`}},
	"format":          {{`format("%03d %s %5.1f", 7, "x", 1.25)`, `"007 x   1.2"`}},
	"formatdate":      {{`formatdate("YYYY-MM-DD", "2020-01-02T03:04:05Z")`, `"2020-01-02"`}},
	"formatlist":      {{`formatlist("%s!", ["a", "b"])`, `["a!","b!"]`}},
	"indent":          {{`indent(2, "a\nb")`, `"a\n  b"`}},
	"index":           {{`index(["a", "b"], "b")`, `1`}},
	"join":            {{`join("-", ["a", "b"])`, `"a-b"`}},
	"jsondecode":      {{`jsondecode("{\"a\": [1]}")`, `{"a":[1]}`}},
	"jsonencode":      {{`jsonencode({ b = 1, a = [true, null] })`, `"{\"a\":[true,null],\"b\":1}"`}},
	"keys":            {{`keys({ b = 1, a = 2 })`, `["a","b"]`}},
	"length":          {{`length([1, 2])`, `2`}, {`length({ a = 1 })`, `1`}, {`length("héé")`, `3`}},
	"log":             {{`log(8, 2)`, `3`}},
	"lookup":          {{`lookup({ a = 1 }, "a", 2)`, `1`}, {`lookup({ a = 1 }, "b", 2)`, `2`}, {`lookup(tomap({ a = 1 }), "a")`, `1`}},
	"lower":           {{`lower("AB")`, `"ab"`}},
	"matchkeys":       {{`matchkeys(["a", "b"], ["x", "y"], ["y"])`, `["b"]`}, {`matchkeys(["a"], ["x"], ["z"])`, `[]`}},
	"max":             {{`max(1, 3, 2)`, `3`}},
	"md5":             {{`md5("a")`, `"0cc175b9c0f1b6a831c399e269772661"`}},
	"merge":           {{`merge({ a = 1, b = 1 }, { b = 2 })`, `{"a":1,"b":2}`}},
	"min":             {{`min(3, 1)`, `1`}},
	"nonsensitive":    {{`nonsensitive(sensitive("a"))`, `"a"`}},
	"one":             {{`one(["a"])`, `"a"`}, {`one([])`, `null`}, {`one(toset([5]))`, `5`}},
	"parseint":        {{`parseint("ff", 16)`, `255`}},
	"pow":             {{`pow(2, 10)`, `1024`}},
	"range":           {{`range(1, 4)`, `[1,2,3]`}},
	"regex":           {{`regex("(\\d+)-(\\d+)", "1-2")`, `["1","2"]`}},
	"regexall":        {{`regexall("\\d", "1a2")`, `["1","2"]`}},
	"replace":         {{`replace("a.b", ".", "-")`, `"a-b"`}, {`replace("a1b2", "/[0-9]/", "#")`, `"a#b#"`}},
	"reverse":         {{`reverse([1, 2])`, `[2,1]`}},
	"setintersection": {{`setintersection(["a", "b"], ["b"])`, `["b"]`}},
	"setproduct":      {{`setproduct(["a"], [1, 2])`, `[["a",1],["a",2]]`}},
	"setsubtract":     {{`setsubtract(["a", "b"], ["b"])`, `["a"]`}},
	"setunion":        {{`setunion(["a"], ["b"])`, `["a","b"]`}},
	"sha1":            {{`sha1("a")`, `"86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"`}},
	"sha256":          {{`sha256("a")`, `"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"`}},
	"sha512":          {{`substr(sha512("a"), 0, 16)`, `"1f40fc92da241694"`}},
	"signum":          {{`signum(-5)`, `-1`}},
	"slice":           {{`slice([1, 2, 3], 1, 2)`, `[2]`}},
	"sort":            {{`sort(["b", "a"])`, `["a","b"]`}},
	"split":           {{`split(",", "a,b")`, `["a","b"]`}},
	"startswith":      {{`startswith("abc", "ab")`, `true`}},
	"strcontains":     {{`strcontains("abc", "b")`, `true`}},
	"strrev":          {{`strrev("abc")`, `"cba"`}},
	"substr":          {{`substr("hello", 1, 3)`, `"ell"`}},
	"sum":             {{`sum([1, 2.5])`, `3.5`}},
	"templatefile":    {{`templatefile("t/x.tpl", { name = "bob", n = [1, 2] })`, `"hi bob 1 2"`}},
	"timeadd":         {{`timeadd("2020-01-01T00:00:00Z", "1h")`, `"2020-01-01T01:00:00Z"`}},
	"title":           {{`title("a b")`, `"A B"`}},
	"tobool":          {{`tobool("true")`, `true`}},
	"tolist":          {{`tolist(["a", "b"])`, `["a","b"]`}, {`tolist([1, "a"])`, `["1","a"]`}},
	"tomap":           {{`tomap({ a = 1 })`, `{"a":1}`}},
	"tonumber":        {{`tonumber("1.5")`, `1.5`}},
	"toset":           {{`toset(["b", "a", "b"])`, `["a","b"]`}},
	"tostring":        {{`tostring(1.5)`, `"1.5"`}},
	"transpose":       {{`transpose({ a = ["x", "y"], b = ["x"] })`, `{"x":["a","b"],"y":["a"]}`}},
	"trim":            {{`trim("?a?", "?")`, `"a"`}},
	"trimprefix":      {{`trimprefix("abc", "a")`, `"bc"`}},
	"trimspace":       {{`trimspace(" a ")`, `"a"`}},
	"trimsuffix":      {{`trimsuffix("abc", "c")`, `"ab"`}},
	"try":             {{`try(tonumber("x"), 5)`, `5`}},
	"upper":           {{`upper("ab")`, `"AB"`}},
	"urlencode":       {{`urlencode("a b/c")`, `"a+b%2Fc"`}},
	"uuidv5":          {{`uuidv5("dns", "example.com")`, `"cfbff0d1-9375-5685-968c-48ce8b15ae17"`}},
	"values":          {{`values({ b = 1, a = 2 })`, `[2,1]`}},
	"yamldecode":      {{`yamldecode("a: [1, x]")`, `{"a":[1,"x"]}`}},
	"yamlencode":      {{`yamlencode({ a = 1 })`, `"\"a\": 1\n"`}},
	"zipmap":          {{`zipmap(["a", "b"], [1, 2])`, `{"a":1,"b":2}`}},
	"sensitive":       {{`nonsensitive(sensitive(1))`, `1`}},
}

func TestEveryFunctionGivesWhatTheReferenceSays(t *testing.T) {
	table := Table(memoryFiles(), Limits{ValueBytes: 1 << 20})
	for _, name := range slices.Sorted(maps.Keys(table)) {
		if len(calls[name]) == 0 {
			t.Errorf("%s has no call in the table", name)
		}
		for _, c := range calls[name] {
			v, diags := eval(t, c[0], nil)
			if diags.HasErrors() {
				t.Errorf("%s: %s", c[0], diags)
				continue
			}
			j, err := stdlib.JSONEncode(v)
			if err != nil {
				t.Errorf("%s: %s", c[0], err)
				continue
			}
			if got := j.AsString(); got != c[1] {
				t.Errorf("%s = %s, want %s", c[0], got, c[1])
			}
		}
	}
	for name := range calls {
		if _, ok := table[name]; !ok {
			t.Errorf("there is no %s", name)
		}
	}
}

func TestBadArgumentsAreErrors(t *testing.T) {
	for _, src := range []string{
		`length(5)`, `length(null)`, `lookup([1], "a")`, `lookup({}, "a")`, `lookup(tomap({}), "a")`, `lookup({}, "a", 1, 2)`,
		`sum([])`, `sum(["x"])`, `sum(5)`, `alltrue(["x"])`, `one([1, 2])`, `one(toset([1, 2]))`, `one("x")`,
		`index(["a"], "b")`, `index(5, 5)`, `matchkeys(["a"], [], [])`, `transpose({ a = [null] })`, `tolist("x")`, `toset({ a = 1 })`,
		`file("none")`, `file("/etc/passwd")`, `file("../x")`, `templatefile("a.txt", 5)`, `templatefile("t/x.tpl", {})`, `templatefile("t/self.tpl", {})`,
		`regex("(", "x")`, `distinct(5)`, `element([], 0)`,
	} {
		if v, diags := eval(t, src, nil); !diags.HasErrors() {
			t.Errorf("%s = %#v", src, v)
		}
	}
}

func TestCallsWhoseResultWouldBeHugeAreRefusedBeforeTheyAreMade(t *testing.T) {
	big := cty.StringVal(strings.Repeat("a", 1<<19))
	many := make([]cty.Value, 2000)
	for i := range many {
		many[i] = cty.NumberIntVal(int64(i))
	}
	vars := map[string]cty.Value{"big": big, "many": cty.ListVal(many), "s": cty.SetVal(many)}
	for _, src := range []string{
		`format("%1000000000d", 1)`, `format("%.1000000000f", 1)`, `format("%s%s%s", big, big, big)`, `formatlist("%999d", many)`,
		`indent(1000000000, "a\nb")`, `join(big, ["a", "b", "c", "d"])`, `replace(big, "a", big)`, `replace(big, "/a/", big)`,
		`split("", big)`, `setproduct(s, s)`, `regexall(".", big)`, `regex(substr(big, 0, 100000), "a")`,
	} {
		if _, diags := eval(t, src, vars); !diags.HasErrors() || !strings.Contains(diags.Error(), "MiB") {
			t.Errorf("%s: %s", src, diags)
		}
	}
}

func TestUnknownsAndMarksFlowThroughFunctions(t *testing.T) {
	secret := cty.StringVal("hunter2").Mark(SensitiveMark{})
	vars := map[string]cty.Value{
		"u": cty.UnknownVal(cty.String), "d": cty.DynamicVal, "s": secret,
		"l": cty.ListVal([]cty.Value{secret, cty.StringVal("x")}), "n": cty.UnknownVal(cty.List(cty.Number)),
	}
	for _, src := range []string{
		`upper(u)`, `length(u)`, `length(d)`, `length(n)`, `format("%s", u)`, `tolist(d)`, `toset([u])`, `sum(n)`, `lookup({ a = u }, "a")`,
		`alltrue([true, tobool(u)])`, `templatefile("t/x.tpl", { name = u, n = [] })`, `replace(u, "a", "b")`, `distinct([u])`, `merge(d, {})`, `one(n)`,
	} {
		v, diags := eval(t, src, vars)
		if diags.HasErrors() || v.IsWhollyKnown() {
			t.Errorf("%s = %#v %s", src, v, diags)
		}
	}
	for _, src := range []string{
		`upper(s)`, `length(s)`, `join("", l)`, `toset(l)`, `tolist([s])`, `format("%s", s)`, `templatefile("t/x.tpl", { name = s, n = [] })`,
		`replace(s, "h", "x")`, `lookup({ a = s }, "a")`, `distinct(l)`, `one([s])`, `sensitive("x")`, `sha256(s)`, `jsonencode({ a = s })`, `index(l, "x")`,
	} {
		v, diags := eval(t, src, vars)
		if diags.HasErrors() || !v.ContainsMarked() {
			t.Errorf("%s = %#v %s", src, v, diags)
		}
	}
}

func TestConvertGivesWhatTheSlowConversionGives(t *testing.T) {
	list, set, mp := cty.List(cty.DynamicPseudoType), cty.Set(cty.DynamicPseudoType), cty.Map(cty.DynamicPseudoType)
	for _, v := range []cty.Value{
		cty.TupleVal([]cty.Value{cty.StringVal("a"), cty.StringVal("b")}), cty.TupleVal([]cty.Value{cty.StringVal("a"), cty.True}),
		cty.EmptyTupleVal, cty.EmptyObjectVal, cty.ObjectVal(map[string]cty.Value{"a": cty.Zero, "b": cty.Zero}), cty.TupleVal([]cty.Value{cty.NullVal(cty.String)}),
		cty.TupleVal([]cty.Value{cty.UnknownVal(cty.String)}), cty.TupleVal([]cty.Value{cty.NullVal(cty.DynamicPseudoType), cty.Zero}), cty.Zero,
		cty.TupleVal([]cty.Value{cty.EmptyTupleVal, cty.EmptyTupleVal}), cty.ObjectVal(map[string]cty.Value{"a": cty.EmptyObjectVal}),
	} {
		for _, want := range []cty.Type{list, set, mp, cty.List(cty.String), cty.Map(cty.Number), cty.Set(cty.Bool)} {
			fast, fastErr := Convert(v, want)
			slow, slowErr := convertSlow(v, want)
			if (fastErr == nil) != (slowErr == nil) || fastErr == nil && !fast.RawEquals(slow) {
				t.Errorf("%#v to %s: %#v %v, want %#v %v", v, want.FriendlyNameForConstraint(), fast, fastErr, slow, slowErr)
			}
		}
	}
}

func TestLargeCollectionsConvertInLinearTime(t *testing.T) {
	elems := make([]cty.Value, 20_000)
	for i := range elems {
		elems[i] = cty.NumberIntVal(int64(i))
	}
	tuple := cty.TupleVal(elems)
	n := testing.AllocsPerRun(1, func() {
		if _, err := Convert(tuple, cty.List(cty.DynamicPseudoType)); err != nil {
			t.Fatal(err)
		}
	})
	if n > 200_000 {
		t.Errorf("%v allocations for 20,000 elements", n)
	}
	if v, diags := eval(t, `length(reverse(x))`, map[string]cty.Value{"x": tuple}); diags.HasErrors() || !v.RawEquals(cty.NumberIntVal(20_000)) {
		t.Error(v, diags)
	}
}

func TestNoFunctionReadsTheClockOrTheEnvironment(t *testing.T) {
	table := Table(memoryFiles(), Limits{ValueBytes: 1 << 20})
	for _, name := range []string{"timestamp", "uuid", "bcrypt", "pathexpand", "abspath", "env", "getenv", "plantimestamp", "random"} {
		if _, ok := table[name]; ok {
			t.Errorf("%s is there", name)
		}
	}
}
