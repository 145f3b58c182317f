package main

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestATableReplacesTheOldOneAndNothingElse(t *testing.T) {
	page := "before\n<!-- measured: a -->\nold\n<!-- end: a -->\nbetween\n<!-- measured: b -->\n<!-- end: b -->\nafter\n"
	got, err := replace(page, "a", "new\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Replace(page, "old", "new", 1), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAPageWithoutItsMarkersIsRefused(t *testing.T) {
	for _, page := range []string{"", "<!-- measured: a -->\n", "<!-- end: a -->\n<!-- measured: a -->\n"} {
		if got, err := replace(page, "a", "new\n"); err == nil {
			t.Errorf("%q became %q", page, got)
		}
	}
}

func TestTheCommittedPageHasAPlaceForEverySection(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sections() {
		if _, err := replace(string(page), s.name, ""); err != nil {
			t.Errorf("section %s: %v", s.name, err)
		}
	}
}

func TestATableSaysWhichTargetsAreMet(t *testing.T) {
	got := render([]row{
		{what: "plan", ours: "0.10 s", targets: []target{{"< 0.2 s", true}, {"≥ 10×", false}}, others: 0.5},
		missing("apply", "a|b"),
	}, "Measured today.")
	want := `Measured today.

| what | Continuo | beside it | ratio | target | cores used by others |
| --- | --- | --- | --- | --- | --- |
| plan | 0.10 s | – | – | < 0.2 s: met; ≥ 10×: **not met** | 0.50 |
| apply | not measured: a\|b | – | – | – | – |
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheQuietestSamplesCount(t *testing.T) {
	got := summarise([]sample{
		{wall: 9, cpu: 4, others: 1.9}, {wall: 1, cpu: 1, others: 0.1}, {wall: 8, others: 1.5}, {wall: 3, cpu: 3, others: 0}, {wall: 2, cpu: 2, others: 0.2},
	}, 3)
	if got.wall != 2 || got.cpu != 2 || got.others != 0.1 || got.runs != 3 {
		t.Errorf("got %+v, want the median of the three quietest: wall 2, cpu 2, others 0.1", got)
	}
}

func TestMedianTakesTheMiddle(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{
		{[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 100}, 3},
	} {
		if got := median(c.v); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.v, got, c.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing is %v, want NaN", got)
	}
}

func TestGoBenchmarkLinesAreReadWithAllTheirUnits(t *testing.T) {
	out := `goos: linux
BenchmarkGateway-2   	   24054	     97063 ns/op	     10306 req/s	         0 dropped	    4500 B/op
BenchmarkCompareMillion/numbers/auto-2 1 5e+07 ns/op
BenchmarkOneCore 	 10	 7 ns/op
--- BENCH: BenchmarkGateway-2
PASS
`
	want := map[string]figures{
		"Gateway":                     {"ns/op": 97063, "req/s": 10306, "dropped": 0, "B/op": 4500},
		"CompareMillion/numbers/auto": {"ns/op": 5e7},
		"OneCore":                     {"ns/op": 7},
	}
	if diff := cmp.Diff(want, parseBench([]byte(out))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBusyTimeLeavesOutIdleAndWaiting(t *testing.T) {
	if got := busy("cpu  100 20 30 9999 8888 1 2 3 50 0\ncpu0 1 2\n"); got != 1.56 {
		t.Errorf("busy is %v s, want 1.56", got)
	}
	for _, bad := range []string{"", "cpu 1 2 3\n", "intr 1 2 3 4 5 6 7 8 9\n", "cpu a b c d e f g h\n"} {
		if got := busy(bad); !math.IsNaN(got) {
			t.Errorf("busy(%q) = %v, want NaN", bad, got)
		}
	}
}

func TestAProcessThatFailsIsAnErrorWithItsOutput(t *testing.T) {
	c := contender{dir: t.TempDir(), argv: []string{"sh", "-c", "echo 3 to change; exit 2"}}
	if _, err := c.run(context.Background()); err == nil || !strings.Contains(err.Error(), "3 to change") {
		t.Errorf("got %v, want what it printed", err)
	}
}

func TestAProcessIsMeasuredWithItsChildren(t *testing.T) {
	// dd holds a buffer of 64 MiB in a child of the shell.
	c := contender{dir: t.TempDir(), argv: []string{"sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=4; true"}}
	s, err := c.run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if s.wall <= 0 || s.cpu <= 0 || !math.IsNaN(s.peakMB) && s.peakMB < 64 {
		t.Errorf("got %+v, want time used and at least 64 MB", s)
	}
}

func TestTheDigestOfAProjectMovesWithBytesAndNames(t *testing.T) {
	seen := map[string]string{}
	for what, files := range map[string]map[string]string{
		"first": {"a": "1", "b": "2"}, "other bytes": {"a": "1", "b": "3"}, "other name": {"a": "1", "c": "2"}, "one less": {"a": "1"},
	} {
		dir := t.TempDir()
		for p, text := range files {
			if err := os.WriteFile(filepath.Join(dir, p), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		key, err := digestTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		if other, taken := seen[key]; taken {
			t.Errorf("%s and %s have one digest", what, other)
		}
		seen[key] = what
	}
}

func TestAFolderIsFilledOnceAndNeverHalf(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	fills := 0
	fill := func(fail error) func(string) error {
		return func(d string) error {
			fills++
			if err := os.WriteFile(filepath.Join(d, "f"), nil, 0o600); err != nil {
				return err
			}
			return fail
		}
	}
	if err := once(dir, fill(os.ErrInvalid)); err == nil {
		t.Fatal("a failed fill was taken for a full folder")
	}
	for range 2 {
		if err := once(dir, fill(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if fills != 2 {
		t.Errorf("filled %d times, want once more after the failure and never again", fills)
	}
}

func TestArgumentsThatCannotBeMeasuredAreRefused(t *testing.T) {
	for want, args := range map[string][]string{
		"bench/run.sh":     {"-ml", "ml"},
		`section "sounds"`: {"-ml", "ml", "-gen", "gen", "-cache", t.TempDir(), "-only", "plans,sounds"},
	} {
		if _, err := parse(args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parse(%q): %v, want %q in it", args, err, want)
		}
	}
}
