package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/internal/fence"
)

// Limits bound what one commit may bring.
type Limits struct {
	Files int   // files, and folders
	File  int64 // bytes of one file
	Total int64 // bytes of all files
	Depth int   // folders within folders
}

// DefaultLimits are wide for code and configuration, and for the small data that
// examples bring; large data belongs into a bucket.
var DefaultLimits = Limits{Files: 20_000, File: 256 << 20, Total: 1 << 30, Depth: 64}

// ListSuffix ends the name of the file beside a folder that says what was written into it.
const ListSuffix = ".files.json"

// Written says what Write left in a folder.
type Written struct {
	Commit string            `json:"commit"`
	Folder string            `json:"folder"`
	Files  map[string]string `json:"files"` // slash-separated path → hash of its content and mode
}

// Write makes dir hold the files of a folder of a commit ("." = all of it), and
// leaves alone what it did not write itself: state, caches, and what commands
// made. Files are replaced whole, one by one; the same content is not touched.
// Nothing is written when the commit breaks a limit or holds what is no regular
// file; the error names it.
func (m *Mirror) Write(ctx context.Context, commit, folder, dir string, lim Limits) (*Written, error) {
	repo, err := m.open()
	if err != nil {
		return nil, err
	}
	c, err := repo.CommitObject(plumbing.NewHash(commit))
	if err != nil {
		return nil, fmt.Errorf("commit %s of %s: %w", commit, m.Address(), err)
	}
	w, err := m.write(ctx, repo, c, folder, dir, lim)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		m.doubt.Store(true) // the commit is there and a part of it is not: the next fetch begins anew
		err = fmt.Errorf("%w; the copy is not whole, and the next look fetches it anew", err)
	}
	return w, err
}

func (m *Mirror) write(ctx context.Context, repo *git.Repository, c *object.Commit, folder, dir string, lim Limits) (*Written, error) {
	commit := c.Hash.String()
	tree, err := c.Tree()
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", commit, err)
	}
	if folder = path.Clean(folder); folder != "." {
		root := tree
		tree, err = root.Tree(folder)
		if e, ferr := root.FindEntry(folder); errors.Is(err, object.ErrDirectoryNotFound) && ferr == nil && e.Mode == filemode.Dir {
			err = plumbing.ErrObjectNotFound // it is in the commit, and not in the copy
		}
		if errors.Is(err, object.ErrDirectoryNotFound) {
			return nil, fmt.Errorf("%w: %s in commit %.12s of %s; nothing is taken away for it", ErrNoFolder, folder, commit, m.Address())
		} else if err != nil {
			return nil, fmt.Errorf("folder %s of commit %s: %w", folder, commit, err)
		}
	}
	l := &lister{ctx: ctx, objects: repo.Storer, lim: lim, blobs: map[string]blob{}}
	if err := l.walk(tree, "", 0); err != nil {
		return nil, fmt.Errorf("commit %.12s of %s: %w", commit, m.Address(), err)
	}
	w := &Written{Commit: commit, Folder: folder, Files: map[string]string{}}
	for name, b := range l.blobs {
		w.Files[name] = b.hash.String() + " " + b.mode.String()
	}
	return w, l.sync(ctx, dir, w)
}

// ReadWritten reads what Write left beside dir; nil when it never ran to its end.
func ReadWritten(dir string) (*Written, error) {
	w := &Written{}
	if ok, err := durable.ReadJSON(dir+ListSuffix, w); err != nil || !ok {
		return nil, err
	}
	return w, nil
}

// RefusedError says why a commit's files are not taken: the commit's own fault,
// and so until another one.
type RefusedError struct{ why string }

// Error implements error.
func (e *RefusedError) Error() string { return e.why }

func refuse(format string, args ...any) error { return &RefusedError{fmt.Sprintf(format, args...)} }

type blob struct {
	hash plumbing.Hash
	mode filemode.FileMode
	size int64
}

type lister struct {
	ctx     context.Context //nolint:containedctx // of one walk, which is over before its caller returns
	objects storer.EncodedObjectStorer
	lim     Limits
	seen    int
	bytes   int64
	blobs   map[string]blob
}

func (l *lister) walk(tree *object.Tree, at string, depth int) error {
	if depth > l.lim.Depth {
		return refuse("folders lie deeper than %d in one another at %q", l.lim.Depth, at)
	}
	for _, e := range tree.Entries {
		if err := l.ctx.Err(); err != nil {
			return err
		}
		if l.seen++; l.seen > l.lim.Files {
			return refuse("it holds more than %d files; point the daemon at a folder of it with path, or move data into a bucket", l.lim.Files)
		}
		name := path.Join(at, e.Name)
		if why := badName(e.Name); why != "" {
			return refuse("it holds the name %q, which %s", name, why)
		}
		switch e.Mode {
		case filemode.Dir:
			sub, err := object.GetTree(l.objects, e.Hash)
			if err != nil {
				return fmt.Errorf("folder %s: %w", name, err)
			}
			if err := l.walk(sub, name, depth+1); err != nil {
				return err
			}
		case filemode.Regular, filemode.Executable, filemode.Deprecated:
			size, err := l.objects.EncodedObjectSize(e.Hash)
			if err != nil {
				return fmt.Errorf("file %s: %w", name, err)
			}
			if l.bytes += size; size > l.lim.File || l.bytes > l.lim.Total {
				return refuse("%s is too large (limits: %d bytes a file, %d in all); move data into a bucket", name, l.lim.File, l.lim.Total)
			}
			l.blobs[name] = blob{hash: e.Hash, mode: e.Mode, size: size}
		case filemode.Symlink:
			return refuse("%s is a symbolic link; the daemon takes regular files only: put the file itself there, or point path at a folder without links", name)
		case filemode.Submodule:
			return refuse("%s is a submodule; the daemon takes regular files only: use a git module in the files, or point path at a folder without submodules", name)
		default:
			return refuse("%s is no regular file (mode %s)", name, e.Mode)
		}
	}
	return nil
}

// badName says what is wrong with a name in a tree, "" if nothing is. Git itself
// refuses most of them when it writes a tree, but not when it reads one.
func badName(name string) string {
	trimmed := strings.TrimRight(strings.ToLower(name), " .")
	switch {
	case name == "" || name == "." || name == "..":
		return "leads elsewhere"
	case strings.ContainsAny(name, "/\\\x00"):
		return "holds a separator"
	case strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return "holds a control character"
	case trimmed == ".git" || strings.HasPrefix(trimmed, "git~"):
		return "git keeps for itself"
	case trimmed == ".ml":
		return "is that of the state folder"
	case len(name) > 255:
		return "is longer than 255 bytes"
	}
	return ""
}

// sync writes what differs from the last time, then removes what is gone.
func (l *lister) sync(ctx context.Context, dir string, w *Written) error {
	before, err := ReadWritten(dir)
	if err != nil {
		return err
	}
	if before == nil {
		before = &Written{}
	}
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // a handle for reading names
	if a, b := alike(w.Files); a != "" {
		if one, err := foldsCase(root); err != nil {
			return err
		} else if one {
			return refuse("%s and %s would be one file on this disk, which does not tell upper from lower case; rename one of them", a, b)
		}
	}
	// What is about to be there is listed first: a crash in the middle leaves a list that covers all that was written.
	both := &Written{Files: maps.Clone(before.Files)}
	if both.Files == nil {
		both.Files = map[string]string{}
	}
	for name := range w.Files {
		if both.Files[name] != w.Files[name] {
			both.Files[name] = "" // to be written
		}
	}
	if err := durable.WriteJSON(dir+ListSuffix, both); err != nil {
		return err
	}
	fault.Point(fault.DaemonFilesListed)
	// What is gone goes first: a file may take the place of a folder, or a folder of a file.
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(before.Files))) {
		if _, stays := w.Files[name]; !stays {
			if err := removeFile(root, name); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.blobs)) {
		if err := cmp.Or(ctx.Err(), fence.Check(ctx)); err != nil {
			return err
		}
		if before.Files[name] == w.Files[name] {
			if _, err := root.Lstat(filepath.FromSlash(name)); err == nil {
				continue
			}
		}
		if err := l.writeBlob(root, name, l.blobs[name]); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	if err := fence.Check(ctx); err != nil {
		return err
	}
	fault.Point(fault.DaemonFilesWritten)
	return durable.WriteJSON(dir+ListSuffix, w)
}

// alike finds two names that differ by case only, "" if there are none.
func alike(files map[string]string) (a, b string) {
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		folded := strings.ToLower(name)
		if first := seen[folded]; first != "" {
			return first, name
		}
		seen[folded] = name
	}
	return "", ""
}

// foldsCase asks the disk whether it takes a name for the same in upper and in lower case.
func foldsCase(root *os.Root) (_ bool, err error) {
	const probe = ".ml-write-Case"
	f, err := root.Create(probe)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, root.Remove(probe)) }()
	if err := f.Close(); err != nil {
		return false, err
	}
	_, err = root.Lstat(strings.ToLower(probe))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// removeFile removes a file and the folders that are empty without it.
func removeFile(root *os.Root, name string) error {
	if err := root.Remove(filepath.FromSlash(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if root.Remove(filepath.FromSlash(dir)) != nil {
			break // not empty: commands leave files, too
		}
	}
	return nil
}

func (l *lister) writeBlob(root *os.Root, name string, b blob) (err error) {
	obj, err := object.GetBlob(l.objects, b.hash)
	if err != nil {
		return err
	}
	in, err := obj.Reader()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	local := filepath.FromSlash(name)
	if dir := filepath.Dir(local); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	perm := fs.FileMode(0o644)
	if b.mode == filemode.Executable {
		perm = 0o755
	}
	tmp := filepath.Join(filepath.Dir(local), ".ml-write-"+b.hash.String())
	out, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, b.size+1))
	if err == nil && n != b.size {
		err = fmt.Errorf("%d bytes instead of %d", n, b.size)
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = root.Rename(tmp, local)
	}
	if err != nil {
		return errors.Join(err, root.Remove(tmp))
	}
	return nil
}
