package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// hertz is the unit of /proc/stat: USER_HZ, 100 on every Linux that Go runs on.
const hertz = 100

// machine returns the seconds of CPU time that all programs used since the
// start of the machine, over all cores; NaN where the system does not say.
func machine() float64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return math.NaN()
	}
	return busy(string(text))
}

// watchOthers starts to watch the machine. What it returns is called with a
// process that ran and ended since, and returns the cores that all others used
// on average meanwhile; NaN where the system does not say.
func watchOthers() func(*os.ProcessState) float64 {
	before, start := machine(), time.Now()
	return func(p *os.ProcessState) float64 {
		used := machine() - before - cpuSeconds(p)
		return math.Max(used/time.Since(start).Seconds(), 0)
	}
}

// cpuSeconds is the CPU time of a process and of the children it waited for.
func cpuSeconds(p *os.ProcessState) float64 {
	return (p.UserTime() + p.SystemTime()).Seconds()
}

// busy reads the first line of /proc/stat: user nice system idle iowait irq
// softirq steal; guest time is part of user time already. Steal counts: what
// the host took from us is lost as well.
func busy(stat string) float64 {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return math.NaN()
	}
	sum := 0.0
	for i, text := range f[1:9] {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return math.NaN()
		}
		if i != 3 && i != 4 { // idle, iowait
			sum += v
		}
	}
	return sum / hertz
}

// awaitQuiet returns when others used little of the machine for half a second,
// or after settle: on a machine that never rests the figures say so instead.
func awaitQuiet(ctx context.Context) error {
	const step = 500 * time.Millisecond
	ctx2, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	tick := time.NewTicker(step)
	defer tick.Stop()
	before := machine()
	if math.IsNaN(before) {
		return nil
	}
	for {
		select {
		case <-ctx2.Done():
			return ctx.Err()
		case <-tick.C:
			now := machine()
			if (now-before)/step.Seconds() < quiet {
				return nil
			}
			before = now
		}
	}
}

// describe is the line above each table: when and on what it was measured.
func describe(now time.Time) string {
	load := "unknown"
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(text)); len(f) > 2 {
			load = strings.Join(f[:3], " ")
		}
	}
	cpu := ""
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(text), "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = " (" + strings.TrimSpace(value) + ")"
				break
			}
		}
	}
	return fmt.Sprintf("Measured %s on %s/%s, %d cores%s, %s; load average at the end %s.",
		now.UTC().Format("2006-01-02 15:04 UTC"), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpu, runtime.Version(), load)
}
