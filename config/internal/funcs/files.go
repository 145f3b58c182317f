package funcs

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// Files reads files inside the project.
type Files struct {
	// ReadFile reads a regular file, at most max bytes of it. It refuses paths
	// and links that leave the project.
	ReadFile func(path string, max int64) ([]byte, error)
	// Glob lists the files that match patterns, sorted.
	Glob func(patterns []string) ([]string, error)
	// Scan refuses template text that the parser must not see.
	Scan func(text []byte, rng hcl.Range) error
}

// cache keeps what was read, so that a file has one content during one command.
type cache struct {
	mu    sync.Mutex
	files map[string][]byte
	read  func(path string, max int64) ([]byte, error)
	max   int64
}

func (c *cache) get(p string) ([]byte, error) {
	p = clean(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.files[p]; ok {
		return b, nil
	}
	b, err := c.read(p, c.max)
	switch {
	case err == nil:
		c.files[p] = b
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w; a path is relative to the project folder: write ${path.module}/NAME for a file beside this one", err)
	}
	return b, err
}

// clean lets users write "./x" and "a/../b", as long as it stays inside.
func clean(p string) string {
	if p == "" || strings.HasPrefix(p, "/") {
		return p
	}
	return path.Clean(p)
}

func ofPath(description string, result cty.Type, f func(p string) (cty.Value, error)) function.Function {
	return function.New(&function.Spec{
		Description: description,
		Params:      []function.Parameter{{Name: "path", Type: cty.String}},
		Type:        function.StaticReturnType(result),
		Impl:        func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f(args[0].AsString()) },
	})
}

func (f Files) functions(lim Limits) map[string]function.Function {
	c := &cache{files: map[string][]byte{}, read: f.ReadFile, max: int64(lim.ValueBytes)}
	return map[string]function.Function{
		"basename": ofPath("the last part of a path", cty.String, func(p string) (cty.Value, error) { return cty.StringVal(path.Base(p)), nil }),
		"dirname":  ofPath("all but the last part of a path", cty.String, func(p string) (cty.Value, error) { return cty.StringVal(path.Dir(p)), nil }),
		"file": ofPath("the text of a file in the project", cty.String, func(p string) (cty.Value, error) {
			b, err := c.text(p)
			return cty.StringVal(string(b)), err
		}),
		"filebase64": ofPath("the bytes of a file in the project, in base64", cty.String, func(p string) (cty.Value, error) {
			b, err := c.get(p)
			return cty.StringVal(base64.StdEncoding.EncodeToString(b)), err
		}),
		"filesha256": ofPath("the SHA-256 of a file in the project, in hex", cty.String, func(p string) (cty.Value, error) {
			b, err := c.get(p)
			sum := sha256.Sum256(b)
			return cty.StringVal(hex.EncodeToString(sum[:])), err
		}),
		"fileexists": ofPath("whether a file exists in the project", cty.Bool, func(p string) (cty.Value, error) {
			_, err := c.get(p)
			if errors.Is(err, fs.ErrNotExist) {
				return cty.False, nil
			}
			return cty.BoolVal(err == nil), err
		}),
		"fileset": f.fileSet(),
	}
}

func (c *cache) text(p string) ([]byte, error) {
	b, err := c.get(p)
	if err == nil && !utf8.Valid(b) {
		err = fmt.Errorf("%s is not UTF-8 text; use filebase64", p)
	}
	return b, err
}

// maxFileSet caps the files that one call of fileset lists.
const maxFileSet = 100_000

func (f Files) fileSet() function.Function {
	return function.New(&function.Spec{
		Description: "the files below a folder of the project that match a pattern, relative to the folder",
		Params:      []function.Parameter{{Name: "folder", Type: cty.String}, {Name: "pattern", Type: cty.String}},
		Type:        function.StaticReturnType(cty.Set(cty.String)),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			base := clean(args[0].AsString())
			names, err := f.Glob([]string{path.Join(base, args[1].AsString())})
			if err != nil {
				return cty.NilVal, err
			}
			if len(names) > maxFileSet {
				return cty.NilVal, fmt.Errorf("%d files match, more than %d; narrow the pattern", len(names), maxFileSet)
			}
			if len(names) == 0 {
				return cty.SetValEmpty(cty.String), nil
			}
			vals := make([]cty.Value, len(names))
			for i, n := range names {
				if base != "." {
					n = strings.TrimPrefix(n, base+"/")
				}
				vals[i] = cty.StringVal(n)
			}
			return cty.SetVal(vals), nil
		},
	})
}

// templateFile renders a file of the project as a template with the given
// variables and all functions but itself.
func (f Files) templateFile(table map[string]function.Function, lim Limits) function.Function {
	inner := make(map[string]function.Function, len(table))
	for n, fn := range table {
		inner[n] = fn
	}
	c := &cache{files: map[string][]byte{}, read: f.ReadFile, max: int64(lim.ValueBytes)}
	render := func(args []cty.Value) (cty.Value, error) {
		p, marks := args[0].Unmark()
		src, err := c.text(p.AsString())
		if err != nil {
			return cty.NilVal, err
		}
		v, err := f.render(src, p.AsString(), args[1], inner)
		return v.WithMarks(marks), err
	}
	return function.New(&function.Spec{
		Description: "renders a file of the project as a template with the given variables",
		Params:      []function.Parameter{{Name: "path", Type: cty.String, AllowMarked: true}, {Name: "vars", Type: cty.DynamicPseudoType, AllowMarked: true}},
		Type: func(args []cty.Value) (cty.Type, error) {
			if !args[0].IsKnown() || !args[1].IsKnown() {
				return cty.DynamicPseudoType, nil
			}
			v, err := render(args)
			return v.Type(), err
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return render(args) },
	})
}

func (f Files) render(src []byte, name string, vars cty.Value, table map[string]function.Function) (cty.Value, error) {
	start := hcl.InitialPos
	if f.Scan != nil {
		if err := f.Scan(src, hcl.Range{Filename: name, Start: start, End: start}); err != nil {
			return cty.NilVal, err
		}
	}
	expr, diags := hclsyntax.ParseTemplate(src, name, start)
	if diags.HasErrors() {
		return cty.DynamicVal, inTemplate(diags)
	}
	plain, marks := vars.Unmark()
	if plain.IsNull() || !plain.Type().IsObjectType() && !plain.Type().IsMapType() {
		return cty.DynamicVal, errors.New("the variables of a template are an object: templatefile(\"x.tpl\", { name = \"a\" })")
	}
	ctx := &hcl.EvalContext{Functions: table, Variables: plain.AsValueMap()}
	for _, used := range expr.Variables() {
		if _, ok := ctx.Variables[used.RootName()]; !ok {
			return cty.DynamicVal, fmt.Errorf("%s:%d uses %q, which it is not given: templatefile(%q, { %s = … })", name, used.SourceRange().Start.Line, used.RootName(), name, used.RootName())
		}
	}
	v, diags := expr.Value(ctx)
	if diags.HasErrors() {
		return cty.DynamicVal, inTemplate(diags)
	}
	return v.WithMarks(marks), nil
}

// inTemplate is the first fault of a template as an error, with its place.
func inTemplate(diags hcl.Diagnostics) error {
	d := diags[0]
	return fmt.Errorf("%s:%d: %s: %s", d.Subject.Filename, d.Subject.Start.Line, d.Summary, strings.TrimSuffix(d.Detail, "."))
}
