package config

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/continuo-ml/continuo/config/internal/funcs"
	"github.com/continuo-ml/continuo/config/internal/syntax"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/resource"
)

// limits are what a file may ask of the parser.
var limits = syntax.Limits{
	Bytes: MaxFileBytes, Tokens: MaxFileTokens, Depth: MaxDepth,
	PrefixRun: MaxPrefixRun, Chain: MaxChain, Exponent: MaxExponent,
}

// loader carries one Load.
type loader struct {
	opts      Options
	kinds     Kinds
	specs     map[string]*bodySpec
	funcs     map[string]function.Function
	funcNames map[string]struct{}
	index     *files.Index
	diags     hcl.Diagnostics

	modules map[string]*moduleConfig // by folder
	sources []syntax.Source          // every file read, for the digest
	bytes   int
	p       *Project
	ev      *evaluator
}

func (l *loader) add(diags ...*hcl.Diagnostic) { l.diags = append(l.diags, diags...) }

// Load reads the project in opts.Dir: its files, its modules, its variables. It
// resolves every reference, expands for_each and count, and orders the blocks.
// Bodies are evaluated later, one by one, by Eval. With errors among the
// diagnostics the project is nil.
func Load(ctx context.Context, opts Options) (*Project, hcl.Diagnostics) {
	l, diags := newLoader(opts)
	if diags.HasErrors() {
		return nil, diags
	}
	root := l.module(ctx, ".")
	if root != nil && len(root.order) == 0 && !l.diags.HasErrors() && len(l.p.Files) == 0 {
		l.add(&hcl.Diagnostic{Severity: hcl.DiagError, Summary: "No configuration", Detail: fmt.Sprintf("%s holds no *.ml.hcl or *.ml.json file. Write one, let ml init write a starter, or name the project folder with -chdir.", opts.Dir)})
	}
	l.calls(ctx, root, nil)
	for _, dir := range sortedKeys(l.modules) {
		l.bind(l.modules[dir])
	}
	if !l.diags.HasErrors() {
		l.guard(ctx)
	}
	if !l.diags.HasErrors() {
		l.build(root)
	}
	l.diags = fewer(l.diags)
	if l.diags.HasErrors() {
		return nil, l.diags
	}
	l.p.Contents = l.contents()
	l.p.Digest = digestOf(l.p.Contents)
	return l.p, l.diags
}

func newLoader(opts Options) (*loader, hcl.Diagnostics) {
	fail := func(summary, detail string, args ...any) (*loader, hcl.Diagnostics) {
		return nil, hcl.Diagnostics{&hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(detail, args...)}}
	}
	kinds, err := AllKinds()
	if err != nil {
		return fail("A kind cannot be read", "%s. This is a defect of this program; please report it.", err)
	}
	index, err := files.Open(opts.Dir, "")
	if err != nil {
		return fail("The project folder cannot be read", "%s. Name another one with -chdir.", err)
	}
	l := &loader{
		opts: opts, kinds: kinds, index: index, specs: map[string]*bodySpec{},
		modules: map[string]*moduleConfig{}, funcNames: map[string]struct{}{},
	}
	l.funcs = funcs.Table(funcs.Files{ReadFile: l.readFile, Glob: index.Glob, Scan: scanTemplate}, funcs.Limits{ValueBytes: MaxValueBytes})
	for n := range l.funcs {
		l.funcNames[n] = struct{}{}
	}
	l.ev = &evaluator{kinds: kinds, funcs: l.funcs, trace: opts.trace}
	l.p = &Project{Dir: opts.Dir, Kinds: kinds, byAddr: map[resource.Address]*Block{}, Providers: map[string]ProviderConfig{}, eval: l.ev}
	refTypes := referenceTypes(kinds)
	for _, name := range kinds.Names() {
		k := kinds[name]
		spec := newBodySpec(k.body, typeOf(k.Spec), refTypes)
		spec.meta = metaNames()
		spec.elsewhere = opts.Elsewhere
		spec.providers = map[string]*bodySpec{}
		for _, p := range sortedKeys(opts.Providers) {
			if s := opts.Providers[p].Nested[name]; s != nil {
				spec.providers[p] = newBodySpec(s, nil, refTypes)
				l.p.nest(k, p, s)
			}
		}
		l.specs[name] = spec
	}
	return l, nil
}

// readFile reads a file for a function. What is in .ml is refused, but for
// modules: the project's key is in it, and values end up in plans and comments.
func (l *loader) readFile(name string, limit int64) ([]byte, error) {
	modules, err := l.modulesDir()
	if err != nil {
		return nil, err
	}
	inside := path.Clean(name)
	if to, err := filepath.EvalSymlinks(filepath.Join(l.opts.Dir, filepath.FromSlash(name))); err == nil {
		if top, err := filepath.EvalSymlinks(l.opts.Dir); err == nil {
			if rel, err := filepath.Rel(top, to); err == nil {
				inside = filepath.ToSlash(rel)
			}
		}
	} // what is not there, or outside, is refused below
	if first, _, _ := strings.Cut(inside, "/"); strings.EqualFold(first, ".ml") && !strings.HasPrefix(inside, modules+"/") {
		return nil, fmt.Errorf("%s is in .ml, which holds the project's key and state; no expression can read it", name)
	}
	return l.index.ReadFile(name, limit)
}

// module reads the files of one folder, once.
func (l *loader) module(ctx context.Context, dir string) *moduleConfig {
	if m, ok := l.modules[dir]; ok {
		return m
	}
	cfg := &moduleConfig{
		dir: dir, vars: map[string]*variable{}, locals: map[string]*formula{}, outputs: map[string]*outputDecl{},
		calls: map[string]*moduleCall{}, blocks: map[string]*declaration{},
	}
	l.modules[dir] = cfg
	sources := l.read(dir)
	parsed, diags := syntax.Parse(ctx, sources, limits)
	l.add(diags...)
	d := &declarer{loader: l, cfg: cfg}
	for _, f := range parsed {
		l.p.Files = append(l.p.Files, f.Name)
		d.file(f)
	}
	slices.Sort(l.p.Files)
	d.collisions()
	return cfg
}

// read returns the configuration files of a folder, sorted by name.
func (l *loader) read(dir string) []syntax.Source {
	names, err := configFiles(filepath.Join(l.opts.Dir, filepath.FromSlash(dir)))
	if err != nil {
		l.add(&hcl.Diagnostic{Severity: hcl.DiagError, Summary: "A folder cannot be read", Detail: fmt.Sprintf("%s. Check that it exists and can be read.", err)})
		return nil
	}
	var out []syntax.Source
	for _, group := range files.CaseCollisions(names) {
		l.add(&hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "File names differ only by case",
			Detail:  fmt.Sprintf("%s are one file on a disk that folds case; rename one.", strings.Join(group, " and ")),
			Subject: &hcl.Range{Filename: path.Join(dir, group[0]), Start: hcl.InitialPos, End: hcl.InitialPos},
		})
	}
	for _, name := range names {
		p := path.Join(dir, name)
		data, err := l.index.ReadFile(p, MaxFileBytes)
		if err != nil {
			l.add(&hcl.Diagnostic{
				Severity: hcl.DiagError, Summary: "A file cannot be read", Detail: fmt.Sprintf("%s. At most %d bytes are read from a file, and links out of the project are not followed.", sentence(err), MaxFileBytes),
				Subject: &hcl.Range{Filename: p, Start: hcl.InitialPos, End: hcl.InitialPos},
			})
			continue
		}
		if l.bytes += len(data); l.bytes > MaxProjectBytes {
			l.add(&hcl.Diagnostic{
				Severity: hcl.DiagError, Summary: "Project too large", Detail: fmt.Sprintf("The configuration files hold more than %d bytes together. Generate less, or use for_each.", MaxProjectBytes),
				Subject: &hcl.Range{Filename: p, Start: hcl.InitialPos, End: hcl.InitialPos},
			})
			return nil
		}
		out = append(out, syntax.Source{Name: p, Data: data, JSON: isJSON(p)})
	}
	l.sources = append(l.sources, out...)
	return out
}

// configFiles lists the configuration files that stand directly in dir.
func configFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var names []string
	for _, e := range entries {
		n := e.Name()
		if e.IsDir() || strings.HasPrefix(n, ".") || !strings.HasSuffix(n, ".ml.hcl") && !strings.HasSuffix(n, ".ml.json") {
			continue
		}
		names = append(names, n)
	}
	if len(names) > maxFiles {
		return nil, fmt.Errorf("%s holds %d configuration files, more than %d: %w", dir, len(names), maxFiles, fs.ErrInvalid)
	}
	sort.Strings(names)
	return names, nil
}

// maxFiles caps the configuration files of one folder.
const maxFiles = 20_000

func isJSON(filename string) bool { return strings.HasSuffix(filename, ".json") }
