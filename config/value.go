package config

import (
	"reflect"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// valueBytes is about how much memory a value takes, counted up to limit: it
// stops as soon as it is over.
func valueBytes(v cty.Value, limit int) int {
	c := sizer{left: limit}
	c.add(v)
	return limit - c.left
}

type sizer struct{ left int }

func (c *sizer) add(v cty.Value) {
	c.left -= 16
	if c.left < 0 {
		return
	}
	v, _ = v.Unmark()
	if !v.IsKnown() || v.IsNull() {
		return
	}
	t := v.Type()
	switch {
	case t == cty.String:
		c.left -= len(v.AsString())
	case t == cty.Number:
		f := v.AsBigFloat()
		if e := f.MantExp(nil); e > 1<<15 || e < -(1<<15) {
			c.left = -1 // spelling it out would take for ever
		}
	case v.CanIterateElements():
		for it := v.ElementIterator(); it.Next() && c.left >= 0; {
			k, e := it.Element()
			if t.IsMapType() || t.IsObjectType() {
				c.left -= len(k.AsString())
			}
			c.add(e)
		}
	}
}

// clean takes the evaluation context out of diagnostics: a printer would show
// the values in it. When one of them is sensitive, the text goes too, since
// functions quote what they were given. An index that failed because an instance
// is missing says which one.
func (r *run) clean(diags hcl.Diagnostics) hcl.Diagnostics {
	out := make(hcl.Diagnostics, 0, len(diags))
	for _, d := range diags {
		c := *d
		if m := r.missingAt(d); m != nil {
			c = *m
		}
		if d.Expression != nil && d.EvalContext != nil && readsSensitive(d.Expression, d.EvalContext) {
			c.Detail = "The cause is not shown, because the expression uses a sensitive value."
		}
		c.Expression, c.EvalContext, c.Extra = nil, nil, nil
		if len(c.Detail) > 2000 {
			c.Detail = c.Detail[:2000] + "…"
		}
		out = append(out, &c)
	}
	return out
}

// missingAt is the missing instance that an index failed on, or nil.
func (r *run) missingAt(d *hcl.Diagnostic) *hcl.Diagnostic {
	if d.Summary != "Invalid index" || d.Subject == nil {
		return nil
	}
	for f, m := range r.missing {
		if at := d.Subject.Start.Byte; f.rng.Filename == d.Subject.Filename && f.rng.Start.Byte <= at && at <= f.rng.End.Byte {
			return m
		}
	}
	return nil
}

func readsSensitive(e hcl.Expression, ctx *hcl.EvalContext) bool {
	for _, t := range e.Variables() {
		v, diags := t.TraverseAbs(ctx)
		if diags.HasErrors() || v.ContainsMarked() {
			return true
		}
	}
	return false
}

func typeOf(v any) reflect.Type { return reflect.TypeOf(v) }
