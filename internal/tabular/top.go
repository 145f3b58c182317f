package tabular

import (
	"slices"
	"strings"
)

// topCounter counts values: exactly up to topCap distinct ones, then as a Misra–Gries summary (1982) whose counts are too low by at most
// err. Numeric columns past topCap are not summarised: their values are seldom worth listing.
type topCounter struct {
	counts map[string]int64
	err    int64
	off    bool // no counts any more
}

func newTopCounter() *topCounter { return &topCounter{counts: map[string]int64{}} }

func (t *topCounter) exact() bool { return !t.off && t.err == 0 }

func (t *topCounter) add(value string, numeric bool) {
	if t.off {
		return
	}
	if len(value) > topLength {
		value = value[:topLength] + "…" // two long values with one beginning count as one
	}
	if have, ok := t.counts[value]; ok {
		t.counts[value] = have + 1
		return
	}
	if numeric && len(t.counts) >= topCap {
		t.counts, t.off = nil, true
		return
	}
	t.counts[strings.Clone(value)] = 1
	if len(t.counts) > 2*topCap {
		t.evict(topCap)
	}
}

// evict subtracts the count of the value ranked keep+1 from all, which leaves at most keep values.
func (t *topCounter) evict(keep int) {
	ranked := make([]int64, 0, len(t.counts))
	for _, n := range t.counts {
		ranked = append(ranked, n)
	}
	slices.Sort(ranked)
	cut := ranked[len(ranked)-keep-1]
	t.err += cut
	for v, n := range t.counts {
		if n <= cut {
			delete(t.counts, v)
		} else {
			t.counts[v] = n - cut
		}
	}
}

// list returns the most frequent values and the most that a count is too low by, or an absent value is worth.
func (t *topCounter) list(most int) ([]ValueCount, int64) {
	out := make([]ValueCount, 0, len(t.counts))
	for v, n := range t.counts {
		out = append(out, ValueCount{v, n})
	}
	slices.SortFunc(out, func(a, b ValueCount) int {
		if a.Count != b.Count {
			return int(min(max(b.Count-a.Count, -1), 1))
		}
		return strings.Compare(a.Value, b.Value)
	})
	bound := t.err
	if len(out) > most {
		bound += out[most].Count
		out = out[:most]
	}
	if len(out) == 0 {
		return nil, 0
	}
	return out, bound
}
