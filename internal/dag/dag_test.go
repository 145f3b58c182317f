package dag

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// graph builds a graph from "b>a" edges (b needs a) and lone keys.
func graph(parts ...string) *Graph[string] {
	g := New[string]()
	for _, p := range parts {
		if from, needs, ok := strings.Cut(p, ">"); ok {
			g.Edge(from, needs)
		} else {
			g.Add(p)
		}
	}
	return g
}

func TestOrder(t *testing.T) {
	for _, tc := range []struct {
		name  string
		g     *Graph[string]
		want  string
		cycle string
	}{
		{"an empty graph has an empty order", graph(), "", ""},
		{"ties go by the comparison, not by age", graph("c", "a", "b"), "a b c", ""},
		{"needs come first whatever their name", graph("a>z", "a>y"), "y z a", ""},
		{"a repeated edge counts once", graph("b>a", "b>a"), "a b", ""},
		{"a diamond is walked once", graph("d>b", "d>c", "b>a", "c>a"), "a b c d", ""},
		{"a key that needs itself is a cycle", graph("a>a"), "", "a a"},
		{"a cycle is shown closed, from its least key", graph("c>a", "a>b", "b>c", "x>c"), "", "a b c a"},
		{"the short way round is shown", graph("a>b", "b>c", "c>d", "d>a", "b>a"), "", "a b a"},
		{"what only hangs on a cycle is not shown", graph("a>b", "b>m", "m>n", "n>m"), "", "m n m"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			order, err := tc.g.Order(cmp.Compare[string])
			var c *CycleError[string]
			if errors.As(err, &c) != (tc.cycle != "") {
				t.Fatalf("error %v, want cycle %q", err, tc.cycle)
			}
			if c != nil && strings.Join(c.Path, " ") != tc.cycle {
				t.Errorf("cycle %v, want %s", c.Path, tc.cycle)
			}
			if got := strings.Join(order, " "); got != tc.want {
				t.Errorf("order %q, want %q", got, tc.want)
			}
		})
	}
}

func TestNeighboursAreListedOnce(t *testing.T) {
	g := graph("b>a", "b>a", "c>a")
	if got := g.Needs("b"); !slices.Equal(got, []string{"a"}) {
		t.Errorf("b needs %v", got)
	}
	if got := g.NeededBy("a"); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("a is needed by %v", got)
	}
	if got := g.Needs("nobody"); got != nil {
		t.Errorf("an unknown key needs %v", got)
	}
}

func TestAFailureSkipsItsDependentsOnly(t *testing.T) {
	g := graph("b>a", "c>b", "d>c", "y>x", "z")
	boom := errors.New("boom")
	var mu sync.Mutex
	ran := map[string]bool{}
	err := g.Walk(t.Context(), 2, func(_ context.Context, k string) error {
		mu.Lock()
		defer mu.Unlock()
		ran[k] = true
		if k == "b" {
			return boom
		}
		return nil
	})
	var w *WalkError[string]
	if !errors.As(err, &w) || !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	if want := map[string]bool{"a": true, "b": true, "x": true, "y": true, "z": true}; !reflect.DeepEqual(ran, want) {
		t.Errorf("ran %v", ran)
	}
	if want := map[string]string{"c": "b", "d": "c"}; !reflect.DeepEqual(w.Skipped, want) {
		t.Errorf("skipped %v", w.Skipped)
	}
	if got := w.WhyBlocked("d"); !slices.Equal(got, []string{"d", "c", "b"}) {
		t.Errorf("d is blocked by %v", got)
	}
	if got := w.WhyBlocked("y"); got != nil {
		t.Errorf("y is blocked by %v", got)
	}
	if want := "b: boom\n2 skipped because something they need failed"; err.Error() != want {
		t.Errorf("message %q", err)
	}
}

func TestTheEndOfTheContextStartsNothingNewAndWaits(t *testing.T) {
	g := graph("b>a", "c")
	ctx, cancel := context.WithCancel(t.Context())
	inA, letA := make(chan struct{}), make(chan struct{})
	finished := false
	go func() {
		<-inA
		cancel()
		close(letA)
	}()
	err := g.Walk(ctx, 1, func(_ context.Context, k string) error {
		if k != "a" {
			t.Errorf("%s was started after the end", k)
			return nil
		}
		close(inA)
		<-letA
		finished = true
		return nil
	})
	var w *WalkError[string]
	if !errors.As(err, &w) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if !finished || !slices.Equal(w.NotStarted, []string{"b", "c"}) || len(w.Skipped) != 0 {
		t.Errorf("finished %v, not started %v, skipped %v", finished, w.NotStarted, w.Skipped)
	}
}

func TestACycleIsFoundBeforeAnyCall(t *testing.T) {
	err := graph("a>b", "b>a", "z").Walk(t.Context(), 1, func(context.Context, string) error {
		t.Error("called")
		return nil
	})
	if err == nil || err.Error() != "cycle: a needs b needs a" {
		t.Errorf("got %v", err)
	}
}

// randomDAG draws edges from higher to lower numbers only, so that it has an order.
func randomDAG(t *rapid.T) (*Graph[int], [][2]int) {
	n := rapid.IntRange(1, 30).Draw(t, "keys")
	g := New[int]()
	for _, k := range rapid.Permutation(seq(n)).Draw(t, "ages") {
		g.Add(k)
	}
	var edges [][2]int
	for range rapid.IntRange(0, 3*n).Draw(t, "edges") {
		a, b := rapid.IntRange(0, n-1).Draw(t, "a"), rapid.IntRange(0, n-1).Draw(t, "b")
		if a != b {
			edges = append(edges, [2]int{max(a, b), min(a, b)})
			g.Edge(max(a, b), min(a, b))
		}
	}
	return g, edges
}

func seq(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func TestOrderRespectsEdges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, edges := randomDAG(t)
		order, err := g.Order(cmp.Compare[int])
		if err != nil {
			t.Fatal(err)
		}
		at := map[int]int{}
		for i, k := range order {
			at[k] = i
		}
		if len(at) != len(g.keys) || len(order) != len(g.keys) {
			t.Fatalf("%d keys in order %v", len(g.keys), order)
		}
		for _, e := range edges {
			if at[e[0]] <= at[e[1]] {
				t.Fatalf("%d needs %d but comes first", e[0], e[1])
			}
		}
	})
}

func TestCyclePathsAreReal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := New[int]()
		n := rapid.IntRange(1, 12).Draw(t, "keys")
		edge := map[[2]int]bool{}
		for range rapid.IntRange(1, 3*n).Draw(t, "edges") {
			e := [2]int{rapid.IntRange(0, n-1).Draw(t, "a"), rapid.IntRange(0, n-1).Draw(t, "b")}
			edge[e] = true
			g.Edge(e[0], e[1])
		}
		_, err := g.Order(cmp.Compare[int])
		var c *CycleError[int]
		if !errors.As(err, &c) {
			return
		}
		if len(c.Path) < 2 || c.Path[0] != c.Path[len(c.Path)-1] {
			t.Fatalf("path %v is not closed", c.Path)
		}
		for i := range c.Path[1:] {
			if !edge[[2]int{c.Path[i], c.Path[i+1]}] {
				t.Fatalf("path %v uses an edge that is not there", c.Path)
			}
		}
	})
}

func TestWalkRunsEachOnceAfterItsNeedsWithinTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, _ := randomDAG(t)
		limit := rapid.IntRange(1, 4).Draw(t, "limit")
		failing := rapid.IntRange(-1, 29).Draw(t, "failing")
		boom := errors.New("boom")
		var mu sync.Mutex
		calls, good, running := map[int]int{}, map[int]bool{}, 0
		err := g.Walk(context.Background(), limit, func(_ context.Context, k int) error {
			mu.Lock()
			calls[k]++
			running++
			if running > limit {
				t.Errorf("%d run at once, the limit is %d", running, limit)
			}
			for _, n := range g.Needs(k) {
				if !good[n] {
					t.Errorf("%d started before %d was done", k, n)
				}
			}
			mu.Unlock()
			runtime.Gosched()
			mu.Lock()
			defer mu.Unlock()
			running--
			if k == failing {
				return boom
			}
			good[k] = true
			return nil
		})
		var w *WalkError[int]
		skipped := 0
		if errors.As(err, &w) {
			skipped = len(w.Skipped)
		}
		if len(calls)+skipped != len(g.keys) {
			t.Errorf("%d called and %d skipped of %d", len(calls), skipped, len(g.keys))
		}
		for k, n := range calls {
			if n != 1 {
				t.Errorf("%d was called %d times", k, n)
			}
		}
	})
}

func BenchmarkOrder10000(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	edges := make([][2]int, 40_000)
	for i := range edges {
		x, y := r.IntN(10_000), r.IntN(9_999)
		if y >= x {
			y++
		}
		edges[i] = [2]int{max(x, y), min(x, y)}
	}
	for b.Loop() {
		g := New[int]()
		for k := range 10_000 {
			g.Add(k)
		}
		for _, e := range edges {
			g.Edge(e[0], e[1])
		}
		if _, err := g.Order(cmp.Compare[int]); err != nil {
			b.Fatal(err)
		}
	}
}

// Needs lists what k needs directly, each once, in the order in which the edges
// were added; nil for a key that is not in the graph.
func (g *Graph[K]) Needs(k K) []K { return g.neighbours(k, g.needs) }

// NeededBy lists what needs k directly, each once, in the order in which the
// edges were added.
func (g *Graph[K]) NeededBy(k K) []K { return g.neighbours(k, g.neededBy) }

func (g *Graph[K]) neighbours(k K, edges [][]int) []K {
	i, ok := g.index[k]
	if !ok {
		return nil
	}
	var out []K
	seen := make(map[int]bool, len(edges[i]))
	for _, j := range edges[i] {
		if !seen[j] {
			seen[j] = true
			out = append(out, g.keys[j])
		}
	}
	return out
}
