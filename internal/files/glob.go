package files

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Limits on one pattern: every group of alternatives multiplies the work of a match.
const (
	maxPatternBytes  = 4096
	maxPatternGroups = 6
)

// pattern is one compiled glob. The folder before its first wildcard is named, not found, so ignore
// rules do not apply to that folder itself ("data/" ignored, "data/*.csv" asked for).
type pattern struct {
	text string
	base string   // folder that holds all matches
	segs []string // elements, to tell which folders can hold a match; nil: any can
	all  bool     // the pattern is base/**
}

// Matcher is a glob as a dataset's source may be, for names that are not those of local files.
type Matcher struct{ p pattern }

// NewMatcher compiles a glob of slash paths.
func NewMatcher(glob string) (Matcher, error) {
	p, err := compilePattern(glob)
	return Matcher{p}, err
}

// Base is the folder that holds all matches, "." for any.
func (m Matcher) Base() string { return m.p.base }

// Match reports whether a clean slash path matches.
func (m Matcher) Match(name string) bool { return m.p.match(name) }

// AlwaysIgnored reports whether no source holds a file of this name, or below a folder of it, whatever the rules say.
func AlwaysIgnored(name string, isDir bool) bool { return alwaysIgnored(name, isDir) }

// CheckPath returns an error unless p is a clean slash path that may stand below a folder.
func CheckPath(p string) error { return checkEntryPath(p) }

func hasMeta(p string) bool { return strings.ContainsAny(p, `*?[{\`) }

func compilePattern(text string) (pattern, error) {
	clean, err := cleanPath(text)
	if err != nil {
		return pattern{}, fmt.Errorf("pattern %w", err)
	}
	if len(clean) > maxPatternBytes || strings.Count(clean, "{") > maxPatternGroups {
		return pattern{}, fmt.Errorf("pattern %.40q is over the limit of %d bytes and %d groups of alternatives; split it", text, maxPatternBytes, maxPatternGroups)
	}
	if !doublestar.ValidatePattern(clean) {
		return pattern{}, fmt.Errorf("pattern %q: %w", text, doublestar.ErrBadPattern)
	}
	base, rest := doublestar.SplitPattern(clean)
	p := pattern{text: clean, base: base, all: rest == "**"}
	if strings.HasSuffix(clean, "/**") {
		// As in a shell, "*/**" is what lies in folders: doublestar would match files beside them too.
		clean += "/*"
		p.text = clean
	}
	if !strings.ContainsAny(clean, `{[\`) {
		p.segs = strings.Split(clean, "/")
	}
	return p, nil
}

func (p *pattern) match(name string) bool {
	if p.all {
		return within(p.base, name)
	}
	return doublestar.MatchUnvalidated(p.text, name)
}

// under reports whether a file below folder dir can match; it may say yes too often, never too seldom.
func (p *pattern) under(dir string) bool {
	if !within(p.base, dir) && !within(dir, p.base) {
		return false
	}
	if p.segs == nil {
		return true
	}
	i := 0
	for seg := range strings.SplitSeq(dir, "/") {
		if i >= len(p.segs)-1 {
			return i < len(p.segs) && p.segs[i] == "**"
		}
		if p.segs[i] == "**" {
			return true
		}
		if !doublestar.MatchUnvalidated(p.segs[i], seg) {
			return false
		}
		i++
	}
	return true
}

// within reports whether p is dir or lies below it.
func within(dir, p string) bool {
	return dir == "." || p == dir || len(p) > len(dir) && p[len(dir)] == '/' && strings.HasPrefix(p, dir)
}

// Glob returns the files that match any of patterns, as sorted slash paths relative to the project
// folder. "**" stands for any number of folders, "{a,b}" for either; the syntax is doublestar's. Ignore
// rules apply, except to what a pattern names without a wildcard: a file named so is returned when it
// exists, a folder named so stands for all files below it. No match is an empty list, not an error.
//
// A folder is listed once in the life of an Index, and equal pattern sets are answered from memory:
// the slice is shared between callers, read it only.
func (x *Index) Glob(patterns []string) ([]string, error) {
	found, err := x.view().glob(patterns)
	return slices.Clip(found.paths), err
}

// globbed is the answer to one set of patterns.
type globbed struct {
	paths   []string
	missing []string // patterns without a wildcard that name nothing
}

func (v *view) glob(patterns []string) (globbed, error) {
	set := slices.Clone(patterns)
	slices.Sort(set)
	set = slices.Compact(set)
	return v.globs.get(strings.Join(set, "\x00"), func() (globbed, error) { return v.globSet(set) })
}

func (v *view) globSet(set []string) (globbed, error) {
	var out globbed
	var pats []pattern
	var starts []string
	for _, text := range set {
		if !hasMeta(text) {
			found, isDir, err := v.named(text)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				out.missing = append(out.missing, text)
				continue
			case err != nil:
				return globbed{}, err
			case !isDir:
				out.paths = append(out.paths, found)
				continue
			}
			pats, starts = append(pats, pattern{base: found, all: true}), append(starts, found)
			continue
		}
		p, err := compilePattern(text)
		if err != nil {
			return globbed{}, err
		}
		_, isDir, err := v.named(p.base)
		switch {
		case errors.Is(err, fs.ErrNotExist), err == nil && !isDir:
			continue
		case err != nil:
			return globbed{}, err
		}
		pats, starts = append(pats, p), append(starts, p.base)
	}
	if len(starts) > 0 {
		slices.Sort(starts)
		found, err := v.tree.collect(slices.Compact(starts),
			func(p string) bool { return slices.ContainsFunc(pats, func(g pattern) bool { return g.match(p) }) },
			func(p string) bool { return slices.ContainsFunc(pats, func(g pattern) bool { return g.under(p) }) })
		if err != nil {
			return globbed{}, err
		}
		out.paths = append(out.paths, found...)
	}
	slices.Sort(out.paths)
	out.paths = slices.Compact(out.paths)
	return out, nil
}

// named returns the clean form of a path that names a regular file or a folder, and which it is.
func (v *view) named(p string) (clean string, isDir bool, err error) {
	clean, err = cleanPath(p)
	if err != nil {
		return "", false, fmt.Errorf("path %w", err)
	}
	fi, err := v.root.Stat(clean)
	switch {
	case err != nil:
		return "", false, explain("read", clean, err)
	case fi.IsDir():
		return clean, true, nil
	case !fi.Mode().IsRegular():
		return "", false, notRegular("read", clean, fi.Mode())
	}
	return clean, false, nil
}

// CaseCollisions returns the groups of names among paths that differ only by case, each sorted: files
// that fall together on a disk that folds case (macOS, Windows). A folder counts once, not once for
// each file below it.
func CaseCollisions(paths []string) [][]string {
	spelled := map[string]map[string]bool{}
	for _, p := range paths {
		for at := p; at != "." && at != "/" && at != ""; at = path.Dir(at) {
			dir, base := path.Split(at)
			key := dir + foldCase(base)
			if spelled[key] == nil {
				spelled[key] = map[string]bool{}
			}
			if spelled[key][at] {
				break
			}
			spelled[key][at] = true
		}
	}
	var out [][]string
	for _, names := range spelled {
		if len(names) < 2 {
			continue
		}
		var group []string
		for n := range names {
			group = append(group, n)
		}
		slices.Sort(group)
		out = append(out, group)
	}
	slices.SortFunc(out, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	return out
}

// foldCase maps strings that are equal under Unicode's simple case folding to one string. Lowering
// the upper-case form catches letters with two lower-case forms (σ, ς) and signs such as K (kelvin).
func foldCase(s string) string { return strings.ToLower(strings.ToUpper(s)) }
