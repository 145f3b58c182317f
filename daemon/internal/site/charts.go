package site

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/internal/drift"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Bounds of what is sent for charts.
const (
	maxCharts = 60
	maxPoints = 1000
	// leastP is where a p-value ends on a page: what is smaller is as good as impossible.
	leastP = 1e-6
)

// chart is one picture of numbers, as /api gives it and web/charts.js draws it.
type chart struct {
	Title string `json:"title"`
	// Group is the heading that it stands under, "" for none.
	Group string `json:"group,omitempty"`
	Note  string `json:"note,omitempty"`
	// XKind is version, window (the last of those that are kept is the greatest) or step.
	XKind string    `json:"x_kind"`
	X     []float64 `json:"x"`
	// Times belong to X, in seconds since 1970.
	Times  []float64 `json:"times,omitempty"`
	Series []series  `json:"series"`
	Log    bool      `json:"log,omitempty"`
	Bad    bool      `json:"bad,omitempty"` // the last point is beyond its bound

	beyond float64 // how far, as a share of the bound
}

// series has a value for each X, or null.
type series struct {
	Name   string     `json:"name"`
	Values []*float64 `json:"values"`
	Bound  bool       `json:"bound,omitempty"` // a limit, not a measurement
}

// charts is the document of a chart endpoint.
type charts struct {
	Charts []*chart `json:"charts"`
	Note   string   `json:"note,omitempty"`
}

// set puts a value at place i of a series of a chart, which it makes if need be.
func (c *chart) set(name string, bound bool, i int, v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	at := slices.IndexFunc(c.Series, func(s series) bool { return s.Name == name && s.Bound == bound })
	if at < 0 {
		at = len(c.Series)
		c.Series = append(c.Series, series{Name: name, Bound: bound, Values: make([]*float64, len(c.X))})
	}
	c.Series[at].Values[i] = &v
}

// album makes charts by title over one axis.
type album struct {
	kind  string
	x     []float64
	times []float64
	list  []*chart
	named map[string]*chart
}

func newAlbum(kind string, x []float64) *album {
	return &album{kind: kind, x: x, named: map[string]*chart{}}
}

func (a *album) chart(title string) *chart {
	c := a.named[title]
	if c == nil {
		c = &chart{Title: title, XKind: a.kind, X: a.x, Times: a.times, Series: []series{}}
		a.named[title] = c
		a.list = append(a.list, c)
	}
	return c
}

func (a *album) done(what string) charts {
	out := charts{Charts: a.list}
	if len(out.Charts) > maxCharts {
		out.Note = fmt.Sprintf("%d of %d %s are drawn, the worst first; the table has the last value of all.", maxCharts, len(out.Charts), what)
		out.Charts = out.Charts[:maxCharts]
	}
	if out.Charts == nil {
		out.Charts = []*chart{}
	}
	return out
}

// versionCharts are a model's metrics over its versions: those that its training
// wrote, and those that validations judged, with their limits.
func versionCharts(snap *state.Snapshot, a resource.Address) charts {
	list := snap.Versions[a]
	list = list[max(0, len(list)-maxPoints):]
	x := make([]float64, len(list))
	for i, v := range list {
		x[i] = float64(v.Number)
	}
	al := newAlbum("version", x)
	for i, v := range list {
		for _, gate := range sortedKeys(v.Verdicts) {
			for _, f := range v.Verdicts[gate].Findings {
				if f.Value == nil || f.Path == "" || f.Name != f.Path {
					continue // of a slice, or no number
				}
				c := al.chart(f.Path)
				c.Note = "judged by " + gate
				c.set(f.Path, false, i, *f.Value)
				if f.Limit != nil {
					c.set(limitWord(f.Rule), true, i, *f.Limit)
				}
				c.Bad = i == len(list)-1 && (c.Bad || !f.OK)
			}
		}
	}
	for i, v := range list {
		for _, name := range sortedKeys(v.Metrics) {
			title := name
			if c := al.named[name]; c != nil && strings.HasPrefix(c.Note, "judged") {
				title = name + " in training"
			}
			c := al.chart(title)
			if c.Note == "" {
				c.Note = "written by the training"
			}
			c.set(name, false, i, v.Metrics[name])
		}
	}
	return al.done("metrics")
}

func limitWord(rule string) string {
	switch rule {
	case "min":
		return "at least"
	case "max":
		return "at most"
	}
	return "limit"
}

// evidence is what windows of all signals may hold; see providers/watch.
type evidence struct {
	Window struct {
		From     uint64    `json:"from"`
		To       uint64    `json:"to"`
		Requests int       `json:"requests"`
		Start    time.Time `json:"start"`
		End      time.Time `json:"end"`
	} `json:"window"`
	Share     *float64           `json:"share"`
	Columns   []drift.Result     `json:"columns"`
	Predicted *drift.Result      `json:"predictions"`
	P50       *float64           `json:"p50_ms"`
	P95       *float64           `json:"p95_ms"`
	P99       *float64           `json:"p99_ms"`
	ErrorRate *float64           `json:"error_rate"`
	Joined    int                `json:"joined"`
	Metrics   map[string]float64 `json:"metrics"`
	Notes     []string           `json:"notes"`
}

func readEvidence(raw json.RawMessage) (ev evidence) {
	if len(raw) > 0 && json.Unmarshal(raw, &ev) != nil {
		return evidence{} // of a signal that this program does not know: nothing to draw
	}
	return ev
}

// bounds are the limits that a recorded monitor has for its numbers.
type bounds struct {
	Drift *struct {
		Share *float64 `json:"share"`
	} `json:"drift"`
	Performance *struct {
		Metrics []struct {
			Name string   `json:"name"`
			Min  *float64 `json:"min"`
			Max  *float64 `json:"max"`
		} `json:"metric"`
	} `json:"performance"`
	Latency *struct {
		P50       string   `json:"p50"`
		P95       string   `json:"p95"`
		P99       string   `json:"p99"`
		ErrorRate *float64 `json:"error_rate"`
	} `json:"latency"`
}

func boundsOf(rec *state.Record) (b bounds) {
	if rec == nil || json.Unmarshal(rec.Spec, &b) != nil {
		return bounds{} // without bounds the numbers are still worth a line
	}
	return b
}

// windowCharts are what a monitor saw, window by window, against its bounds.
func (p *project) windowCharts(snap *state.Snapshot, a resource.Address) (charts, error) {
	out := charts{Charts: []*chart{}}
	b := boundsOf(snap.Records[a])
	for _, s := range snap.Signals[a] {
		list, err := p.Windows(a, s.Name)
		if err != nil {
			return out, err
		}
		if len(list) == 0 && len(s.Evidence) > 0 { // recorded before windows were kept
			list = []state.Window{{Signal: s.Name, Evidence: s.Evidence}}
		}
		more := windowAlbum(s.Name, list, b)
		out.Charts = append(out.Charts, more.Charts...)
		out.Note += more.Note
	}
	return out, nil
}

// windowAlbum draws one signal.
func windowAlbum(signal string, list []state.Window, b bounds) charts {
	var found []evidence
	for _, w := range list {
		if ev := readEvidence(w.Evidence); !ev.Window.End.IsZero() {
			found = append(found, ev)
		}
	}
	// Windows stand side by side: traffic comes in bursts, and a quiet night is no news.
	x, times := make([]float64, len(found)), make([]float64, len(found))
	for i, ev := range found {
		x[i], times[i] = float64(i+1), float64(ev.Window.End.UnixMilli())/1000
	}
	al := newAlbum("window", x)
	al.times = times
	for i, ev := range found {
		last := i == len(found)-1
		ev.columns(al, i, last)
		ev.numbers(al, i, last, b)
	}
	for _, c := range al.list {
		c.Group = signal
	}
	// The worst first, behind what is about all columns together.
	slices.SortStableFunc(al.list, func(a, b *chart) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(b.beyond, a.beyond))
	})
	return al.done("columns")
}

func place(c *chart) int {
	switch {
	case c.Title == shareTitle:
		return 0
	case c.Bad:
		return 1
	}
	return 2
}

const shareTitle = "Share of drifted columns"

func (ev evidence) columns(al *album, i int, last bool) {
	list := ev.Columns
	if ev.Predicted != nil {
		list = append(slices.Clone(list), *ev.Predicted)
	}
	for _, col := range list {
		c := al.chart(col.Column)
		value := col.Statistic
		c.Note = string(col.Method)
		if p := cmp.Or(col.Adjusted, col.PValue); p != nil {
			value, c.Log = max(*p, leastP), true
			c.beyond = col.Threshold / max(*p, 1e-300)
			c.Note += ", p-value: drifted below"
			c.set("drifted below", true, i, col.Threshold)
		} else {
			c.Note += ": drifted from"
			c.beyond = col.Statistic / max(col.Threshold, 1e-300)
			c.set("drifted from", true, i, col.Threshold)
		}
		c.set("value", false, i, value)
		if last {
			c.Bad = col.Drifted
		}
	}
}

// numbers draws what is about a window as a whole.
func (ev evidence) numbers(al *album, i int, last bool, b bounds) {
	put := func(title, note string, value float64, least, most *float64) {
		c := al.chart(title)
		c.Note = note
		c.set("value", false, i, value)
		if least != nil {
			c.set("at least", true, i, *least)
			c.Bad = last && value < *least
		}
		if most != nil {
			c.set("at most", true, i, *most)
			c.Bad = c.Bad || last && value > *most
		}
	}
	if ev.Share != nil && len(ev.Columns) > 0 {
		c := al.chart(shareTitle)
		c.set("share", false, i, *ev.Share)
		if b.Drift != nil && b.Drift.Share != nil {
			c.set("drift from", true, i, *b.Drift.Share)
			c.Bad = last && *ev.Share >= *b.Drift.Share
		}
	}
	for _, name := range sortedKeys(ev.Metrics) {
		var least, most *float64
		if b.Performance != nil {
			for _, m := range b.Performance.Metrics {
				if m.Name == name {
					least, most = m.Min, m.Max
				}
			}
		}
		put(name, "", ev.Metrics[name], least, most)
	}
	if ev.P99 == nil {
		return
	}
	var l struct{ p50, p95, p99, failed *float64 }
	if b.Latency != nil {
		l.p50, l.p95, l.p99, l.failed = millis(b.Latency.P50), millis(b.Latency.P95), millis(b.Latency.P99), b.Latency.ErrorRate
	}
	put("p50", "ms", *ev.P50, nil, l.p50)
	put("p95", "ms", *ev.P95, nil, l.p95)
	put("p99", "ms", *ev.P99, nil, l.p99)
	put("Failed requests", "share", *ev.ErrorRate, nil, l.failed)
}

// millis reads a duration of a record in milliseconds; nil for none.
func millis(text string) *float64 {
	d, err := resource.ParseDuration(text)
	if text == "" || err != nil {
		return nil
	}
	ms := float64(d.Microseconds()) / 1000
	return &ms
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
