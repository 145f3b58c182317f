package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// wrkScript makes wrk post 200 bytes of JSON.
var wrkScript = fmt.Sprintf("wrk.method = \"POST\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\nwrk.body = '%s'\n", requestBody)

// wrk takes one sample of a front. all are the processes that take part in any
// sample; what the rest of the machine does is others'.
func (b *bench) wrk(ctx context.Context, f front, all []int) (load, error) {
	script := filepath.Join(b.cache, "post.lua")
	if err := os.WriteFile(script, []byte(wrkScript), 0o644); err != nil {
		return load{}, err
	}
	proxy, parts, before, start := pidSeconds(f.pids()), pidSeconds(all), machine(), time.Now()
	cmd := exec.CommandContext(ctx, "wrk", "-t1", "-c16", fmt.Sprintf("-d%ds", int(loadTime.Seconds())), "--latency", "-s", script, f.url)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return load{}, fmt.Errorf("wrk: %w\n%s", err, tail(string(out)))
	}
	proxy, parts = pidSeconds(f.pids())-proxy, pidSeconds(all)-parts
	l, requests, err := parseWrk(string(out))
	if err != nil {
		return load{}, err
	}
	if l.cpu = 1e6 * proxy / requests; len(f.pids()) == 0 {
		l.cpu = math.NaN()
	}
	used := machine() - before - parts - cpuSeconds(cmd.ProcessState)
	l.others = math.Max(used/time.Since(start).Seconds(), 0)
	return l, nil
}

var (
	wrkRate     = regexp.MustCompile(`(?m)^Requests/sec:\s+([\d.]+)$`)
	wrkMedian   = regexp.MustCompile(`(?m)^\s+50%\s+([\d.]+)(us|ms|s)$`)
	wrkRequests = regexp.MustCompile(`(?m)^\s+(\d+) requests in `)
)

// parseWrk reads what wrk --latency prints. An answer that is no success makes
// the sample worthless: refusals are fast.
func parseWrk(out string) (l load, requests float64, err error) {
	for _, bad := range []string{"Non-2xx", "Socket errors"} {
		if strings.Contains(out, bad) {
			return load{}, 0, fmt.Errorf("wrk saw failures:\n%s", tail(out))
		}
	}
	rate, median, count := wrkRate.FindStringSubmatch(out), wrkMedian.FindStringSubmatch(out), wrkRequests.FindStringSubmatch(out)
	if rate == nil || median == nil || count == nil {
		return load{}, 0, fmt.Errorf("wrk printed something else:\n%s", tail(out))
	}
	unit := map[string]float64{"us": 1, "ms": 1e3, "s": 1e6}[median[2]]
	for _, v := range []struct {
		text string
		into *float64
	}{{rate[1], &l.rate}, {median[1], &l.p50}, {count[1], &requests}} {
		if *v.into, err = strconv.ParseFloat(v.text, 64); err != nil {
			return load{}, 0, err
		}
	}
	l.p50 *= unit
	return l, requests, nil
}

// pidSeconds is the CPU time of running processes; NaN where the system does
// not say.
func pidSeconds(pids []int) float64 {
	sum := 0.0
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return math.NaN()
		}
		sum += statSeconds(string(text))
	}
	return sum
}

// statSeconds reads utime and stime, fields 14 and 15 of /proc/PID/stat. The
// second field is a name in brackets that may hold anything.
func statSeconds(stat string) float64 {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 13 {
		return math.NaN()
	}
	user, err := strconv.ParseFloat(f[11], 64)
	system, err2 := strconv.ParseFloat(f[12], 64)
	if err != nil || err2 != nil {
		return math.NaN()
	}
	return (user + system) / hertz
}

// children are the direct children of a process, none where the system does not say.
func children(pid int) []int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var out []int
	for f := range strings.FieldsSeq(string(text)) {
		if n, err := strconv.Atoi(f); err == nil {
			out = append(out, n)
		}
	}
	return out
}
