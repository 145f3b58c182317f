// Package dag orders things that need each other, and walks them side by side.
//
// A [Graph] holds keys and edges "from needs needs". [Graph.Order] gives one
// deterministic order with needs first, or a [*CycleError] with a closed path;
// [Graph.Walk] calls a function once per key as soon as all it needs went well,
// with a bound on how many run at once.
//
// It knows nothing of what the keys mean, keeps no state between walks, and
// starts no goroutine that outlives Walk. It is plain code: gonum's graphs take
// integer ids and maps of maps, give components instead of a cycle's path, and
// were slower than what remains to be written here.
package dag

import (
	"container/heap"
	"fmt"
	"slices"
	"strings"
)

// Graph is a set of keys and of edges between them. The zero Graph is not
// usable; see [New]. It must not be changed while it is walked, and may be read
// by several goroutines at once.
type Graph[K comparable] struct {
	index    map[K]int
	keys     []K
	needs    [][]int // may hold an edge twice, which changes no result
	neededBy [][]int
}

// New returns an empty graph.
func New[K comparable]() *Graph[K] {
	return &Graph[K]{index: map[K]int{}}
}

// Add puts k into the graph; adding it again changes nothing.
func (g *Graph[K]) Add(k K) { g.add(k) }

// Edge says that from needs needs: needs comes first, and from is skipped when
// it fails. Both are added where they are not there yet. A key that needs itself
// is a cycle.
func (g *Graph[K]) Edge(from, needs K) {
	f, n := g.add(from), g.add(needs)
	g.needs[f] = append(g.needs[f], n)
	g.neededBy[n] = append(g.neededBy[n], f)
}

func (g *Graph[K]) add(k K) int {
	if i, ok := g.index[k]; ok {
		return i
	}
	i := len(g.keys)
	g.index[k] = i
	g.keys = append(g.keys, k)
	g.needs = append(g.needs, nil)
	g.neededBy = append(g.neededBy, nil)
	return i
}

// Order returns every key once, needs before what needs them. Among the keys
// that could come next, the least by compare does (negative: a first), so equal
// graphs give equal orders, however they were built. It errors with
// [*CycleError] when there is no such order.
func (g *Graph[K]) Order(compare func(a, b K) int) ([]K, error) {
	waiting := g.needCounts()
	ready := &queue{before: func(i, j int) bool { return compare(g.keys[i], g.keys[j]) < 0 }}
	for i, n := range waiting {
		if n == 0 {
			ready.items = append(ready.items, i)
		}
	}
	heap.Init(ready)
	order := make([]K, 0, len(g.keys))
	for ready.Len() > 0 {
		i := heap.Pop(ready).(int)
		order = append(order, g.keys[i])
		for _, j := range g.neededBy[i] {
			if waiting[j]--; waiting[j] == 0 {
				heap.Push(ready, j)
			}
		}
	}
	if len(order) < len(g.keys) {
		return nil, g.cycle(waiting, compare)
	}
	return order, nil
}

func (g *Graph[K]) needCounts() []int {
	counts := make([]int, len(g.keys))
	for i, n := range g.needs {
		counts[i] = len(n)
	}
	return counts
}

// queue is a heap of key indices.
type queue struct {
	items  []int
	before func(i, j int) bool
}

func (q *queue) Len() int           { return len(q.items) }
func (q *queue) Less(a, b int) bool { return q.before(q.items[a], q.items[b]) }
func (q *queue) Swap(a, b int)      { q.items[a], q.items[b] = q.items[b], q.items[a] }
func (q *queue) Push(x any)         { q.items = append(q.items, x.(int)) }

func (q *queue) Pop() any {
	last := len(q.items) - 1
	x := q.items[last]
	q.items = q.items[:last]
	return x
}

// CycleError says that keys need each other. Path is closed: its first and last
// keys are equal, and each needs the next.
type CycleError[K comparable] struct{ Path []K }

// Error shows the whole path.
func (e *CycleError[K]) Error() string {
	parts := make([]string, len(e.Path))
	for i, k := range e.Path {
		parts[i] = fmt.Sprint(k)
	}
	return "cycle: " + strings.Join(parts, " needs ")
}

// cycle finds a short cycle among the keys that Order could not place. Each of
// those needs at least one of them, so following needs must come back to a key;
// the shortest way from that key to itself is the path shown.
func (g *Graph[K]) cycle(waiting []int, compare func(a, b K) int) *CycleError[K] {
	least := func(items []int) int {
		best := -1
		for _, i := range items {
			if waiting[i] > 0 && (best < 0 || compare(g.keys[i], g.keys[best]) < 0) {
				best = i
			}
		}
		return best
	}
	all := make([]int, len(g.keys))
	for i := range all {
		all[i] = i
	}
	on := least(all)
	for seen := map[int]bool{}; !seen[on]; on = least(g.needs[on]) {
		seen[on] = true
	}
	path := g.shortestLoop(on, waiting)
	// Rotated to its least key, so that the message does not depend on where the search began.
	first := 0
	for i := range path {
		if compare(g.keys[path[i]], g.keys[path[first]]) < 0 {
			first = i
		}
	}
	path = slices.Concat(path[first:], path[:first], path[first:first+1])
	keys := make([]K, len(path))
	for i, j := range path {
		keys[i] = g.keys[j]
	}
	return &CycleError[K]{Path: keys}
}

// shortestLoop is a breadth-first search from start back to start among the keys
// still waiting. It returns the keys on the way, start first and not repeated.
func (g *Graph[K]) shortestLoop(start int, waiting []int) []int {
	from := map[int]int{}
	for frontier := []int{start}; len(frontier) > 0; {
		var next []int
		for _, i := range frontier {
			for _, j := range g.needs[i] {
				if j == start {
					path := []int{i}
					for path[0] != start {
						path = append([]int{from[path[0]]}, path...)
					}
					return path
				}
				if _, seen := from[j]; !seen && waiting[j] > 0 {
					from[j] = i
					next = append(next, j)
				}
			}
		}
		frontier = next
	}
	return []int{start}
}
