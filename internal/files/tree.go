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
	name  string
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
	for _, de := range list {
		e := t.classify(path.Join(p, de.Name()), de)
		if t.rules && n.rules.ignored(path.Join(p, e.name), e.isDir || e.mayHold) {
			continue
		}
		n.entries = append(n.entries, e)
	}
	slices.SortFunc(n.entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
}

// readDir lists p in pieces, so that the cap is kept before a huge folder is in memory.
func (t *tree) readDir(p string) (list []fs.DirEntry, err error) {
	t.dirs.Add(1)
	f, err := t.root.OpenFile(p, openDirFlags, 0)
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
	e := entry{name: de.Name()}
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
	w := &collector{tree: t, match: match, under: under, stack: slices.Clone(starts), errs: map[string]error{}}
	w.wake = sync.NewCond(&w.mu)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(w.run)
	}
	wg.Wait()
	if len(w.errs) > 0 {
		return nil, joinErrors(sortedErrors(w.errs))
	}
	slices.Sort(w.out)
	return slices.Compact(w.out), nil
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

	mu    sync.Mutex
	wake  *sync.Cond
	stack []string // folders to visit
	busy  int      // folders being visited
	out   []string
	errs  map[string]error
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
		files, dirs, errs := w.visit(dir)
		w.mu.Lock()
		w.busy--
		w.out = append(w.out, files...)
		for p, err := range errs {
			w.errs[p] = err
		}
		// After the cap every further folder fails alike: stop, with one error.
		if errors.Is(errs[dir], ErrTooMany) {
			w.stack, w.errs = nil, map[string]error{dir: errs[dir]}
			dirs = nil
		}
		w.stack = append(w.stack, dirs...)
		w.wake.Broadcast()
	}
}

func (w *collector) visit(dir string) (files, dirs []string, errs map[string]error) {
	fail := func(p string, err error) {
		if errs == nil {
			errs = map[string]error{}
		}
		errs[p] = err
	}
	n := w.tree.node(dir)
	if n.err != nil {
		fail(dir, n.err)
		return nil, nil, errs
	}
	prefix := dir + "/"
	if dir == "." {
		prefix = ""
	}
	for i := range n.entries {
		e := &n.entries[i]
		p := prefix + e.name
		switch {
		case e.err != nil:
			if w.match(p) || e.mayHold && w.under(p) {
				fail(p, e.err)
			}
		case e.isDir:
			if w.under(p) {
				dirs = append(dirs, p)
			}
		case w.match(p):
			files = append(files, p)
		}
	}
	return files, dirs, errs
}
