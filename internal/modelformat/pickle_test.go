package modelformat

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// importsOf follows one pickle and gives what it imports.
func importsOf(t *testing.T, content string) Code {
	t.Helper()
	f, err := Detect(folder(map[string]string{"m.pkl": content}))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Code) != 1 {
		t.Fatalf("%d files run code", len(f.Code))
	}
	return f.Code[0]
}

func TestAPickleSaysWhatItImports(t *testing.T) {
	cases := map[string]struct {
		pickle string
		want   []string
		cut    bool
	}{
		"GLOBAL":                          {"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00idtR.", []string{"os.system"}, false},
		"INST":                            {"(S'id'\nios\nsystem\n.", []string{"os.system"}, false},
		"STACK_GLOBAL":                    {"\x80\x04" + global4("builtins", "eval") + ".", []string{"builtins.eval"}, false},
		"names by the memo":               {"\x80\x04\x8c\x02os\x94\x8c\x06system\x9400h\x00h\x01\x93.", []string{"os.system"}, false},
		"names by numbered memo":          {"\x80\x04\x8c\x02osq\x07\x8c\x06systemr\x08\x00\x00\x0000h\x07j\x08\x00\x00\x00\x93.", []string{"os.system"}, false},
		"names out of a computation":      {"\x80\x04" + global4("builtins", "str") + ")R\x8c\x06system\x93.", []string{"builtins.str"}, true},
		"a name of a registry":            {"\x80\x02\x82\x01.", nil, true},
		"a name that is none":             {"\x80\x04" + global4("os; rm", "x") + ".", nil, true},
		"long text and bytes between":     {"\x80\x04X\x00\x10\x00\x00" + strings.Repeat("y", 4096) + "B\x03\x00\x00\x00abc" + global4("a.b", "C") + ".", []string{"a.b.C"}, false},
		"junk behind something dangerous": {"\x80\x04" + global4("os", "system") + "\xff\xff", []string{"os.system"}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			code := importsOf(t, c.pickle)
			if !slices.Equal(code.Imports, c.want) || code.Cut != c.cut {
				t.Errorf("imports %v (cut %v), want %v (%v)", code.Imports, code.Cut, c.want, c.cut)
			}
		})
	}
}

func TestALineForAReviewerBeginsWithWhatIsUnusual(t *testing.T) {
	c := Code{File: "m.pkl", Why: "w", Imports: []string{"numpy.a", "numpy.b", "numpy.c", "os.system", "sklearn.svm.SVC", "torch.d", "torch.e"}, Cut: true}
	if want := "m.pkl: w; it imports os.system, sklearn.svm.SVC, torch.d, torch.e, numpy.a, numpy.b and 1 more; the list may have gaps"; c.String() != want {
		t.Errorf("%s\n%s", c, want)
	}
}

// A list of millions, text beyond all measure and a memo without end must end soon and in little memory.
func TestAHostilePickleEnds(t *testing.T) {
	for name, pickle := range map[string]string{
		"operations":      "\x80\x04" + strings.Repeat("N0", maxOps),
		"a deep stack":    "\x80\x04" + strings.Repeat("(", maxStack+10) + ".",
		"remembered text": "\x80\x04" + strings.Repeat("\x8c\xff"+strings.Repeat("x", 255)+"0", maxKept/255),
		"a claimed size":  "\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
		"many names":      "\x80\x04" + manyNames(maxImports+10) + ".",
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			if code := importsOf(t, pickle); !code.Cut || len(code.Imports) > maxImports {
				t.Errorf("cut %v, %d imports", code.Cut, len(code.Imports))
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(global4("m", "c"+strings.Repeat("x", i%100)+string(rune('a'+i/100))) + "0")
	}
	return b.String()
}

const writeModels = `
import sys, os, pickle, joblib, numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
X = np.random.RandomState(0).rand(60, 3); y = X[:, 0] > 0.5
p = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
f = RandomForestClassifier(5, random_state=0).fit(X, ['a' if v else 'b' for v in y])
out = lambda n: os.path.join(sys.argv[1], n)
joblib.dump(p, out('plain.joblib'))
joblib.dump(p, out('zlib.joblib'), compress=3)
joblib.dump(f, out('forest.joblib'))
joblib.dump({'o': np.array(['x', {'k': 1}], dtype=object), 'm': p}, out('objects.joblib'))
for v in range(6):
    pickle.dump(p, open(out('p%d.pkl' % v), 'wb'), protocol=v)
`

func TestRealModelsOfScikitLearnAreReadToTheirEnd(t *testing.T) {
	const python = "/usr/bin/python3" // the system's, for which the package is
	if err := exec.Command(python, "-c", "import sklearn, joblib").Run(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("scikit-learn is missing: install python3-sklearn: %v", err)
		}
		t.Skip("scikit-learn is not installed (python3-sklearn)")
	}
	dir := t.TempDir()
	if out, err := exec.Command(python, "-c", writeModels, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 10 {
		t.Fatalf("%d models, %v", len(names), err)
	}
	f, err := Detect(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	if f.Format != SKLearn || len(f.Code) != len(names) {
		t.Errorf("format %q, %d files that run code", f.Format, len(f.Code))
	}
	for _, c := range f.Code {
		want := "sklearn.linear_model._logistic.LogisticRegression"
		if c.File == "forest.joblib" {
			want = "sklearn.tree._tree.Tree"
		}
		if c.Cut || !slices.Contains(c.Imports, want) {
			t.Errorf("%s: cut %v, imports %v lack %s", c.File, c.Cut, c.Imports, want)
		}
	}
}
