package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// tree lists the folders below a root, each at most once however many callers ask.
type tree struct {
	root  *os.Root
	rules bool  // apply ignore rules
	max   int64 // cap on the entries of all folders together

	seen    atomic.Int64 // entries listed
	dirs    atomic.Int64 // folders listed
	folders onceMap[folder]
}

func newTree(root *os.Root, rules bool, maxFiles int) *tree {
	return &tree{root: root, rules: rules, max: int64(maxFiles)}
}

// folder is one listed folder.
type folder struct {
	entries []entry // by name; ignored ones are left out
	rules   *ruleChain
}

// entry is one name in a folder. A link stands as what it leads to.
type entry struct {
	path  string // from the root
	name  string // last element of path
	isDir bool
	// err says why the entry can be neither read nor entered: a device, a link out, a loop. It
	// concerns a caller only if it wants this entry, or for mayHold one below it.
	err     error
	mayHold bool
}

// folder returns the listing of p, which the caller knows to be a folder.
func (t *tree) folder(p string) (folder, error) {
	return t.folders.get(p, func() (folder, error) { return t.load(p) })
}

func (t *tree) load(p string) (f folder, err error) {
	if t.rules && p != "." {
		above, err := t.folder(path.Dir(p))
		if err != nil {
			return f, err
		}
		f.rules = above.rules
	}
	list, err := t.readDir(p)
	if err != nil {
		return f, err
	}
	if t.rules {
		if f.rules, err = t.ownRules(p, list, f.rules); err != nil {
			return f, err
		}
	}
	f.entries = make([]entry, 0, len(list))
	prefix := p + "/"
	if p == "." {
		prefix = ""
	}
	for _, de := range list {
		e := t.classify(prefix+de.Name(), de)
		if t.rules && f.rules.ignored(e.path, e.name, e.isDir || e.mayHold) {
			continue
		}
		f.entries = append(f.entries, e)
	}
	slices.SortFunc(f.entries, compareEntries)
	return f, nil
}

// compareEntries orders names as the paths below them are ordered: a folder "a" counts as "a/", which
// comes after "a.txt". A walk in this order yields sorted paths without sorting them.
func compareEntries(a, b entry) int {
	n := min(len(a.name), len(b.name))
	if c := strings.Compare(a.name[:n], b.name[:n]); c != 0 {
		return c
	}
	return next(a, n) - next(b, n)
}

// next returns the byte of e's path after n bytes of its name, -1 at the end.
func next(e entry, n int) int {
	switch {
	case len(e.name) > n:
		return int(e.name[n])
	case e.isDir:
		return '/'
	}
	return -1
}

// readDir lists p in pieces, so that the cap is kept before a huge folder is in memory.
func (t *tree) readDir(p string) (list []fs.DirEntry, err error) {
	t.dirs.Add(1)
	f, err := openDir(t.root, p)
	if err != nil {
		return nil, explain("list", p, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for {
		part, err := f.ReadDir(4096)
		list = append(list, part...)
		if t.seen.Add(int64(len(part))) > t.max {
			return nil, fmt.Errorf("list %s: %w: over %d entries; narrow the patterns or list folders in .mlignore", p, ErrTooMany, t.max)
		}
		switch {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, explain("list", p, err)
		}
	}
}

// ownRules puts the rules of p's own ignore file, if it is in list, in front of above.
func (t *tree) ownRules(p string, list []fs.DirEntry, above *ruleChain) (*ruleChain, error) {
	if !slices.ContainsFunc(list, func(e fs.DirEntry) bool { return e.Name() == ignoreName }) {
		return above, nil
	}
	name := path.Join(p, ignoreName)
	text, err := readCapped(t.root, name, maxIgnoreBytes)
	if err != nil {
		return nil, err
	}
	rules, err := parseIgnore(name, text)
	if err != nil {
		return nil, err
	}
	return &ruleChain{parent: above, dir: p, rules: rules}, nil
}

func (t *tree) classify(p string, de fs.DirEntry) entry {
	e := entry{path: p, name: p[len(p)-len(de.Name()):]}
	switch mode := de.Type(); {
	case mode.IsRegular():
	case mode.IsDir():
		e.isDir = true
	case mode&fs.ModeSymlink != 0:
		t.follow(p, &e)
	default:
		e.err = notRegular("read", p, mode)
	}
	return e
}

// follow fills e from what the link at p leads to. os.Root refuses the ones that leave the folder.
func (t *tree) follow(p string, e *entry) {
	fi, err := t.root.Stat(p)
	switch {
	case err != nil:
		e.err, e.mayHold = explain("follow the link", p, err), true
	case fi.Mode().IsRegular():
	case fi.IsDir():
		e.isDir = true
		// A link to a folder that holds it would be entered for ever.
		for up := path.Dir(p); ; up = path.Dir(up) {
			above, err := t.root.Stat(up)
			if err != nil {
				e.err, e.mayHold = explain("follow the link", p, err), true
				return
			}
			if os.SameFile(above, fi) {
				e.err, e.mayHold = fmt.Errorf("follow the link %s: it leads back to %s, which holds it; remove it, or list it in .mlignore", p, up), true
				return
			}
			if up == "." {
				return
			}
		}
	default:
		e.err = notRegular("read", p, fi.Mode())
	}
}

// collect returns, sorted, the files at and below the folders starts that match. Folders for which
// under is false are not entered. An entry that cannot be read is an error only if it is wanted.
func (t *tree) collect(starts []string, match, under func(p string) bool) ([]string, error) {
	w := &collector{tree: t, match: match, under: under, visited: map[string][]*entry{}, errs: map[string]error{}}
	w.group.SetLimit(runtime.GOMAXPROCS(0))
	for _, s := range starts {
		w.enter(s)
	}
	_ = w.group.Wait() // errors are in errs, by path
	if len(w.errs) > 0 {
		errs := make([]error, 0, len(w.errs))
		for _, p := range slices.Sorted(maps.Keys(w.errs)) {
			errs = append(errs, w.errs[p])
		}
		return nil, joinErrors(errs)
	}
	var out []string
	for _, s := range starts {
		out = w.gather(out, s)
	}
	if len(starts) > 1 {
		slices.Sort(out)
		out = slices.Compact(out)
	}
	return out, nil
}

// collector is one walk, by several goroutines.
type collector struct {
	tree         *tree
	match, under func(p string) bool
	group        errgroup.Group

	mu      sync.Mutex
	visited map[string][]*entry // by folder: the files that match and the folders to enter
	errs    map[string]error
	full    bool // after the cap every further folder fails alike: stop, with one error
}

// enter visits folder dir, unless that was done, on a goroutine of its own if there is one left.
func (w *collector) enter(dir string) {
	w.mu.Lock()
	_, again := w.visited[dir]
	if !again && !w.full {
		w.visited[dir] = nil
	}
	skip := again || w.full
	w.mu.Unlock()
	if skip || w.group.TryGo(func() error { w.visit(dir); return nil }) {
		return
	}
	w.visit(dir)
}

// visit notes the entries of dir that are wanted and what is wrong with those that cannot be had, and goes on below.
func (w *collector) visit(dir string) {
	f, err := w.tree.folder(dir)
	if err != nil {
		w.fail(dir, err)
		return
	}
	var found []*entry
	for i := range f.entries {
		e := &f.entries[i]
		switch {
		case e.err != nil:
			if w.match(e.path) || e.mayHold && w.under(e.path) {
				w.fail(e.path, e.err)
			}
		case e.isDir && w.under(e.path), !e.isDir && w.match(e.path):
			found = append(found, e)
		}
	}
	w.mu.Lock()
	w.visited[dir] = found
	w.mu.Unlock()
	for _, e := range found {
		if e.isDir {
			w.enter(e.path)
		}
	}
}

func (w *collector) fail(p string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.full:
	case errors.Is(err, ErrTooMany):
		w.full, w.errs = true, map[string]error{p: err}
	default:
		w.errs[p] = err
	}
}

// gather appends the files found below dir, in order.
func (w *collector) gather(out []string, dir string) []string {
	for _, e := range w.visited[dir] {
		if e.isDir {
			out = w.gather(out, e.path)
		} else {
			out = append(out, e.path)
		}
	}
	return out
}
