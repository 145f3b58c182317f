package mirror

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// origin is a repository that commits are made in straight from objects, so
// that they can hold what git itself would refuse to add.
type origin struct {
	t    *testing.T
	dir  string
	repo *git.Repository
}

const branch = "refs/heads/main"

func newOrigin(t *testing.T) *origin {
	t.Helper()
	dir := t.TempDir()
	repo, err := git.PlainInit(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	return &origin{t: t, dir: dir, repo: repo}
}

func (o *origin) store(obj interface {
	Encode(plumbing.EncodedObject) error
}) plumbing.Hash {
	o.t.Helper()
	enc := o.repo.Storer.NewEncodedObject()
	if err := obj.Encode(enc); err != nil {
		o.t.Fatal(err)
	}
	h, err := o.repo.Storer.SetEncodedObject(enc)
	if err != nil {
		o.t.Fatal(err)
	}
	return h
}

func (o *origin) blob(text string) plumbing.Hash {
	o.t.Helper()
	enc := o.repo.Storer.NewEncodedObject()
	enc.SetType(plumbing.BlobObject)
	w, err := enc.Writer()
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		o.t.Fatal(err)
	}
	h, err := o.repo.Storer.SetEncodedObject(enc)
	if err != nil {
		o.t.Fatal(err)
	}
	return h
}

// raw is a tree that is written as it stands, in no order and with any name.
func (o *origin) raw(entries ...object.TreeEntry) plumbing.Hash {
	o.t.Helper()
	enc := o.repo.Storer.NewEncodedObject()
	enc.SetType(plumbing.TreeObject)
	w, err := enc.Writer()
	for _, e := range entries {
		if err == nil {
			_, err = w.Write([]byte(strings.TrimLeft(e.Mode.String(), "0") + " " + e.Name + "\x00" + string(e.Hash[:])))
		}
	}
	if err = errors.Join(err, w.Close()); err != nil {
		o.t.Fatal(err)
	}
	h, err := o.repo.Storer.SetEncodedObject(enc)
	if err != nil {
		o.t.Fatal(err)
	}
	return h
}

func (o *origin) file(name, text string) object.TreeEntry {
	return object.TreeEntry{Name: name, Mode: filemode.Regular, Hash: o.blob(text)}
}

func (o *origin) folder(name string, entries ...object.TreeEntry) object.TreeEntry {
	return object.TreeEntry{Name: name, Mode: filemode.Dir, Hash: o.raw(entries...)}
}

func (o *origin) commit(tree plumbing.Hash, parents ...string) string {
	o.t.Helper()
	c := &object.Commit{Message: "a change\n\nits story", TreeHash: tree, Author: object.Signature{Name: "Ada", When: time.Unix(1e9, 0)}}
	c.Committer = c.Author
	for _, p := range parents {
		c.ParentHashes = append(c.ParentHashes, plumbing.NewHash(p))
	}
	h := o.store(c)
	if err := o.repo.Storer.SetReference(plumbing.NewHashReference(branch, h)); err != nil {
		o.t.Fatal(err)
	}
	return h.String()
}

func (o *origin) mirror() *Mirror {
	o.t.Helper()
	m, err := New(o.dir, filepath.Join(o.t.TempDir(), "git"), Credentials{})
	if err != nil {
		o.t.Fatal(err)
	}
	return m
}

func TestFilesOfACommitAreWrittenAndTakenAway(t *testing.T) {
	ctx, o := context.Background(), newOrigin(t)
	first := o.commit(o.raw(o.folder("models", o.file("a.ml.hcl", "one"), o.folder("lib", o.file("x.py", "x"))), o.file("other", "not ours")))
	m := o.mirror()
	if err := m.Fetch(ctx, branch); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "work")
	if _, err := m.Write(ctx, first, "models", dir, DefaultLimits); err != nil {
		t.Fatal(err)
	}
	want := func(name, text string) {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if text == "" && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %q, %v", name, raw, err)
		}
		if text != "" && string(raw) != text {
			t.Errorf("%s holds %q, %v; want %q", name, raw, err, text)
		}
	}
	want("a.ml.hcl", "one")
	want("lib/x.py", "x")
	want("other", "")
	// What commands leave stays, whatever commits do.
	if err := os.MkdirAll(filepath.Join(dir, ".ml"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".ml/state.db", "report.xml", "lib/cache"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("made"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	second := o.commit(o.raw(o.folder("models", o.file("a.ml.hcl", "two"), o.folder("new", o.file("y.py", "y")))), first)
	if err := m.Fetch(ctx, branch); err != nil {
		t.Fatal(err)
	}
	if head, err := m.Head(branch); err != nil || head != second {
		t.Fatalf("head %s, %v; want %s", head, err, second)
	}
	if _, err := m.Write(ctx, second, "models", dir, DefaultLimits); err != nil {
		t.Fatal(err)
	}
	want("a.ml.hcl", "two")
	want("new/y.py", "y")
	want("lib/x.py", "")
	want("lib/cache", "made")
	want("report.xml", "made")
	want(".ml/state.db", "made")
	// A file that somebody took away comes back.
	if err := os.Remove(filepath.Join(dir, "a.ml.hcl")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Write(ctx, second, "models", dir, DefaultLimits); err != nil {
		t.Fatal(err)
	}
	want("a.ml.hcl", "two")
}

func TestAFolderMayBecomeAFile(t *testing.T) {
	ctx, o := context.Background(), newOrigin(t)
	first := o.commit(o.raw(o.folder("x", o.file("a", "1")), o.file("y", "2")))
	second := o.commit(o.raw(o.file("x", "3"), o.folder("y", o.file("b", "4"))), first)
	m, dir := o.mirror(), filepath.Join(t.TempDir(), "work")
	if err := m.Fetch(ctx, branch); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{first, second, first} {
		if _, err := m.Write(ctx, c, ".", dir, DefaultLimits); err != nil {
			t.Fatal(err)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "x", "a")); string(raw) != "1" {
		t.Fatalf("x/a: %q, %v", raw, err)
	}
}

func TestWhatIsNoPlainFileIsRefusedAndNothingIsWritten(t *testing.T) {
	o := newOrigin(t)
	ok := o.file("a.ml.hcl", "fine")
	link := func(name, to string) object.TreeEntry {
		return object.TreeEntry{Name: name, Mode: filemode.Symlink, Hash: o.blob(to)}
	}
	bomb := o.raw(o.file("f", "x"))
	for range 10 { // R5: ten objects, ten to the tenth files
		var entries []object.TreeEntry
		for i := range 10 {
			entries = append(entries, object.TreeEntry{Name: string(rune('a' + i)), Mode: filemode.Dir, Hash: bomb})
		}
		bomb = o.raw(entries...)
	}
	deep := o.raw(o.file("f", "x"))
	for range 100 {
		deep = o.raw(object.TreeEntry{Name: "d", Mode: filemode.Dir, Hash: deep})
	}
	for name, c := range map[string]struct {
		tree plumbing.Hash
		says string
	}{
		"R1 a link to a file outside":     {o.raw(ok, link("passwd", "/etc/passwd")), "passwd is a symbolic link"},
		"R1 a link into .git":             {o.raw(ok, link("c", ".git/config")), "c is a symbolic link"},
		"R1 a link to itself":             {o.raw(ok, link("loop", "loop")), "loop is a symbolic link"},
		"R2 a submodule":                  {o.raw(ok, object.TreeEntry{Name: "sub", Mode: filemode.Submodule, Hash: plumbing.NewHash(strings.Repeat("1", 40))}), "sub is a submodule"},
		"R4 .GIT":                         {o.raw(ok, o.folder(".GIT", o.file("config", "x"))), "git keeps for itself"},
		"R4 .git with a blank":            {o.raw(ok, o.folder(".git ", o.file("config", "x"))), "git keeps for itself"},
		"R4 a backslash":                  {o.raw(ok, o.file(`a\..\b`, "x")), "separator"},
		"R4 a way out":                    {o.raw(ok, o.folder("..", o.file("x", "x"))), "leads elsewhere"},
		"R4 a slash":                      {o.raw(ok, o.file("../x", "x")), "separator"},
		"R4 a newline":                    {o.raw(ok, o.file("a\nb", "x")), "control character"},
		"R5 ten billion files":            {bomb, "more than"},
		"a hundred folders in each other": {deep, "deeper than"},
		"the state folder":                {o.raw(ok, o.folder(".ml", o.file("state.db", "forged"))), "state folder"},
		"a file that is too large":        {o.raw(ok, o.file("big", strings.Repeat("x", 5000))), "too large"},
		"too much in all":                 {o.raw(ok, o.file("b", strings.Repeat("x", 900)), o.file("c", strings.Repeat("y", 900))), "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			commit := o.commit(c.tree)
			// A copy that holds it already: some of it no transport would carry.
			m, dir := &Mirror{url: o.dir, dir: o.dir}, filepath.Join(t.TempDir(), "work")
			_, err := m.Write(ctx, commit, ".", dir, Limits{Files: 1000, File: 1000, Total: 1500, Depth: 64})
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %v; want one with %q", err, c.says)
			}
			if _, err := os.Stat(filepath.Join(dir, "a.ml.hcl")); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("something was written: %v", err)
			}
		})
	}
}

func TestAPathThatIsNotThereIsItsOwnError(t *testing.T) {
	ctx, o := context.Background(), newOrigin(t)
	m := o.mirror()
	if err := m.Fetch(ctx, branch); !errors.Is(err, ErrNoBranch) {
		t.Fatalf("R15 an empty repository: %v", err)
	}
	c := o.commit(o.raw(o.file("a", "1")))
	if err := m.Fetch(ctx, branch); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Write(ctx, c, "models", filepath.Join(t.TempDir(), "w"), DefaultLimits); !errors.Is(err, ErrNoFolder) {
		t.Fatalf("R18: %v", err)
	}
	if err := m.Fetch(ctx, "refs/heads/gone"); !errors.Is(err, ErrNoBranch) {
		t.Fatalf("a branch that is not there: %v", err)
	}
	for _, ref := range []string{"refs/heads/../../x", "refs/heads/-x", "refs/heads/a\nb", "refs/heads/" + strings.Repeat("x", 4096), "HEAD", "refs/heads/a b", "refs/heads/x.lock", "refs/heads/@{u}"} {
		if err := m.Fetch(ctx, ref); err == nil || !strings.Contains(err.Error(), "no name") {
			t.Errorf("R3 %.40q: %v", ref, err)
		}
	}
}

func TestRewrittenHistoryDoesNotDescend(t *testing.T) {
	ctx, o := context.Background(), newOrigin(t)
	a := o.commit(o.raw(o.file("a", "1")))
	b := o.commit(o.raw(o.file("a", "2")), a)
	m := o.mirror()
	if err := m.Fetch(ctx, branch); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		head, before string
		want         bool
	}{{b, a, true}, {b, b, true}, {a, b, false}} {
		if got, err := m.Descends(ctx, c.head, c.before); err != nil || got != c.want {
			t.Errorf("case %d: %v, %v", i, got, err)
		}
	}
	forged := o.commit(o.raw(o.file("a", "3")), a) // R9: b is gone from the branch
	if err := m.Fetch(ctx, branch); err != nil {
		t.Fatal(err)
	}
	if head, err := m.Head(branch); err != nil || head != forged {
		t.Fatalf("a forced push was not followed: %s, %v", head, err)
	}
	if got, err := m.Descends(ctx, forged, b); err != nil || got {
		t.Errorf("a rewritten branch descends: %v, %v", got, err)
	}
	if look, err := m.Look(forged); err != nil || look.Subject != "a change" || look.Author != "Ada" {
		t.Errorf("%+v, %v", look, err)
	}
}

func TestADamagedCopyIsMadeAnew(t *testing.T) {
	ctx, o := context.Background(), newOrigin(t)
	c := o.commit(o.raw(o.file("a", "1")))
	m := o.mirror()
	if err := m.Fetch(ctx, branch); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"config", "HEAD"} {
		if err := os.WriteFile(filepath.Join(m.dir, f), []byte("\x00[[["), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Fetch(ctx, branch); err != nil {
		t.Fatal(err)
	}
	if head, err := m.Head(branch); err != nil || head != c {
		t.Fatalf("%s, %v", head, err)
	}
}

func TestR17OnlySafeAddressesAreRead(t *testing.T) {
	for _, u := range []string{
		"file:///etc", "ext::sh -c id", "git://host/x.git", "http://example.com/x.git", "https://me:secret@host/x.git", "relative/path", "-x", "", "https",
	} {
		_, err := New(u, t.TempDir(), Credentials{})
		if err == nil {
			t.Errorf("%q is accepted", u)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
	for _, u := range []string{"https://host/x.git", "ssh://git@host/x.git", "http://127.0.0.1:3000/x.git", "/srv/git/x.git"} {
		if _, err := New(u, t.TempDir(), Credentials{}); err != nil {
			t.Errorf("%q: %v", u, err)
		}
	}
}

func TestR16NamesThatDifferByCaseAreTwoFilesOrRefused(t *testing.T) {
	o := newOrigin(t)
	commit := o.commit(o.raw(o.file("README", "upper"), o.folder("a", o.file("X", "1"), o.file("x", "2")), o.file("readme", "lower")))
	m := o.mirror()
	if err := m.Fetch(t.Context(), branch); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "work")
	_, err := m.Write(t.Context(), commit, ".", dir, DefaultLimits)
	root, rerr := os.OpenRoot(filepath.Dir(dir))
	if rerr != nil {
		t.Fatal(rerr)
	}
	defer root.Close()
	one, ferr := foldsCase(root)
	if ferr != nil {
		t.Fatal(ferr)
	}
	var refused *RefusedError
	switch {
	case one && !errors.As(err, &refused):
		t.Errorf("one file takes the place of the other: %v", err)
	case one:
		return
	case err != nil:
		t.Fatal(err)
	}
	for name, text := range map[string]string{"README": "upper", "readme": "lower", "a/X": "1", "a/x": "2"} {
		if raw, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))); err != nil || string(raw) != text {
			t.Errorf("%s: %q, %v", name, raw, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".ml-*")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	for files, want := range map[string]string{"a,b": "", "a,A": "A a", "x/A,x/a,y/a": "x/A x/a", "A/x,a/x": "A/x a/x"} {
		set := map[string]string{}
		for name := range strings.SplitSeq(files, ",") {
			set[name] = "1"
		}
		if a, b := alike(set); strings.TrimSpace(a+" "+b) != want {
			t.Errorf("%s: %q and %q are alike", files, a, b)
		}
	}
}
