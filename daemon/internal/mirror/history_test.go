package mirror

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// at makes a commit of a time of its own.
func (o *origin) at(when int64, parents ...string) string {
	o.t.Helper()
	c := &object.Commit{Message: "x", TreeHash: o.raw(o.file("f", "1")), Author: object.Signature{Name: "Ada", When: time.Unix(when, 0)}}
	c.Committer = c.Author
	for _, p := range parents {
		c.ParentHashes = append(c.ParentHashes, plumbing.NewHash(p))
	}
	return o.store(c).String()
}

func TestWhatIsNewIsListedAlongTheBranch(t *testing.T) {
	ctx, o := context.Background(), newOrigin(t)
	m := &Mirror{url: o.dir, dir: o.dir}
	root := o.at(1)
	before := o.at(10, root)
	side1 := o.at(3, root)
	side2 := o.at(1000, side1) // dates mean nothing
	c1 := o.at(2, before)
	merge := o.at(11, c1, side2)
	head := o.at(5, merge)
	swapped := o.at(12, side2, c1) // the old line is the second parent
	other := o.at(4, root)
	for name, c := range map[string]struct {
		head, before string
		want         []Step
	}{
		"nothing new":              {before, before, nil},
		"an older commit":          {root, before, nil},
		"a line with a merge":      {head, before, []Step{{before, []string{c1}}, {c1, []string{side1, side2, merge}}, {merge, []string{head}}}},
		"the line turned about":    {swapped, before, []Step{{before, []string{side1, side2, c1, swapped}}}},
		"a branch from before":     {other, before, []Step{{before, []string{other}}}},
		"the whole of a new world": {side2, c1, []Step{{c1, []string{side1, side2}}}},
	} {
		got, err := m.Since(ctx, c.head, c.before, 10)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range got { // the order within a step is nothing to rely on
			slices.Sort(got[i].Commits)
		}
		for i := range c.want {
			slices.Sort(c.want[i].Commits)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v; want %v", name, got, c.want)
		}
	}
	if _, err := m.Since(ctx, head, root, 3); !errors.Is(err, ErrHistory) || !strings.Contains(err.Error(), "more than 3") {
		t.Errorf("too many: %v", err)
	}
	if got, err := m.Since(ctx, head, root, 6); err != nil || len(got) != 4 {
		t.Errorf("just as many: %v, %v", got, err)
	}
	hole := o.at(20, strings.Repeat("1", 40))
	if _, err := m.Since(ctx, hole, before, 10); !errors.Is(err, ErrHistory) || !strings.Contains(err.Error(), "is not in the repository") {
		t.Errorf("a parent that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := m.Since(ctx, head, root, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

func TestAnOldCommitWithAnAbsurdDateIsOldAllTheSame(t *testing.T) {
	o := newOrigin(t)
	m := &Mirror{url: o.dir, dir: o.dir}
	// A long old line, newest first by date, and a new commit from its far end that claims to be the newest of all.
	far := o.at(1 << 30)
	line := far
	for i := range int64(100) {
		line = o.at(1000+i, line)
	}
	head := o.at(1<<31, line, far)
	got, err := m.Since(context.Background(), head, line, 10)
	if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0].Commits, []string{head}) {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestFilesOfACommitAreReadUnderLimits(t *testing.T) {
	o := newOrigin(t)
	m := &Mirror{url: o.dir, dir: o.dir}
	many := make([]object.TreeEntry, 0, maxRead+1)
	for i := range maxRead + 1 {
		many = append(many, o.file(string(rune('A'+i)), "x"))
	}
	c := o.commit(o.raw(
		o.folder("big", o.file("f", strings.Repeat("x", maxReadBytes+1))),
		object.TreeEntry{Name: "link", Mode: filemode.Symlink, Hash: o.blob("/etc/passwd")},
		o.folder("many", many...),
		o.folder("s", o.file("a", "1"), o.file("b", "2"), o.folder("deeper", o.file("c", "3"))),
	))
	for name, want := range map[string]map[string][]byte{
		"s": {"a": []byte("1"), "b": []byte("2")}, "s/a": {"a": []byte("1")}, "s/deeper/": {"c": []byte("3")}, "link": {},
	} {
		if got, err := m.Files(c, name); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"none", "none/a", "s/none"} {
		if got, err := m.Files(c, name); !errors.Is(err, ErrNoFolder) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"s/a/b", "../s"} { // never as if there were none
		if got, err := m.Files(c, name); err == nil || errors.Is(err, ErrNoFolder) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	var no *RefusedError
	for _, name := range []string{"big", "many"} {
		if _, err := m.Files(c, name); !errors.As(err, &no) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
