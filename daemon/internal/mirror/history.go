package mirror

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// Step is one commit of a branch's own line with all that came in with it.
type Step struct {
	// Base is the commit before it in that line.
	Base string
	// Commits are those of the step: the line's own, and what a merge brought.
	Commits []string
}

// slop is how many commits of the old history are looked at after the new one
// seems to be whole: commits say themselves when they were made, and may err. An
// old commit that is missed by it is listed as new, never the other way round.
const slop = 500

// ErrHistory says that it cannot be told what a branch has that it had not before.
var ErrHistory = errors.New("the history cannot be followed")

// Has says whether the copy holds a commit.
func (m *Mirror) Has(commit string) (bool, error) {
	repo, err := m.open()
	if err != nil {
		return false, err
	}
	_, err = repo.CommitObject(plumbing.NewHash(commit))
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Since lists what head descends from, itself included, and before does not: the
// branch's own line from old to new, when before is on it, else all in one step.
// More than most commits, and parents that the copy lacks, are ErrHistory.
func (m *Mirror) Since(ctx context.Context, head, before string, most int) ([]Step, error) {
	repo, err := m.open()
	if err != nil {
		return nil, err
	}
	w := &walk{repo: repo, marks: map[plumbing.Hash]*mark{}}
	if err := w.add(head, false); err != nil {
		return nil, err
	}
	if err := w.add(before, true); err != nil {
		return nil, err
	}
	if err := w.run(ctx, most); err != nil {
		return nil, err
	}
	return w.steps(plumbing.NewHash(head), plumbing.NewHash(before)), nil
}

// mark is what is known of a commit.
type mark struct {
	commit *object.Commit
	old    bool // before descends from it, or is it
	given  bool // it is in a step
}

// walk goes through the history of two commits at once, the newest commit first.
type walk struct {
	repo  *git.Repository
	marks map[plumbing.Hash]*mark
	queue byDate
	fresh int // in the queue and not old
}

func (w *walk) add(hash string, old bool) error { return w.put(plumbing.NewHash(hash), old, hash) }

// put queues a commit, and again when it turns out to be old: its parents are, too.
func (w *walk) put(h plumbing.Hash, old bool, child string) error {
	k := w.marks[h]
	if k == nil {
		c, err := w.repo.CommitObject(h)
		switch {
		case errors.Is(err, plumbing.ErrObjectNotFound) && old:
			return nil // beyond what is there, and nobody asks
		case errors.Is(err, plumbing.ErrObjectNotFound):
			return fmt.Errorf("%w: commit %.12s, which %.12s follows, is not in the repository", ErrHistory, h, child)
		case err != nil:
			return fmt.Errorf("read commit %s: %w", h, err)
		}
		k = &mark{commit: c, old: old}
		w.marks[h] = k
	} else if k.old || !old {
		return nil
	}
	k.old = old
	heap.Push(&w.queue, entry{k, old})
	if !old {
		w.fresh++
	}
	return nil
}

func (w *walk) run(ctx context.Context, most int) error {
	found := 0
	for late := 0; w.queue.Len() > 0 && (w.fresh > 0 || late < slop); {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := heap.Pop(&w.queue).(entry) //nolint:forcetypeassert // the heap's own
		switch {
		case !e.old:
			w.fresh--
			if !e.mark.old {
				found++
			}
		case w.fresh == 0:
			late++
		}
		if found > most {
			return fmt.Errorf("%w: there are more than %d commits that were not there before", ErrHistory, most)
		}
		for _, p := range e.mark.commit.ParentHashes {
			if err := w.put(p, e.mark.old, e.mark.commit.Hash.String()); err != nil {
				return err
			}
		}
	}
	return nil
}

// steps parts what is new along the line of first parents.
func (w *walk) steps(head, before plumbing.Hash) []Step {
	var line []plumbing.Hash
	at := head
	for k := w.marks[at]; k != nil && !k.old; k = w.marks[at] {
		line = append(line, at)
		if len(k.commit.ParentHashes) == 0 {
			at = plumbing.ZeroHash
			break
		}
		at = k.commit.ParentHashes[0]
	}
	if at != before { // another line: all of it is judged by what was there
		line = line[:min(1, len(line))]
	}
	var out []Step
	base := before
	for _, h := range slices.Backward(line) {
		out = append(out, Step{Base: base.String(), Commits: w.take(h)})
		base = h
	}
	return out
}

// take gives a commit and what it descends from, as far as it is new and not
// given yet, older ones first.
func (w *walk) take(h plumbing.Hash) []string {
	var out []string
	todo := []plumbing.Hash{h}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		k := w.marks[at]
		if k == nil || k.old || k.given {
			continue
		}
		k.given = true
		out = append(out, at.String())
		todo = append(todo, k.commit.ParentHashes...)
	}
	slices.Reverse(out)
	return out
}

type entry struct {
	mark *mark
	old  bool // when it was queued
}

// byDate is a heap with the newest commit first.
type byDate []entry

func (q byDate) Len() int { return len(q) }
func (q byDate) Less(i, j int) bool {
	return q[i].mark.commit.Committer.When.After(q[j].mark.commit.Committer.When)
}
func (q byDate) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *byDate) Push(x any) { *q = append(*q, x.(entry)) } //nolint:forcetypeassert // the heap's own

// Pop implements heap.Interface.
func (q *byDate) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// maxCommit bounds the object of a commit: the message is somebody's text.
const maxCommit = 4 << 20

// Raw is a commit as git keeps it, without git's own header.
func (m *Mirror) Raw(commit string) ([]byte, error) {
	repo, err := m.open()
	if err != nil {
		return nil, err
	}
	o, err := repo.Storer.EncodedObject(plumbing.CommitObject, plumbing.NewHash(commit))
	if err != nil {
		return nil, fmt.Errorf("commit %s of %s: %w", commit, m.Address(), err)
	}
	if o.Size() > maxCommit {
		return nil, fmt.Errorf("commit %s of %s is larger than %d bytes", commit, m.Address(), maxCommit)
	}
	return content(o)
}

func content(o plumbing.EncodedObject) (_ []byte, err error) {
	r, err := o.Reader()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(r)
}

// Limits of the files that Files reads.
const (
	maxRead      = 64
	maxReadBytes = 1 << 20
)

// Files reads a file of a commit, or the regular files right in a folder, by
// name. One that is not there is ErrNoFolder.
func (m *Mirror) Files(commit, name string) (map[string][]byte, error) {
	repo, err := m.open()
	if err != nil {
		return nil, err
	}
	c, err := repo.CommitObject(plumbing.NewHash(commit))
	if err != nil {
		return nil, fmt.Errorf("commit %s of %s: %w", commit, m.Address(), err)
	}
	tree, err := c.Tree()
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", commit, err)
	}
	name = path.Clean(name)
	e, err := tree.FindEntry(name)
	if errors.Is(err, object.ErrEntryNotFound) || errors.Is(err, object.ErrDirectoryNotFound) {
		return nil, fmt.Errorf("%w: %s in commit %.12s", ErrNoFolder, name, commit)
	}
	if err != nil {
		return nil, fmt.Errorf("%s of commit %.12s: %w", name, commit, err)
	}
	entries := []object.TreeEntry{*e}
	if e.Mode == filemode.Dir {
		sub, err := tree.Tree(name)
		if err != nil {
			return nil, fmt.Errorf("%s of commit %.12s: %w", name, commit, err)
		}
		entries = sub.Entries
	}
	out := map[string][]byte{}
	for _, e := range entries {
		if e.Mode != filemode.Regular && e.Mode != filemode.Executable && e.Mode != filemode.Deprecated {
			continue
		}
		if len(out) == maxRead {
			return nil, refuse("%s holds more than %d files", name, maxRead)
		}
		blob, err := object.GetBlob(repo.Storer, e.Hash)
		if err != nil {
			return nil, fmt.Errorf("%s of commit %.12s: %w", e.Name, commit, err)
		}
		if blob.Size > maxReadBytes {
			return nil, refuse("%s is larger than %d bytes", e.Name, maxReadBytes)
		}
		if out[e.Name], err = read(blob); err != nil {
			return nil, fmt.Errorf("%s of commit %.12s: %w", e.Name, commit, err)
		}
	}
	return out, nil
}

func read(b *object.Blob) (_ []byte, err error) {
	r, err := b.Reader()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(r)
}
