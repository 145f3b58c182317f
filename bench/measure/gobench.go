package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/continuo-ml/continuo/internal/drift"
)

// figures are the medians of one Go benchmark by unit, such as "ns/op".
type figures map[string]float64

// goBench runs the benchmarks of a package that match the pattern, one after
// another and runs times over, so that a slow minute falls on all of them
// alike. It returns their figures by name without "Benchmark" and the number
// of cores, and the cores that others used meanwhile.
func (b *bench) goBench(ctx context.Context, pkg, pattern, benchtime string) (map[string]figures, float64, error) {
	dir, err := os.MkdirTemp(b.cache, ".bench-")
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left in the cache is only space
	program := filepath.Join(dir, "bench.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, 0, fmt.Errorf("build the benchmarks of %s: %w\n%s", pkg, err, out)
	}
	values := map[string]map[string][]float64{}
	var others []float64
	for range b.runs {
		if err := awaitQuiet(ctx); err != nil {
			return nil, 0, err
		}
		out, busy, err := runBench(ctx, program, filepath.FromSlash(pkg), pattern, benchtime)
		if err != nil {
			return nil, 0, err
		}
		others = append(others, busy)
		for name, units := range parseBench(out) {
			if values[name] == nil {
				values[name] = map[string][]float64{}
			}
			for unit, v := range units {
				values[name][unit] = append(values[name][unit], v)
			}
		}
	}
	medians := map[string]figures{}
	for name, units := range values {
		medians[name] = figures{}
		for unit, v := range units {
			medians[name][unit] = median(v)
		}
	}
	return medians, median(others), nil
}

func runBench(ctx context.Context, program, dir, pattern, benchtime string) ([]byte, float64, error) {
	cmd := exec.CommandContext(ctx, program, "-test.run=^$", "-test.bench="+pattern, "-test.benchtime="+benchtime)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	watch := watchOthers()
	if err := cmd.Run(); err != nil {
		return nil, 0, fmt.Errorf("benchmarks %s in %s: %w\n%s", pattern, dir, err, tail(out.String()))
	}
	return out.Bytes(), watch(cmd.ProcessState), nil
}

// parseBench reads the lines that a Go benchmark prints:
// "BenchmarkName-2  100  123 ns/op  45 req/s".
func parseBench(out []byte) map[string]figures {
	all := map[string]figures{}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		all[name] = figures{}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				all[name][f[i+1]] = v
			}
		}
	}
	return all
}

// drift measures the statistics on one column of a million rows a side.
func (b *bench) drift(ctx context.Context) ([]row, error) {
	const numbers, texts = "numbers/", "texts/"
	methods := []string{
		numbers + string(drift.KS), numbers + string(drift.Wasserstein), numbers + string(drift.PSI), numbers + string(drift.JensenShannon),
		texts + string(drift.ChiSquare), texts + string(drift.PSI),
	}
	got, others, err := b.goBench(ctx, "./internal/drift", "^BenchmarkCompareMillion$/^(numbers|texts)$/^(ks|wasserstein|psi|jensen_shannon|chi_square)$", "1x")
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, method := range methods {
		f, ok := got["CompareMillion/"+method]
		if !ok {
			return nil, fmt.Errorf("no benchmark CompareMillion/%s: name it as internal/drift does", method)
		}
		rows = append(rows, row{
			what: fmt.Sprintf("one column of 1,000,000 rows against as many, %s", strings.Replace(method, "/", ", ", 1)),
			ours: fmt.Sprintf("%.0f ms, %.0f MB allocated", f["ns/op"]/1e6, f["B/op"]/1e6), others: others,
		})
	}
	return rows, nil
}
