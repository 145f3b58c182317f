package config

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/continuo-ml/continuo/config/internal/syntax"
)

// MaxModuleDepth caps modules within modules.
const MaxModuleDepth = 16

// callArgs are the meta-arguments of a module block; all others are variables.
var callArgs = map[string]bool{"source": true, "for_each": true, "count": true, "depends_on": true}

// call reads a `module "NAME"` block.
func (d *declarer) call(blk *hclsyntax.Block) {
	if !d.name(blk) {
		return
	}
	name := blk.Labels[0]
	if first, dup := d.cfg.calls[name]; dup {
		d.add(errAt(blk.DefRange(), "Duplicate module", "module.%s is declared already, at %s; rename one.", name, first.rng))
		return
	}
	c := &moduleCall{name: name, rng: blk.DefRange(), args: map[string]*formula{}, argRanges: map[string]hcl.Range{}}
	d.cfg.calls[name] = c
	for _, b := range blk.Body.Blocks {
		d.add(errAt(b.TypeRange, "Unknown block", "A module block holds attributes only: source and the module's variables."))
	}
	attrs := blk.Body.Attributes
	if a := attrs["source"]; a != nil {
		c.source, _ = d.literalText(a)
		c.sourceRng = a.Expr.Range()
	} else {
		d.add(errAt(blk.DefRange(), "Missing attribute", "Add source = \"./FOLDER\", or a git address such as \"git::https://host/repo.git//folder?ref=v1\"."))
	}
	c.expansion = d.expansion(attrs)
	for n, a := range attrs {
		if !callArgs[n] {
			f := d.collect("module."+name+"."+n, a, false)
			c.args[n] = &f
			c.argRanges[n] = a.NameRange
		}
	}
}

// calls reads the modules that cfg calls, and theirs. stack are the folders on
// the way, to find modules that contain themselves.
func (l *loader) calls(ctx context.Context, cfg *moduleConfig, stack []string) {
	if cfg == nil {
		return
	}
	stack = append(stack, cfg.dir)
	for _, name := range sortedKeys(cfg.calls) {
		c := cfg.calls[name]
		if c.source == "" || c.cfg != nil {
			continue
		}
		dir, diag := l.resolve(cfg.dir, c)
		if diag != nil {
			l.add(diag)
			continue
		}
		if i := slices.Index(stack, dir); i >= 0 {
			l.add(errAt(c.sourceRng, "A module contains itself", "%s → %s. Remove one of these module blocks.", strings.Join(stack[i:], " → "), dir))
			continue
		}
		if len(stack) > MaxModuleDepth {
			l.add(errAt(c.sourceRng, "Modules nested too deeply", "Modules stand in modules more than %d deep here; flatten them.", MaxModuleDepth))
			continue
		}
		_, known := l.modules[dir]
		c.cfg = l.module(ctx, dir)
		if len(c.cfg.order) == 0 && !known && len(c.cfg.vars)+len(c.cfg.outputs)+len(c.cfg.calls)+len(c.cfg.locals) == 0 && !l.diags.HasErrors() {
			l.add(errAt(c.sourceRng, "Empty module", "%s holds no *.ml.hcl or *.ml.json file that declares anything.", dir))
		}
		l.calls(ctx, c.cfg, stack)
	}
}

// resolve finds the folder of a module's source, relative to the project.
func (l *loader) resolve(from string, c *moduleCall) (string, *hcl.Diagnostic) {
	if strings.HasPrefix(c.source, "git::") {
		return l.resolveGit(c)
	}
	if !strings.HasPrefix(c.source, "./") && !strings.HasPrefix(c.source, "../") {
		return "", errAt(c.sourceRng, "Invalid module source", "A source is a folder inside the project, starting with ./ or ../, or a git address starting with git::.")
	}
	dir := path.Join(from, c.source)
	if dir == ".." || strings.HasPrefix(dir, "../") || strings.ContainsAny(c.source, "\\\x00") {
		return "", errAt(c.sourceRng, "Module outside of the project", "%q leads out of the project folder. Copy the module into it, or name its git repository.", c.source)
	}
	if diag := l.moduleFolder(dir, c); diag != nil {
		return "", diag
	}
	return dir, nil
}

// rootSchema is what a JSON file may hold at its top.
func (l *loader) rootSchema() *syntax.BodySchema {
	attrs := func(names ...string) func() *syntax.BodySchema {
		return func() *syntax.BodySchema { return &syntax.BodySchema{Attrs: names} }
	}
	free := func() *syntax.BodySchema { return &syntax.BodySchema{Any: true} }
	s := &syntax.BodySchema{Blocks: map[string]syntax.BlockSchema{
		"variable": {Labels: []string{"name"}, Body: func() *syntax.BodySchema {
			return &syntax.BodySchema{Attrs: []string{"type", "default", "description", "sensitive", "nullable"}, Blocks: map[string]syntax.BlockSchema{"validation": conditionJSON()}}
		}},
		"locals":   {Body: free},
		"output":   {Labels: []string{"name"}, Body: attrs("value", "description", "sensitive")},
		"module":   {Labels: []string{"name"}, Body: free},
		"provider": {Labels: []string{"name"}, Body: free},
		"ml": {Body: func() *syntax.BodySchema {
			return &syntax.BodySchema{Attrs: settingsAttrs, Blocks: map[string]syntax.BlockSchema{"backend": {Labels: []string{"type"}, Body: backendJSON}}}
		}},
		"moved":  {Body: attrs("from", "to")},
		"import": {Body: attrs("to", "id")},
		"removed": {Body: func() *syntax.BodySchema {
			return &syntax.BodySchema{Attrs: []string{"from"}, Blocks: map[string]syntax.BlockSchema{"lifecycle": {Body: attrs("destroy")}}}
		}},
	}}
	for name, spec := range l.specs {
		s.Blocks[name] = syntax.BlockSchema{Labels: []string{"name"}, Body: spec.jsonSchema}
	}
	return s
}
