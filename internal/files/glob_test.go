package files

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestGlobFindsWhatThePatternsSay(t *testing.T) {
	x := open(t, project(t, map[string]string{
		"train.py": "", "model.py": "", "a.txt": "", "a/x.py": "", "a/b/y.py": "", "a/b/y.pyc": "", "a-b/z.py": "",
		".ml/state.db": "", ".git/HEAD": "", "__pycache__/q.py": "", ".venv/lib/v.py": "", "node_modules/n.py": "", ".#train.py": "",
		"data/.mlignore": "raw/\n", "data/raw/r.csv": "", "data/ok.csv": "", ".hidden": "",
	}))
	for _, c := range []struct{ patterns, want string }{
		{"*.py", "model.py train.py"},
		{"**/*.py", "a-b/z.py a/b/y.py a/x.py model.py train.py"},
		{"a/**", "a/b/y.py a/x.py"},
		{"a*/*.py", "a-b/z.py a/x.py"},
		{"a*/**", "a-b/z.py a/b/y.py a/x.py"},
		{"a/*/y.py", "a/b/y.py"},
		{"{a,a-b}/*.py", "a-b/z.py a/x.py"},
		{"{train,a/x}.py", "a/x.py train.py"},
		{"[mt]*.py", "model.py train.py"},
		{"**", ".hidden a-b/z.py a.txt a/b/y.py a/x.py data/ok.csv model.py train.py"},
		{"train.py", "train.py"},
		{"train.py *.py train.py", "model.py train.py"},
		{"nothing.py no/*.py train.py/*", ""},
		{"data/**", "data/ok.csv"},
		{"data", "data/ok.csv"},
		// Naming wins over ignoring.
		{"data/raw/*.csv", "data/raw/r.csv"},
		{"data/raw", "data/raw/r.csv"},
		{"data/raw/r.csv", "data/raw/r.csv"},
		{"data/r*/*.csv", ""},
		{".ml/*", ".ml/state.db"},
	} {
		got, err := x.Glob(strings.Fields(c.patterns))
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("Glob(%s) = %v, %v, want %s", c.patterns, got, err, c.want)
		}
	}
	for _, bad := range []string{"[a", "{a", strings.Repeat("{a,b}", 7) + "*", strings.Repeat("a", 5000) + "*"} {
		if got, err := x.Glob([]string{bad}); err == nil {
			t.Errorf("Glob(%.20q) = %v, want an error", bad, got)
		}
	}
}

func TestGlobOnlyListsFoldersThatCanHoldAMatch(t *testing.T) {
	x := open(t, project(t, map[string]string{"train.py": "", "data/1/2/3/f": "", "src/a/b.py": "", "src/c/d/e.py": ""}))
	if _, err := x.Glob([]string{"*.py", "src/*/*.py"}); err != nil {
		t.Fatal(err)
	}
	if got := x.Stats().Folders; got != 4 {
		t.Errorf("%d folders were listed, want 4: the root, src, src/a, src/c", got)
	}
}

// Glob prunes folders; matching every file of the tree by itself must find the same.
func TestGlobAgreesWithMatchingEveryFile(t *testing.T) {
	var all []string
	in := map[string]string{}
	for _, a := range []string{"a", "b", "ab", "a.b"} {
		for _, b := range []string{"", "a/", "b/", "a/b/", "ab/a/b/"} {
			in[a+"/"+b+"f"] = ""
			in[a+"/"+b+"g.x"] = ""
		}
	}
	dir := project(t, in)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, p)
			all = append(all, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	x := open(t, dir)
	rapid.Check(t, func(t *rapid.T) {
		segs := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab", "*", "**", "a*", "?", "{a,b}", "[ab]", "f", "*.x", "{a/b,ab}"}), 1, 5).Draw(t, "segments")
		pattern := strings.Join(segs, "/")
		if !hasMeta(pattern) {
			t.Skip("a plain name")
		}
		oracle := pattern
		if strings.HasSuffix(pattern, "/**") {
			oracle += "/*" // what lies in the folder, not a file of its name
		}
		var want []string
		for _, p := range all {
			if doublestar.MatchUnvalidated(oracle, p) {
				want = append(want, p)
			}
		}
		slices.Sort(want)
		got, err := x.Glob([]string{pattern})
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("Glob(%q) = %v, %v, want %v", pattern, got, err, want)
		}
	})
}

var ignoreCases = []struct{ rules, keep, drop string }{
	{"# comment\n\n*.log", "a.txt", "a.log d/b.log"},
	{"data/", "data.txt w/data", "data/a x/data/b y/data/z"},
	{"/build", "x/build", "build"},
	{"/build/", "x/build/y", "build/y"},
	{"a/b", "x/a/b c/b", "a/b"},
	{"**/tmp", "tmpx", "tmp/a x/tmp/b x/y/tmp/z"},
	{"a/**/z", "a/zz z", "a/z a/b/z a/b/c/z"},
	{"a/**", "b/a2", "a/x a/y/z"},
	{"*.csv\n!keep.csv", "keep.csv d/keep.csv", "a.csv d/a.csv"},
	{"*\n!*.py\n!*/", "a.py d/b.py", "a.txt d/b.txt"},
	{"d/\n!d/a", "x", "d/a d/b"},
	{"\\#x\n\\!y", "x y", "#x !y"},
	{"a?c", "ac abbc", "abc"},
	{"[ab].t", "c.t", "a.t b.t"},
	{"[!ab].t", "a.t", "c.t"},
	{"{a,b}", "a b", "{a,b}"},
	{"trail   ", "trail2", "trail"},
	{"crlf\r", "x", "crlf"},
	{"foo*bar", "foo/bar", "foobar fooxbar"},
	{"d/*.t", "d/e/x.t x.t", "d/x.t"},
	{"*.[ch]", "a.d", "a.c d/a.h"},
	{"x\\*y", "xzy", "x*y"},
	{"a**b", "a/b", "ab axb"},
	{"doc/**/\n!doc/a.txt", "doc/a.txt", "doc/b/c.txt"},
	{"*.x\n!/d/*.x\n/d/a.x", "d/b.x", "d/a.x c.x"},
	{"**/", "a", "b/c d/e/f"},
	{"a/*", "b", "a/b a/c/d"},
}

func TestIgnoreRulesAreThoseOfGitignore(t *testing.T) {
	for _, c := range ignoreCases {
		in := map[string]string{".mlignore": c.rules + "\n"}
		for _, p := range strings.Fields(c.keep + " " + c.drop) {
			in[p] = ""
		}
		want := strings.Fields(c.keep)
		slices.Sort(want)
		got, err := open(t, project(t, in)).Glob([]string{"**"})
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("rules %q: %v, %v, want %v", c.rules, got, err, want)
		}
	}
}

// The table above is only worth something if git says the same.
func TestGitAgreesWithTheIgnoreTable(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal("git is not installed, with which the table is compared: apt-get install git")
	}
	for _, c := range ignoreCases {
		in := map[string]string{".gitignore": c.rules + "\n"}
		for _, p := range strings.Fields(c.keep + " " + c.drop) {
			in[p] = ""
		}
		dir := project(t, in)
		run := func(args ...string) string {
			t.Helper()
			cmd := exec.Command(git, args...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null")
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("git %v: %v", args, err)
			}
			return string(out)
		}
		run("init", "-q")
		got := slices.DeleteFunc(strings.Split(strings.TrimRight(run("ls-files", "-z", "--others", "--exclude-standard"), "\x00"), "\x00"), func(p string) bool { return p == ".gitignore" || p == "" })
		want := strings.Fields(c.keep)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("rules %q: git keeps %v, the table %v", c.rules, got, want)
		}
	}
}

func TestABadIgnoreFileIsAnErrorThatNamesTheLine(t *testing.T) {
	x := open(t, project(t, map[string]string{"d/.mlignore": "ok\n[a\n", "d/f": ""}))
	if _, err := x.Glob([]string{"**"}); err == nil || !strings.Contains(err.Error(), "d/.mlignore:2:") {
		t.Errorf("got %v", err)
	}
}
