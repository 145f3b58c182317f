package syntax

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

var small = Limits{Bytes: 1 << 20, Tokens: 2000, Depth: 8, PrefixRun: 4, Chain: 30, Exponent: 308}

// exact is what the real lexer says of a text.
func exact(src string, lim Limits) *hcl.Diagnostic {
	toks, _ := hclsyntax.LexConfig([]byte(src), "x", hcl.InitialPos)
	return checkTokens(toks, lim)
}

var shapes = []string{
	"a = 1\n", "a = [[[[[[[[[1]]]]]]]]]\n", "a = \"${[[[[[[[1]]]]]]]}\"\n", "a = \"x${\"y${\"z\"}\"}\"\n",
	"a = \"\\\"${1}\\\\\"\nb = [\n", "a = <<EOT\n((((((((((((\nEOT\n", "a = 1 # ((((((((((\nb = [[[[[[[[[]]]]]]]]]\n",
	"a = /* (((((((((( */ 1\n", "a = // \"\n 1\n", "a = !!!!!true\n", "a = ! ! !\n", "a = 1 != 2\n", "a = 1" + strings.Repeat("+1", 40) + "\n",
	"a = [" + strings.Repeat("1,", 40) + "]\n", "a = {for x in y:\n" + strings.Repeat("1\n+", 40) + "1 => 2}\n", "a = {/**/for x in y:\n" + strings.Repeat("1\n+", 40) + "1 => 2}\n",
	"a = {#c\nfor x in y:\n" + strings.Repeat("1\n+", 40) + "1 => 2}\n", "a = {\n" + strings.Repeat("b = 1\n", 40) + "}\n",
	"a = x" + strings.Repeat("[y]", 40) + "\n", "a = x" + strings.Repeat(".y", 40) + "\n", "a = \"%{if x}%{if x}%{if x}%{if x}%{if x}y%{endif}%{endif}%{endif}%{endif}%{endif}\"\n",
	"a = 1e309\n", "a = 1.5e-400\n", "a = \"$${((((((((((}\"\n", "a = \"%%{((((((((((}\"\n", "a = \"$$${1}\"\n", "é = 1\n", "a = \"é${(((((((((1)))))))))}\"\n",
	"a = 'x'\n", "a = \"x\ny\"\n", "\ufeffa = 1\n", "a = `\n", "a = 1\r\nb = 2\r\n", "a = 1\rb\n", "a = 0x10\n", "a = 1e\n", "a {\n b {\n c {\n}\n}\n}\n",
}

// agree checks that the quick scan never lets through what the lexer counts
// over a limit. It may be stricter: then the file is refused, not the process killed.
func agree(t *testing.T, src string) {
	t.Helper()
	want := exact(src, small)
	_, diags := scanFile([]byte(src), "x", small)
	if want != nil && len(diags) == 0 {
		t.Errorf("%q: the lexer says %s, the scan accepts it", src, want.Summary)
	}
}

func TestTheQuickScanRefusesWhatTheLexerRefuses(t *testing.T) {
	for _, s := range shapes {
		agree(t, s)
		agree(t, strings.Repeat(s, 3))
		for _, other := range shapes {
			agree(t, s+other)
			agree(t, "x {\n"+s+other+"}\n")
		}
	}
}

func TestTheQuickScanAcceptsOrdinaryFiles(t *testing.T) {
	for _, s := range shapes {
		if exact(s, small) == nil && !strings.ContainsAny(s, "\r'`") {
			s := scanner{src: []byte(s), file: "x", lim: small, line: 1}
			if s.run() == refused {
				t.Errorf("%q: %s", s.src, s.diag.Summary)
			}
		}
	}
}

func FuzzScan(f *testing.F) {
	for _, s := range shapes {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 10_000 {
			return
		}
		agree(t, src)
	})
}

// body is n blocks of different sizes.
func body(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "block \"b%d\" {\n  list = [1, 2,\n    3]\n  text = \"é ${x}\" # c\n}\n\n", i)
	}
	return b.String()
}

func TestPiecesParsedApartGiveTheSameTreeAtTheSamePlaces(t *testing.T) {
	src := body(5000)
	lim := Limits{Bytes: 4 << 20, Tokens: 1_000_000, Depth: 64, PrefixRun: 64, Chain: 10_000, Exponent: 308}
	pieces, diags := scanFile([]byte(src), "x", lim)
	if len(pieces) < 3 || diags.HasErrors() {
		t.Fatalf("%d pieces, %s", len(pieces), diags)
	}
	files, diags := Parse(t.Context(), []Source{{Name: "x", Data: []byte(src)}}, lim)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	whole, diags := hclsyntax.ParseConfig([]byte(src), "x", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var apart []string
	for _, b := range files[0].Native {
		for _, blk := range b.Blocks {
			apart = append(apart, blk.Labels[0]+blk.DefRange().String()+blk.Body.Attributes["text"].SrcRange.String()+fmt.Sprint(blk.DefRange().Start.Byte))
		}
	}
	var together []string
	for _, blk := range whole.Body.(*hclsyntax.Body).Blocks {
		together = append(together, blk.Labels[0]+blk.DefRange().String()+blk.Body.Attributes["text"].SrcRange.String()+fmt.Sprint(blk.DefRange().Start.Byte))
	}
	if d := cmp.Diff(together, apart); d != "" {
		t.Error(d)
	}
}

func TestJSONIsMeasured(t *testing.T) {
	for src, want := range map[string]string{
		strings.Repeat("[", 9):                                 "Nested too deeply",
		`{"a": 1e400}`:                                         "Number out of range",
		`{"a": "${((((((((((1))))))))))}"}`:                    "Nested too deeply",
		"{\"a\": \"$\\u007b((((((((((1))))))))))}\"}":          "Nested too deeply",
		`{"a": "${!!!!!!!!true}"}`:                             "Too many operators in a row",
		`{"a": "` + "${1" + strings.Repeat("+1", 40) + `}"}`:   "Expression too long",
		`{"a": [` + strings.Repeat("1,", 3000) + `1]}`:         "Too many tokens",
		"{\"a\": \"\x00\"}":                                    "Invalid character",
		`{"a": "[[[[[[[[[[[[", "b": "\"[[[[[[[[[[[[", "c": 1}`: "",
	} {
		got := ""
		if d := ScanJSON([]byte(src), "x.json", small); len(d) > 0 {
			got = d[0].Summary
		}
		if got != want {
			t.Errorf("%s: %q, want %q", src, got, want)
		}
	}
}

func TestJSONExpressionsMeanWhatTheirNativeFormMeans(t *testing.T) {
	src := `{"a": {"list": [1, "${x}", {"k-${x}": true, "n": null}], "text": "$${x} %{if true}y%{endif}"}}`
	b, diags := ParseJSON([]byte(src), "x.json", small)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	body, diags := BodyOfJSON(b, &BodySchema{Blocks: map[string]BlockSchema{"a": {Body: func() *BodySchema { return &BodySchema{Attrs: []string{"list", "text"}} }}}})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	ctx := &hcl.EvalContext{Variables: map[string]cty.Value{"x": cty.StringVal("X")}}
	list, diags := body.Blocks[0].Body.Attributes["list"].Expr.Value(ctx)
	want := cty.TupleVal([]cty.Value{cty.NumberIntVal(1), cty.StringVal("X"), cty.ObjectVal(map[string]cty.Value{"k-X": cty.True, "n": cty.NullVal(cty.DynamicPseudoType)})})
	if diags.HasErrors() || !list.RawEquals(want) {
		t.Errorf("%#v %s", list, diags)
	}
	text, diags := body.Blocks[0].Body.Attributes["text"].Expr.Value(ctx)
	if diags.HasErrors() || text.AsString() != "${x} y" {
		t.Errorf("%#v %s", text, diags)
	}
}

func BenchmarkScan(b *testing.B) {
	src := []byte(body(20_000))
	lim := Limits{Bytes: 8 << 20, Tokens: 2_000_000, Depth: 64, PrefixRun: 64, Chain: 10_000, Exponent: 308}
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		if d := Scan(src, "x", lim); d.HasErrors() {
			b.Fatal(d)
		}
	}
}

func TestFixturesStayOnTheQuickPath(t *testing.T) {
	names, err := filepath.Glob("../../../testdata/config/valid/*/*.ml.hcl")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	lim := Limits{Bytes: 8 << 20, Tokens: 2_000_000, Depth: 64, PrefixRun: 64, Chain: 10_000, Exponent: 308}
	for _, n := range names {
		src, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		s := scanner{src: src, file: n, lim: lim, line: 1}
		if v := s.run(); v != scanned {
			t.Errorf("%s: verdict %d", n, v)
		}
	}
}
