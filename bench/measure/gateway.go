package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// gateway measures requests a second through the local gateway, capture on:
// as processes, beside nginx and the reverse proxy of Go's library, when wrk
// is installed, and inside of one process, which needs nothing but Go.
func (b *bench) gateway(ctx context.Context) ([]row, error) {
	rows, err := b.gatewayProcesses(ctx)
	if err != nil {
		return nil, err
	}
	inOne, err := b.gatewayInOne(ctx)
	return append(rows, inOne...), err
}

const (
	loadText = "200-byte JSON over 16 connections"
	// loadTime is how long one sample lasts; loadRounds bounds the samples taken for the sake of quiet ones.
	loadTime   = 3 * time.Second
	maxAdded   = 1000.0 // µs at the median
	leastShare = 0.9    // of the bare ReverseProxy's requests a second
)

// front is one way to the model: directly, or through a proxy.
type front struct {
	name string
	url  string
	pids func() []int // processes of the proxy; none for the direct way
}

// load is what one sample under load, or the median of several, came to.
type load struct {
	rate   float64 // requests/s
	p50    float64 // µs
	cpu    float64 // µs of CPU that the proxy took for a request; NaN where unknown
	others float64 // cores used by programs that are no part of it; NaN where unknown
}

// gatewayProcesses measures the gateway as `ml apply` starts it. All proxies
// front the same model server, and wrk asks each of them in turn.
func (b *bench) gatewayProcesses(ctx context.Context) (_ []row, err error) {
	what := loadText + ", each proxy a process"
	if !installed("wrk") {
		return []row{missing(what, "wrk is not installed (Debian: apt-get install wrk)")}, nil
	}
	served, err := b.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, served.stop()) }()
	samples := map[string][]load{}
	for range b.runs {
		for _, f := range served.fronts {
			if err := awaitQuiet(ctx); err != nil {
				return nil, err
			}
			l, err := b.wrk(ctx, f, served.pids())
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.name, err)
			}
			samples[f.name] = append(samples[f.name], l)
		}
	}
	results := map[string]load{}
	for name, s := range samples {
		results[name] = medianLoad(s)
	}
	return gatewayRows(what, results), nil
}

// gatewayRows compares the gateway with what it was measured beside. What is
// not in results could not be had here.
func gatewayRows(what string, results map[string]load) []row {
	ours := results[frontGateway]
	var rows []row
	for _, name := range []string{frontReverseProxy, frontTuned, frontNginx, frontModel} {
		other, ok := results[name]
		if !ok {
			rows = append(rows, missing(what+", beside "+name, name+" is not installed (Debian: apt-get install "+name+")"))
			continue
		}
		r := row{
			what: what, ours: ours.String(), beside: name + ": " + other.String(),
			ratio: fmt.Sprintf("%.0f %%", 100*ours.rate/other.rate), others: math.Max(ours.others, other.others),
		}
		switch name {
		case frontReverseProxy:
			r.targets = []target{{"≥ 90 %", ours.rate >= leastShare*other.rate}}
		case frontModel:
			added := ours.p50 - other.p50
			r.ratio += fmt.Sprintf(", %.0f µs added at the median", added)
			r.targets = []target{{"< 1 ms added", added < maxAdded}}
		}
		rows = append(rows, r)
	}
	return rows
}

// String is a load for one cell.
func (l load) String() string {
	s := fmt.Sprintf("%.0f requests/s, median %.0f µs", l.rate, l.p50)
	if !math.IsNaN(l.cpu) {
		s += fmt.Sprintf(", %.0f µs CPU a request", l.cpu)
	}
	return s
}

func medianLoad(samples []load) load {
	pick := func(f func(load) float64) float64 {
		v := make([]float64, len(samples))
		for i, s := range samples {
			v[i] = f(s)
		}
		return median(v)
	}
	return load{
		rate:   pick(func(l load) float64 { return l.rate }),
		p50:    pick(func(l load) float64 { return l.p50 }),
		cpu:    pick(func(l load) float64 { return l.cpu }),
		others: pick(func(l load) float64 { return l.others }),
	}
}

// gatewayInOne runs the Go benchmarks: client, proxy and model share a process.
func (b *bench) gatewayInOne(ctx context.Context) ([]row, error) {
	got, others, err := b.goBench(ctx, "./internal/gateway", "^Benchmark(Direct|Gateway|ReverseProxy|ReverseProxyTuned)$", "2s")
	if err != nil {
		return nil, err
	}
	rate := func(name string) float64 { return got[name]["req/s"] }
	if math.IsNaN(rate("Gateway")) || rate("Gateway") == 0 {
		return nil, fmt.Errorf("no benchmark Gateway with req/s: name it as internal/gateway does")
	}
	var rows []row
	for _, c := range []struct{ name, what string }{
		{"ReverseProxy", frontReverseProxy}, {"ReverseProxyTuned", frontTuned}, {"Direct", frontModel},
	} {
		share := rate("Gateway") / rate(c.name)
		r := row{
			what: loadText + ", client, proxy and model in one process", ours: fmt.Sprintf("%.0f requests/s", rate("Gateway")),
			beside: fmt.Sprintf("%s: %.0f requests/s", c.what, rate(c.name)), ratio: fmt.Sprintf("%.0f %%", 100*share), others: others,
		}
		if c.name == "ReverseProxy" {
			r.targets = []target{{"≥ 90 %", share >= leastShare}}
		}
		rows = append(rows, r)
	}
	return rows, nil
}
