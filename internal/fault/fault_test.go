package fault

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestMain doubles as the process that dies: with FAULT_CHILD set it passes a
// point three times and prints how it went.
func TestMain(m *testing.M) {
	if os.Getenv("FAULT_CHILD") == "" {
		os.Exit(m.Run())
	}
	name, err := Armed()
	os.Stdout.WriteString("armed " + name + "\n")
	if err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
	}
	for i := 1; i <= 3; i++ {
		Point("other")
		Point(StateCommitBefore)
		if Err(StateCommitBefore) != nil {
			os.Stdout.WriteString("error at ")
		}
		os.Stdout.WriteString(strconv.Itoa(i) + "\n")
	}
}

func TestPoint(t *testing.T) {
	for _, tc := range []struct {
		name, spec, want string
		killed           bool
	}{
		{"unset, nothing happens", "", "armed \n1\n2\n3\n", false},
		{"the second hit of the name kills, hits of others do not count", StateCommitBefore + ":2", "armed state.commit.before\n1\n", true},
		{"with error, the second hit fails and the process lives", StateCommitBefore + ":2:error", "armed state.commit.before\n1\nerror at 2\n3\n", false},
		{"a hit that never comes changes nothing", StateCommitBefore + ":9", "armed state.commit.before\n1\n2\n3\n", false},
		{"a malformed value arms nothing and is told", "x:0", "armed \nML_FAULT=\"x:0\" is not NAME:HIT, NAME:HIT:stop or NAME:HIT:error with a hit from 1\n1\n2\n3\n", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "FAULT_CHILD=1", Variable+"="+tc.spec)
			out, err := cmd.Output()
			var exit *exec.ExitError
			if errors.As(err, &exit) != tc.killed {
				t.Fatalf("ended with %v", err)
			}
			if tc.killed && !strings.Contains(err.Error(), "killed") {
				t.Errorf("ended with %v, want a kill", err)
			}
			if string(out) != tc.want {
				t.Errorf("printed %q, want %q", out, tc.want)
			}
		})
	}
}

func TestPointsListsEveryConstantOnce(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "points.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, d := range file.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
			for _, s := range g.Specs {
				v, err := strconv.Unquote(s.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, v)
			}
		}
	}
	if got := Points(); len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("Points() is %v, the constants are %v", got, want)
	}
}

func BenchmarkPointUnset(b *testing.B) {
	for b.Loop() {
		Point(StateCommitBefore)
	}
}
