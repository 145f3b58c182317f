package config

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/hashicorp/hcl/v2"

	"github.com/continuo-ml/continuo/internal/durable"
)

// Limits of a git module: a module is configuration, not data.
const (
	maxModuleFiles = 10_000
	maxModuleBytes = MaxProjectBytes
)

// lockName is the file, beside the fetched modules, that says which commit each
// tag stood for when it was fetched first.
const lockName = "modules.json"

// lock is the content of that file.
type lock struct {
	Modules []lockEntry `json:"modules"`
}

type lockEntry struct {
	Repo   string `json:"repo"`
	Ref    string `json:"ref"`
	Commit string `json:"commit"`
}

// FetchModules fetches the git modules that the project and its modules name
// and that are not there yet, and returns their sources, sorted. It records the
// commit that each tag stood for; a tag that stands for another commit later is
// an error. Only regular files are written, inside the project; nothing of the
// repository is executed.
func FetchModules(ctx context.Context, opts Options) ([]string, hcl.Diagnostics) {
	l, diags := newLoader(opts)
	if diags.HasErrors() {
		return nil, diags
	}
	f := &fetcher{loader: l, fetched: map[string]bool{}}
	f.walk(ctx, l.module(ctx, "."), nil)
	out := sortedKeys(f.fetched)
	l.diags = fewer(l.diags)
	return out, l.diags
}

type fetcher struct {
	*loader
	fetched map[string]bool
}

func (f *fetcher) walk(ctx context.Context, cfg *moduleConfig, stack []string) {
	stack = append(stack, cfg.dir)
	if len(stack) > MaxModuleDepth {
		return // loading reports it
	}
	for _, name := range sortedKeys(cfg.calls) {
		c := cfg.calls[name]
		if strings.HasPrefix(c.source, "git::") {
			if d := f.fetch(ctx, c); d != nil {
				f.add(d)
				continue
			}
		}
		dir, diag := f.resolve(cfg.dir, c)
		if diag != nil {
			if c.source != "" {
				f.add(diag)
			}
			continue
		}
		if !slices.Contains(stack, dir) {
			f.walk(ctx, f.module(ctx, dir), stack)
		}
	}
}

// fetch makes sure that a git module is there.
func (f *fetcher) fetch(ctx context.Context, c *moduleCall) *hcl.Diagnostic {
	g, problem := parseGit(c.source, f.opts.LocalGit)
	if problem != "" {
		return nil // resolve reports it
	}
	base, err := f.modulesDir()
	if err != nil {
		return errAt(c.sourceRng, "A module cannot be fetched", "%s.", sentence(err))
	}
	folder := filepath.Join(f.opts.Dir, filepath.FromSlash(base))
	known, err := readLock(folder)
	if err != nil {
		return errAt(c.sourceRng, "The module lock file is damaged", "%s. Delete it and run ml init again; compare the commits it records.", sentence(err))
	}
	if _, err := os.Stat(filepath.Join(folder, g.key())); err == nil {
		return nil
	}
	patience := fetchPatience
	if f.opts.fetchTime > 0 {
		patience = f.opts.fetchTime
	}
	commit, err := impatient(ctx, patience, func(ctx context.Context) (string, error) { return clone(ctx, g, folder, known.commit(g)) })
	var moved *movedTag
	switch {
	case errors.As(err, &moved):
		return errAt(c.sourceRng, "A tag moved", "%s stood for commit %s when it was fetched first, and for %s now. Ask its owner why; to accept it, remove the entry from %s.", g.ref, moved.was, moved.is, path.Join(base, lockName))
	case err != nil:
		return errAt(c.sourceRng, "A module cannot be fetched", "%s: %s %s", g.repo, whole(err), fetchRemedy(err))
	}
	known.add(g, commit)
	if err := known.write(folder); err != nil {
		return errAt(c.sourceRng, "A module cannot be fetched", "%s.", sentence(err))
	}
	f.fetched[c.source] = true
	return nil
}

// movedTag says that a ref stands for another commit than it did.
type movedTag struct{ was, is string }

// Error implements error.
func (m *movedTag) Error() string { return "the ref moved from " + m.was + " to " + m.is }

// clone copies the files of a repository at a ref into folder/KEY. It reads
// them from the object store and never checks out, so that links, submodules
// and odd names in the repository reach nothing.
func clone(ctx context.Context, g gitSource, folder, want string) (commit string, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(folder, ".fetch-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	auth, err := sshAuth(g.repo)
	if err != nil {
		return "", err
	}
	opts := &git.CloneOptions{URL: g.repo, Tags: git.NoTags, Auth: auth}
	if !isCommit(g.ref) {
		opts.ReferenceName, opts.SingleBranch, opts.Depth = plumbing.NewTagReferenceName(g.ref), true, 1
	}
	repo, err := git.PlainCloneContext(ctx, filepath.Join(tmp, "repo"), true, opts)
	if errors.Is(err, git.NoMatchingRefSpecError{}) {
		return "", noTag(ctx, g, auth)
	}
	if err != nil {
		return "", err
	}
	hash := plumbing.NewHash(g.ref)
	if !isCommit(g.ref) {
		resolved, err := repo.ResolveRevision(plumbing.Revision("refs/tags/" + g.ref))
		if err != nil {
			return "", fmt.Errorf("tag %s: %w", g.ref, err)
		}
		hash = *resolved
	}
	c, err := repo.CommitObject(hash)
	if err != nil {
		return "", fmt.Errorf("commit %s: %w", hash, err)
	}
	if want != "" && want != c.Hash.String() {
		return "", &movedTag{was: want, is: c.Hash.String()}
	}
	tree, err := c.Tree()
	if err != nil {
		return "", err
	}
	files := filepath.Join(tmp, "files")
	if err := writeTree(ctx, tree, files); err != nil {
		return "", err
	}
	return c.Hash.String(), os.Rename(files, filepath.Join(folder, g.key()))
}

func isCommit(ref string) bool { return len(ref) == 40 && plumbing.IsHash(ref) }

func writeTree(ctx context.Context, tree *object.Tree, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	count, bytes := 0, int64(0)
	walker := object.NewTreeWalker(tree, true, nil)
	defer walker.Close()
	for err == nil {
		var name string
		var entry object.TreeEntry
		if name, entry, err = walker.Next(); err != nil {
			break
		}
		if err = ctx.Err(); err != nil {
			break
		}
		if entry.Mode != filemode.Regular && entry.Mode != filemode.Executable {
			continue // folders are made as needed; links and submodules are left out
		}
		file, ferr := tree.TreeEntryFile(&entry)
		if ferr != nil {
			err = ferr
			break
		}
		if count, bytes = count+1, bytes+file.Size; count > maxModuleFiles || bytes > maxModuleBytes {
			err = fmt.Errorf("the repository holds more than %d files or %d bytes", maxModuleFiles, maxModuleBytes)
			break
		}
		err = writeBlob(root, name, file)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, root.Close())
}

func writeBlob(root *os.Root, name string, file *object.File) (err error) {
	local := filepath.FromSlash(name)
	if !filepath.IsLocal(local) {
		return fmt.Errorf("the repository holds a path that leaves it: %q", name)
	}
	if dir := filepath.Dir(local); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	in, err := file.Reader()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := root.OpenFile(local, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, io.LimitReader(in, maxModuleBytes))
	return err
}

func readLock(folder string) (*lock, error) {
	raw, err := readRegular(filepath.Join(folder, lockName), MaxFileBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return &lock{}, nil
	}
	if err != nil {
		return nil, err
	}
	var l lock
	if err := json.Unmarshal(raw, &l); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(folder, lockName), err)
	}
	return &l, nil
}

// commit is what a ref stood for when it was fetched first, or "".
func (l *lock) commit(g gitSource) string {
	for _, m := range l.Modules {
		if m.Repo == g.repo && m.Ref == g.ref {
			return m.Commit
		}
	}
	return ""
}

func (l *lock) add(g gitSource, commit string) {
	if l.commit(g) != "" {
		return
	}
	l.Modules = append(l.Modules, lockEntry{Repo: g.repo, Ref: g.ref, Commit: commit})
	sort.Slice(l.Modules, func(i, j int) bool {
		a, b := l.Modules[i], l.Modules[j]
		return a.Repo < b.Repo || a.Repo == b.Repo && a.Ref < b.Ref
	})
}

// write replaces the lock file durably.
func (l *lock) write(folder string) error {
	raw, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(folder, lockName), append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", lockName, err)
	}
	return nil
}
