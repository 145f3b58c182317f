package watch

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
)

// latencyEvidence is what a latency signal rests on. Times are in milliseconds.
type latencyEvidence struct {
	Window    stretch `json:"window"`
	P50       float64 `json:"p50_ms"`
	P95       float64 `json:"p95_ms"`
	P99       float64 `json:"p99_ms"`
	ErrorRate float64 `json:"error_rate"`
}

// latencyWindow gathers how long the answers of one window took.
type latencyWindow struct {
	times  []time.Duration
	failed int
}

func (w *latencyWindow) add(q request) {
	w.times = append(w.times, q.latency)
	if q.status >= 500 || q.status == 0 {
		w.failed++
	}
}

// judgeLatency compares a window with its bounds. A client's own mistakes (4xx) are answers, not failures.
func judgeLatency(at stretch, w *latencyWindow, l config.Latency, least int) opinion {
	n := len(w.times)
	ev := latencyEvidence{Window: at}
	if n == 0 {
		return opinion{resource.SignalNoData, "latency: no requests in this window", ev}
	}
	if n < least {
		return opinion{resource.SignalTooFew, fmt.Sprintf("latency: %d requests, %d are needed (min_samples)", n, least), ev}
	}
	slices.Sort(w.times)
	p50, p95, p99 := percentile(w.times, 50), percentile(w.times, 95), percentile(w.times, 99)
	ev.P50, ev.P95, ev.P99, ev.ErrorRate = millis(p50), millis(p95), millis(p99), float64(w.failed)/float64(n)
	var over []string
	for _, b := range []struct {
		name  string
		have  time.Duration
		bound *time.Duration
	}{{"p50", p50, l.P50}, {"p95", p95, l.P95}, {"p99", p99, l.P99}} {
		if b.bound != nil && b.have > *b.bound {
			over = append(over, fmt.Sprintf("%s %s, at most %s", b.name, b.have.Round(10*time.Microsecond), *b.bound))
		}
	}
	if l.ErrorRate != nil && ev.ErrorRate > *l.ErrorRate {
		over = append(over, fmt.Sprintf("%d of %d requests failed, at most %.4g %%", w.failed, n, *l.ErrorRate*100))
	}
	if len(over) > 0 {
		return opinion{resource.SignalBad, "latency: " + strings.Join(over, "; "), ev}
	}
	return opinion{resource.SignalGood, fmt.Sprintf("latency: p99 %s, %d of %d requests failed", p99.Round(10*time.Microsecond), w.failed, n), ev}
}

// percentile is the nearest rank: the smallest value that at least p percent of the sorted values do not exceed.
func percentile(sorted []time.Duration, p float64) time.Duration {
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
