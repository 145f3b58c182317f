package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// tree lists the folders below a root, each at most once however many callers ask.
type tree struct {
	root  *os.Root
	rules bool  // apply ignore rules
	max   int64 // cap on the entries of all folders together

	seen atomic.Int64 // entries listed
	dirs atomic.Int64 // folders listed

	mu    sync.Mutex
	nodes map[string]*node
}

func newTree(root *os.Root, rules bool, maxFiles int) *tree {
	return &tree{root: root, rules: rules, max: int64(maxFiles), nodes: map[string]*node{}}
}

// node is one listed folder.
type node struct {
	once    sync.Once
	entries []entry // by name; ignored ones are left out
	rules   *ruleChain
	err     error
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

// node returns the listing of folder p, which the caller knows to be a folder.
func (t *tree) node(p string) *node {
	t.mu.Lock()
	n := t.nodes[p]
	if n == nil {
		n = &node{}
		t.nodes[p] = n
	}
	t.mu.Unlock()
	n.once.Do(func() { t.load(p, n) })
	return n
}

func (t *tree) load(p string, n *node) {
	if t.rules && p != "." {
		above := t.node(path.Dir(p))
		if above.err != nil {
			n.err = above.err
			return
		}
		n.rules = above.rules
	}
	list, err := t.readDir(p)
	if err != nil {
		n.err = err
		return
	}
	if t.rules {
		if n.rules, n.err = t.ownRules(p, list, n.rules); n.err != nil {
			return
		}
	}
	n.entries = make([]entry, 0, len(list))
	prefix := p + "/"
	if p == "." {
		prefix = ""
	}
	for _, de := range list {
		e := t.classify(prefix+de.Name(), de)
		if t.rules && n.rules.ignored(e.path, e.name, e.isDir || e.mayHold) {
			continue
		}
		n.entries = append(n.entries, e)
	}
	slices.SortFunc(n.entries, compareEntries)
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
	w := &collector{
		tree: t, match: match, under: under,
		stack: slices.Clone(starts), visited: map[string][]*entry{}, errs: map[string]error{},
	}
	w.wake = sync.NewCond(&w.mu)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(w.run)
	}
	wg.Wait()
	if len(w.errs) > 0 {
		return nil, joinErrors(sortedErrors(w.errs))
	}
	out := make([]string, 0, w.files)
	for _, s := range starts {
		out = w.gather(out, s)
	}
	if len(starts) > 1 {
		slices.Sort(out)
		out = slices.Compact(out)
	}
	return out, nil
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

// sortedErrors returns the errors in the order of their paths.
func sortedErrors(byPath map[string]error) []error {
	paths := make([]string, 0, len(byPath))
	for p := range byPath {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	errs := make([]error, len(paths))
	for i, p := range paths {
		errs[i] = byPath[p]
	}
	return errs
}

// collector is one walk, shared by its workers.
type collector struct {
	tree         *tree
	match, under func(p string) bool

	mu      sync.Mutex
	wake    *sync.Cond
	stack   []string            // folders to visit
	busy    int                 // folders being visited
	visited map[string][]*entry // by folder: the files that match and the folders to enter
	files   int                 // matches so far
	errs    map[string]error
}

func (w *collector) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.stack) == 0 && w.busy > 0 {
			w.wake.Wait()
		}
		if len(w.stack) == 0 {
			return
		}
		dir := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		w.busy++
		w.mu.Unlock()
		found, errs := w.visit(dir)
		w.mu.Lock()
		w.busy--
		for p, err := range errs {
			w.errs[p] = err
		}
		if errors.Is(errs[dir], ErrTooMany) {
			// After the cap every further folder fails alike: stop, with one error.
			w.stack, w.errs, found = nil, map[string]error{dir: errs[dir]}, nil
		}
		if _, again := w.visited[dir]; !again {
			w.visited[dir] = found
			for _, e := range found {
				if e.isDir {
					w.stack = append(w.stack, e.path)
				} else {
					w.files++
				}
			}
		}
		w.wake.Broadcast()
	}
}

// visit returns the entries of dir that are wanted, and what is wrong with those that cannot be had.
func (w *collector) visit(dir string) (found []*entry, errs map[string]error) {
	fail := func(p string, err error) {
		if errs == nil {
			errs = map[string]error{}
		}
		errs[p] = err
	}
	n := w.tree.node(dir)
	if n.err != nil {
		fail(dir, n.err)
		return nil, errs
	}
	for i := range n.entries {
		e := &n.entries[i]
		switch {
		case e.err != nil:
			if w.match(e.path) || e.mayHold && w.under(e.path) {
				fail(e.path, e.err)
			}
		case e.isDir && w.under(e.path), !e.isDir && w.match(e.path):
			found = append(found, e)
		}
	}
	return found, errs
}
