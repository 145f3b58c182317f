package main

import (
	"context"
	"fmt"
	"math"
)

// size is one project whose empty plan is measured.
type size struct {
	shape string
	n     int
	what  string
	wall  float64 // target in seconds; 0 for none
	times float64 // target: how many times as fast as OpenTofu; 0 for none
	peak  float64 // target in MB; 0 for none
	tofu  bool    // measure OpenTofu beside it
}

func (b *bench) sizes() []size {
	all := []size{
		{shape: "chains", n: 1000, what: "1,000 blocks", wall: 0.2, times: 10, tofu: true},
		{shape: "for_each", n: 1000, what: "`for_each` over 1,000", tofu: b.full},
	}
	if !b.quick {
		all = append(all,
			size{shape: "chains", n: 10000, what: "10,000 blocks", wall: 1.5, times: 15, peak: 300, tofu: true},
			size{shape: "for_each", n: 10000, what: "`for_each` over 10,000"})
	}
	return all
}

// plans measures a plan that finds nothing to do, after a real apply: what
// every run of a pipeline pays.
func (b *bench) plans(ctx context.Context) ([]row, error) {
	var rows []row
	walls := map[string]float64{}
	for _, s := range b.sizes() {
		r, wall, err := b.plan(ctx, s)
		if err != nil {
			return nil, err
		}
		walls[fmt.Sprint(s.shape, s.n)] = wall
		if s.shape == "for_each" && s.n == 10000 {
			r.targets = append(r.targets, target{"no slower than 10,000 blocks", wall <= walls["chains10000"]})
		}
		rows = append(rows, r)
	}
	if b.quick {
		return append(rows, missing("empty plan, 10,000 blocks", "left out by ML_BENCH_QUICK=1")), nil
	}
	for _, shape := range []string{"chains", "for_each"} {
		if walls[shape+"10000"] == 0 {
			continue
		}
		e := math.Log10(walls[shape+"10000"] / walls[shape+"1000"])
		r := row{what: "growth from 1,000 to 10,000, " + shape, ours: fmt.Sprintf("exponent %.2f", e), others: math.NaN()}
		if shape == "chains" {
			r.targets = []target{{"≤ 1.1", e <= 1.1}}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// plan measures one size, beside OpenTofu where there is one, and returns our
// seconds too.
func (b *bench) plan(ctx context.Context, s size) (row, float64, error) {
	ml, err := b.applied(ctx, "ml", s.shape, s.n)
	if err != nil {
		return row{}, 0, err
	}
	all, beside := []contender{ml}, ""
	switch {
	case b.tofu == "":
		beside = "OpenTofu not measured: " + b.tofuWhy
	case !s.tofu:
		beside = "OpenTofu takes minutes; ML_BENCH_FULL=1 measures it at 1,000"
	default:
		tofu, err := b.applied(ctx, "tofu", s.shape, s.n)
		if err != nil {
			return row{}, 0, err
		}
		all = append(all, tofu)
	}
	runs := b.runs
	if s.n >= 10000 {
		runs = min(runs, 3) // a plan of OpenTofu takes a quarter of a minute
	}
	got, err := compare(ctx, runs, all)
	if err != nil {
		return row{}, 0, err
	}
	r := row{what: "empty plan, " + s.what, ours: got[0].String(), beside: beside, others: got[0].others}
	if s.wall > 0 {
		r.targets = append(r.targets, target{fmt.Sprintf("< %.1f s", s.wall), got[0].wall < s.wall})
	}
	if s.peak > 0 {
		r.targets = append(r.targets, target{fmt.Sprintf("< %.0f MB", s.peak), got[0].peakMB < s.peak})
	}
	if len(got) == 2 {
		times := got[1].wall / got[0].wall
		r.beside, r.ratio = "OpenTofu "+got[1].String(), fmt.Sprintf("%.1f× as fast", times)
		r.others = math.Max(got[0].others, got[1].others)
		if s.times > 0 {
			r.targets = append(r.targets, target{fmt.Sprintf("≥ %.0f×", s.times), times >= s.times})
		}
	}
	return r, got[0].wall, nil
}
