package syntax

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// ScanJSON measures a JSON file against the limits: its bytes, its nesting, its
// numbers' exponents, and the templates inside its strings.
func ScanJSON(src []byte, filename string, lim Limits) hcl.Diagnostics {
	if d := checkBytes(src, filename, lim); d != nil {
		return hcl.Diagnostics{d}
	}
	depth, tokens := 0, 0
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case c == '{' || c == '[':
			depth++
			tokens++
			if depth > lim.Depth {
				return hcl.Diagnostics{limit(filename, posAt(src, i), "Nested too deeply", "This is nested deeper than %d levels; move inner parts into locals.", lim.Depth)}
			}
		case c == '}' || c == ']':
			depth--
			tokens++
		case c == ',' || c == ':':
			tokens++
		case c == '"':
			end := stringEnd(src, i)
			if d := scanJSONString(src[i:end], src, i, filename, lim); d != nil {
				return hcl.Diagnostics{d}
			}
			i = end - 1
			tokens++
		case c >= '0' && c <= '9':
			end := i
			for end < len(src) && bytes.IndexByte([]byte("0123456789.eE+-"), src[end]) >= 0 {
				end++
			}
			if big(src[i:end], lim.Exponent) {
				return hcl.Diagnostics{limit(filename, posAt(src, i), "Number out of range", "Numbers go up to 1e%d; write a smaller one.", lim.Exponent)}
			}
			i = end - 1
			tokens++
		}
		if tokens > lim.Tokens {
			return hcl.Diagnostics{limit(filename, posAt(src, i), "Too many tokens", "The file holds more than %d tokens; split it into several files.", lim.Tokens)}
		}
	}
	return nil
}

// stringEnd is the index after the string that starts at i, or the end of src.
func stringEnd(src []byte, i int) int {
	for i++; i < len(src); i++ {
		switch src[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(src)
}

func scanJSONString(quoted, src []byte, at int, filename string, lim Limits) *hcl.Diagnostic {
	if !bytes.Contains(quoted, []byte("{")) && !bytes.Contains(quoted, []byte(`\u`)) {
		return nil
	}
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		return nil // the parser says what is wrong with it
	}
	if !strings.Contains(text, "${") && !strings.Contains(text, "%{") {
		return nil
	}
	pos := posAt(src, at)
	return ScanTemplate([]byte(text), hcl.Range{Filename: filename, Start: pos, End: pos}, lim)
}

// BodySchema is what a JSON body may hold. JSON does not tell blocks from
// attributes, so the reader has to be told.
type BodySchema struct {
	Attrs  []string
	Any    bool // any attribute may stand there, as in locals
	Blocks map[string]BlockSchema
}

// BlockSchema is one nested block of a JSON body.
type BlockSchema struct {
	Labels []string
	Body   func() *BodySchema
}

// BodyOfJSON makes a native body of a JSON body. What the schema does not know
// is a diagnostic.
func BodyOfJSON(body hcl.Body, schema *BodySchema) (*hclsyntax.Body, hcl.Diagnostics) {
	out := &hclsyntax.Body{Attributes: hclsyntax.Attributes{}, SrcRange: body.MissingItemRange(), EndRange: body.MissingItemRange()}
	if schema.Any {
		attrs, diags := body.JustAttributes()
		diags = append(diags, fill(out, attrs)...)
		return out, diags
	}
	hs := &hcl.BodySchema{}
	for _, a := range schema.Attrs {
		hs.Attributes = append(hs.Attributes, hcl.AttributeSchema{Name: a})
	}
	for name, b := range schema.Blocks {
		hs.Blocks = append(hs.Blocks, hcl.BlockHeaderSchema{Type: name, LabelNames: b.Labels})
	}
	content, diags := body.Content(hs)
	if content == nil {
		return out, diags
	}
	diags = append(diags, fill(out, content.Attributes)...)
	for _, b := range content.Blocks {
		inner, d := BodyOfJSON(b.Body, schema.Blocks[b.Type].Body())
		diags = append(diags, d...)
		out.Blocks = append(out.Blocks, &hclsyntax.Block{
			Type: b.Type, Labels: b.Labels, Body: inner,
			TypeRange: b.TypeRange, LabelRanges: b.LabelRanges,
			OpenBraceRange: b.DefRange, CloseBraceRange: b.DefRange,
		})
	}
	return out, diags
}

func fill(out *hclsyntax.Body, attrs hcl.Attributes) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for name, a := range attrs {
		expr, d := ExprOfJSON(a.Expr)
		diags = append(diags, d...)
		out.Attributes[name] = &hclsyntax.Attribute{Name: name, Expr: expr, SrcRange: a.Range, NameRange: a.NameRange, EqualsRange: a.NameRange}
	}
	return diags
}

// ExprOfJSON makes a native expression of a JSON one: strings become templates.
func ExprOfJSON(expr hcl.Expression) (hclsyntax.Expression, hcl.Diagnostics) {
	rng := expr.Range()
	if pairs, d := hcl.ExprMap(expr); !d.HasErrors() {
		return objectOfJSON(pairs, rng)
	}
	if list, d := hcl.ExprList(expr); !d.HasErrors() {
		out := &hclsyntax.TupleConsExpr{SrcRange: rng, OpenRange: rng}
		var diags hcl.Diagnostics
		for _, e := range list {
			x, d := ExprOfJSON(e)
			diags = append(diags, d...)
			out.Exprs = append(out.Exprs, x)
		}
		return out, diags
	}
	v, diags := expr.Value(nil)
	if v.Type() != cty.String || v.IsNull() {
		return &hclsyntax.LiteralValueExpr{Val: v, SrcRange: rng}, diags
	}
	start := rng.Start
	start.Byte++
	start.Column++
	x, d := hclsyntax.ParseTemplate([]byte(v.AsString()), rng.Filename, start)
	if w, ok := x.(*hclsyntax.TemplateWrapExpr); ok {
		x = w.Wrapped // what looks for a bare reference shall find it
	}
	return x, append(diags, d...)
}

func objectOfJSON(pairs []hcl.KeyValuePair, rng hcl.Range) (hclsyntax.Expression, hcl.Diagnostics) {
	out := &hclsyntax.ObjectConsExpr{SrcRange: rng, OpenRange: rng}
	var diags hcl.Diagnostics
	seen := map[string]hcl.Range{}
	for _, p := range pairs {
		k, d := ExprOfJSON(p.Key)
		diags = append(diags, d...)
		if kv, d := p.Key.Value(nil); !d.HasErrors() && kv.Type() == cty.String {
			if first, dup := seen[kv.AsString()]; dup {
				diags = append(diags, &hcl.Diagnostic{
					Severity: hcl.DiagError, Summary: "Duplicate property",
					Detail:  fmt.Sprintf("%q stands here twice, first at %s; remove one.", kv.AsString(), first),
					Subject: p.Key.Range().Ptr(),
				})
			}
			seen[kv.AsString()] = p.Key.Range()
		}
		v, d := ExprOfJSON(p.Value)
		diags = append(diags, d...)
		out.Items = append(out.Items, hclsyntax.ObjectConsItem{KeyExpr: k, ValueExpr: v})
	}
	return out, diags
}
