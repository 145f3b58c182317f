package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"sort"
	"strings"
	"time"
)

// contender is one command line that is measured against others.
type contender struct {
	name string
	dir  string
	env  []string // added to ours
	argv []string
}

// sample is one run of a whole process, its children included.
type sample struct {
	wall, cpu float64 // seconds
	peakMB    float64 // largest resident set of one process; NaN where unknown
	others    float64 // cores that all other programs used meanwhile; NaN where unknown
}

// result is the median of each figure over the quietest samples.
type result struct {
	sample
	runs int
}

// Limits of how long a comparison goes on for the sake of quiet samples.
const (
	quiet     = 0.25 // cores used by others up to which a sample counts as quiet
	maxRounds = 4    // rounds for each round asked for, at most
	patience  = 90 * time.Second
	settle    = 5 * time.Second // wait for a quiet moment before one sample
)

// compare runs the contenders in turn (A, B, A, B) after one warm-up each, until every one has runs
// quiet samples or patience is over, and returns their results in order. Each result is taken over
// the runs quietest samples.
func compare(ctx context.Context, runs int, all []contender) ([]result, error) {
	taken := make([][]sample, len(all))
	for _, c := range all {
		if _, err := c.run(ctx); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	for round := 0; round < runs*maxRounds; round++ {
		for i, c := range all {
			if err := awaitQuiet(ctx); err != nil {
				return nil, err
			}
			s, err := c.run(ctx)
			if err != nil {
				return nil, err
			}
			taken[i] = append(taken[i], s)
		}
		if round+1 >= runs && (allQuiet(taken, runs) || time.Since(start) > patience) {
			break
		}
	}
	results := make([]result, len(all))
	for i := range all {
		results[i] = summarise(taken[i], runs)
	}
	return results, nil
}

func allQuiet(taken [][]sample, runs int) bool {
	for _, samples := range taken {
		n := 0
		for _, s := range samples {
			if !(s.others > quiet) { // NaN: nothing is known, so nothing is gained by waiting
				n++
			}
		}
		if n < runs {
			return false
		}
	}
	return true
}

func summarise(samples []sample, runs int) result {
	byOthers := append([]sample(nil), samples...)
	sort.SliceStable(byOthers, func(i, j int) bool { return byOthers[i].others < byOthers[j].others })
	kept := byOthers[:min(runs, len(byOthers))]
	pick := func(f func(sample) float64) float64 {
		v := make([]float64, len(kept))
		for i, s := range kept {
			v[i] = f(s)
		}
		return median(v)
	}
	return result{runs: len(kept), sample: sample{
		wall:   pick(func(s sample) float64 { return s.wall }),
		cpu:    pick(func(s sample) float64 { return s.cpu }),
		peakMB: pick(func(s sample) float64 { return s.peakMB }),
		others: pick(func(s sample) float64 { return s.others }),
	}}
}

// median of v; NaN when v is empty. With an even count it is the mean of the middle two.
func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := append([]float64(nil), v...)
	sort.Float64s(s)
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// run runs the contender once. An exit status other than 0 is an error: a plan
// that finds changes is not the plan that is meant to be measured.
func (c contender) run(ctx context.Context) (sample, error) {
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), c.env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	watch, start := watchOthers(), time.Now()
	err := cmd.Run()
	wall := time.Since(start).Seconds()
	if err != nil {
		return sample{}, fmt.Errorf("%s in %s: %w\n%s", strings.Join(c.argv, " "), c.dir, err, tail(out.String()))
	}
	p := cmd.ProcessState
	return sample{wall: wall, cpu: cpuSeconds(p), peakMB: peakMB(p), others: watch(p)}, nil
}

func tail(s string) string {
	const keep = 2000
	if len(s) > keep {
		s = "…" + s[len(s)-keep:]
	}
	return s
}
