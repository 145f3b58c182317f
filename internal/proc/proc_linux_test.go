package proc

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAStatLineIsReadFromTheLastParenthesis(t *testing.T) {
	line := func(head, state, threads string) string {
		return head + " " + state + " 1 40 41 0 -1 0" + strings.Replace(" 0 0 0 0 0 0 0 0 0 0 %N 0 8800 1 2", "%N", threads, 1)
	}
	want := Process{Identity: Identity{PID: 42, Start: "8800"}, Parent: 1, Group: 40, Session: 41}
	dead := want
	dead.Zombie = true
	for name, c := range map[string]struct {
		line string
		want Process
		err  string
	}{
		"a plain name":                            {line: line("42 (sh)", "S", "1"), want: want},
		"a name made to look like fields":         {line: line("42 (x) Z 9 9 9 (y))", "S", "1"), want: want},
		"a zombie is dead":                        {line: line("42 (sh)", "Z", "1"), want: dead},
		"a first thread that ended, others work":  {line: line("42 (sh)", "Z", "3"), want: want},
		"no parenthesis is an error":              {line: "42 sh S 1", err: "without a command name"},
		"a short line is an error, not a guess":   {line: "42 (sh) S 1 2 3", err: "stat line with"},
		"a start time that is no number is error": {line: strings.Replace(line("42 (sh)", "S", "1"), "8800", "x", 1), err: "start time"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat([]byte(c.line))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (sh) S 1 40 41 0 -1 0 0 0 0 0 0 0 0 0 0 0 1 0 8800 1 2"))
	f.Add([]byte("1 )("))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseStat(b); err == nil && p.Start == "" {
			t.Errorf("%q was accepted without a start time", b)
		}
	})
}
