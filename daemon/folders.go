package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/fsnotify/fsnotify"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/internal/source"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/state"
)

// Limits of what is watched on this machine's disk.
const (
	maxFolders = 256 // of one repository
	// stillness is how long nothing must have moved: whoever copies data does so file by file.
	stillness = 300 * time.Millisecond
	// restShare is how many times as long as a cycle that data began the daemon rests before
	// data begins another, so that a file that grows all the time leaves it time.
	restShare = 5
)

// folders stand by to tell that data was laid down where a dataset lies, or that a
// repository on this machine moved. What they tell is a hint: data is looked at in
// each cycle, and a folder that cannot be watched costs the interval.
type folders struct {
	watcher *fsnotify.Watcher
	done    chan struct{}

	mu    sync.Mutex
	data  []dataPlace
	refs  []string // files of the repository that name its commits
	key   string   // what it was set for
	dirty bool     // folders came or went since
	lacks error    // why not all of it is watched
}

// dataPlace is where a dataset's files lie.
type dataPlace struct {
	pattern string // absolute, a path or a glob
	base    string // what stands before the first wildcard
	glob    bool
	deep    bool // folders below base may hold some
}

func placeData(root, src string) dataPlace {
	p := dataPlace{pattern: filepath.Join(root, filepath.FromSlash(src)), glob: strings.ContainsAny(src, `*?[{\`), deep: true}
	p.base = p.pattern
	if p.glob {
		base, rest := doublestar.SplitPattern(filepath.ToSlash(src))
		p.base = filepath.Join(root, filepath.FromSlash(base))
		p.deep = strings.Contains(rest, "/") || strings.Contains(rest, "**")
	}
	return p
}

// holds says whether what moved may be of the dataset's files.
func (p dataPlace) holds(path string, isDir bool) bool {
	if isDir && (within(p.base, path) && p.deep || within(path, p.base)) {
		return true // on the way to them
	}
	if p.glob {
		ok, err := doublestar.PathMatch(p.pattern, path)
		return ok && err == nil
	}
	return within(p.pattern, path)
}

// within says whether path is dir or lies below it.
func within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, dir+string(filepath.Separator))
}

// startFolders begins to stand by; on what cannot be watched it says why and gives nil.
func (r *repo) startFolders(ctx context.Context) *folders {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		r.log.Warn("local folders are not watched, and looked at in each cycle only", "error", err)
		return nil
	}
	f := &folders{watcher: w, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		f.listen(ctx, r.wake, r.arrived)
	}()
	return f
}

// stop ends it; nil has none.
func (f *folders) stop() error {
	if f == nil {
		return nil
	}
	err := f.watcher.Close()
	<-f.done
	return err
}

// listen rings when what moved has come to rest.
func (f *folders) listen(ctx context.Context, refs, data chan struct{}) {
	still := map[chan struct{}]*time.Timer{}
	defer func() {
		for _, t := range still {
			t.Stop()
		}
	}()
	touch := func(ring chan struct{}) {
		if t := still[ring]; t != nil {
			t.Reset(stillness)
			return
		}
		still[ring] = time.AfterFunc(stillness, func() { poke(ring) })
	}
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-f.watcher.Errors: // an overflow: something moved, nobody knows what
			if !ok {
				return
			}
			touch(data)
			touch(refs)
		case ev, ok := <-f.watcher.Events:
			if !ok {
				return
			}
			ofRefs, ofData := f.concerns(ev)
			if ofRefs {
				touch(refs)
			}
			if ofData {
				touch(data)
			}
		}
	}
}

func (f *folders) concerns(ev fsnotify.Event) (refs, data bool) {
	if ev.Op == fsnotify.Chmod {
		return false, false
	}
	isDir := false
	if ev.Has(fsnotify.Create) {
		info, err := os.Lstat(ev.Name)
		isDir = err == nil && info.IsDir()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if isDir || ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename) {
		f.dirty = true
	}
	refs = slices.Contains(f.refs, ev.Name) || isDir && slices.ContainsFunc(f.refs, func(ref string) bool { return within(ev.Name, ref) })
	data = slices.ContainsFunc(f.data, func(p dataPlace) bool { return p.holds(ev.Name, isDir) })
	return refs, data
}

// set says what to stand by for, and why some of it is not watched. late says that
// folders are watched from now on that were not: something may have moved before.
func (f *folders) set(data []dataPlace, refs []string) (late bool, err error) {
	key := strings.Join(refs, "\n")
	for _, p := range data {
		key += "\n" + p.pattern
	}
	f.mu.Lock()
	same := key == f.key && !f.dirty
	f.data, f.refs, f.key, f.dirty = data, refs, key, false
	f.mu.Unlock()
	if same {
		return false, f.lacks
	}
	defer func() { f.lacks = err }()
	want, err := wanted(data, refs)
	has := f.watcher.WatchList()
	for _, dir := range has {
		if _, ok := slices.BinarySearch(want, dir); !ok {
			if rerr := f.watcher.Remove(dir); rerr != nil && !errors.Is(rerr, fsnotify.ErrNonExistentWatch) {
				err = errors.Join(err, rerr)
			}
		}
	}
	for _, dir := range want {
		if slices.Contains(has, dir) {
			continue
		}
		if aerr := f.watcher.Add(dir); aerr != nil {
			return late, errors.Join(err, aerr) // the next one would not be had either
		}
		late = true
	}
	return late, err
}

// errTooMany says that there are more folders than are watched.
var errTooMany = errors.New("there are too many folders to watch all of them")

// wanted are the folders to watch, sorted: where the files lie, or the nearest
// folder that is there.
func wanted(data []dataPlace, refs []string) ([]string, error) {
	var out []string
	for _, ref := range refs {
		out = append(out, nearest(filepath.Dir(ref)))
	}
	var err error
	for _, p := range data {
		top := nearest(p.base)
		if top != p.base || !p.deep {
			out = append(out, top)
			continue
		}
		werr := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil || !d.IsDir():
				return nil //nolint:nilerr // what is gone by now needs no watch
			case path != top && strings.HasPrefix(d.Name(), "."): // the state, git's own
				return fs.SkipDir
			case len(out) >= maxFolders:
				return errTooMany
			}
			out = append(out, path)
			return nil
		})
		err = errors.Join(err, werr)
	}
	slices.Sort(out)
	return slices.Compact(out), err
}

// nearest is the folder itself, or the first above it that is one.
func nearest(dir string) string {
	for {
		info, err := os.Stat(dir)
		if up := filepath.Dir(dir); err == nil && info.IsDir() || up == dir {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// sources are where the recorded datasets lie on this machine.
func (r *repo) sources(snap *state.Snapshot, w *workspace.Workspace) []dataPlace {
	var out []dataPlace
	for a, rec := range snap.Records {
		if a.Kind != "dataset" {
			continue
		}
		var spec struct {
			Source string `json:"source"`
		}
		if json.Unmarshal(rec.Spec, &spec) != nil || spec.Source == "" || source.Remote(spec.Source) || !filepath.IsLocal(filepath.FromSlash(spec.Source)) {
			continue
		}
		out = append(out, placeData(w.Root, spec.Source))
	}
	slices.SortFunc(out, func(a, b dataPlace) int { return strings.Compare(a.pattern, b.pattern) })
	return slices.CompactFunc(out, func(a, b dataPlace) bool { return a == b })
}

// refs are the files by which a repository on this machine names the branch.
func (r *repo) refs() []string {
	if !filepath.IsAbs(r.conf.URL) {
		return nil
	}
	dir := filepath.Clean(r.conf.URL)
	if inner := filepath.Join(dir, ".git"); nearest(inner) == inner {
		dir = inner
	}
	return []string{filepath.Join(dir, "packed-refs"), filepath.Join(dir, filepath.FromSlash(r.branch()))}
}

// standBy brings what is watched up to date, after a cycle.
func (r *repo) standBy(f *folders) {
	if f == nil {
		return
	}
	late, err := f.set(r.places, r.refs())
	if late {
		poke(r.arrived)
	}
	if text := status.ErrorText(err, 5); text != r.unwatched { // said once
		if r.unwatched = text; err != nil {
			r.log.Warn("some folders are not watched, and looked at in each cycle only", "error", err)
		}
	}
}

// rest waits for the next cycle: for its time, for a hint that something moved, or
// for data. Cycles that data begins one after the other leave pauses in between.
func (r *repo) rest(ctx context.Context, wait, gap time.Duration) (byData bool, err error) {
	end, began := time.NewTimer(wait), time.Now()
	defer end.Stop()
	var soon <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-r.wake:
			return false, nil
		case <-r.moved:
			return false, pause(ctx, settle)
		case <-r.arrived:
			if soon == nil {
				t := time.NewTimer(gap - time.Since(began))
				defer t.Stop()
				soon = t.C
			}
		case <-soon:
			return true, nil
		case <-end.C:
			return false, nil
		}
	}
}
