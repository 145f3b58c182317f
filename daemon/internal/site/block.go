package site

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/continuo-ml/continuo/daemon/internal/reply"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/drift"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// blockView is the page of one block.
type blockView struct {
	frame
	Repo     string
	Address  resource.Address
	State    condition
	Row      *engine.StatusRow
	Record   *state.Record
	Provider string
	Running  *state.Intent
	Feeds    []resource.Address // what it feeds
	Fed      []resource.Address // what feeds it
	Listens  []resource.SignalRef
	Pin      *state.Pin
	Held     []*state.Quarantine
	Runs     []runRow
	// Of a model.
	Versions []versionRow
	Metrics  []string
	More     int // versions that the table leaves out
	// Of a monitor.
	Signals []signalView
	Columns []columnRow
	// Gates of others lead to the versions that they judge.
	Judges []resource.Address
}

// versionRow is a version in the table.
type versionRow struct {
	*state.Version
	Marks    []condition
	Verdicts []verdictRow
	Values   []string
}

type verdictRow struct {
	By string
	*resource.Verdict
}

type signalView struct {
	*state.Signal
	Tone, Sign string
	Requests   int
	Notes      []string
}

// columnRow is a column in the latest window.
type columnRow struct{ drift.Result }

// Limits of a block's tables.
const (
	maxVersionRows = 100
	maxMetricCols  = 6
	maxBlockRuns   = 10
	maxColumnRows  = 500
)

func (s *Site) blockPage(p *project, w http.ResponseWriter, req *http.Request) {
	a, snap, ok := p.recorded(w, req)
	if !ok {
		return
	}
	st := p.Status()
	world := newWorld(&st, p.Blocks(), snap)
	v := &blockView{
		frame: s.frame(a.String(), p.crumb(), crumb{a.String(), ""}), Repo: st.Name, Address: a,
		State: world.condition(a), Row: world.rows[a.String()], Record: snap.Records[a], Running: world.runs[a],
		Pin: snap.Pins[a], Held: snap.Quarantines[a], Runs: runRows(snap, a, maxBlockRuns),
	}
	known := v.Record != nil
	for _, b := range world.blocks {
		if b.Addr == a {
			known, v.Provider, v.Fed, v.Listens = true, b.Provider, b.Deps, b.Feedback
		}
		if slices.Contains(b.Deps, a) {
			v.Feeds = append(v.Feeds, b.Addr)
		}
	}
	if !known {
		http.Error(w, "there is no such block", http.StatusNotFound)
		return
	}
	switch a.Kind {
	case "training":
		v.model(snap)
	case "monitor":
		v.monitor(p, snap)
	default:
		for _, f := range v.Fed {
			if f.Kind == "training" {
				v.Judges = append(v.Judges, f)
			}
		}
	}
	s.page(w, "block.html", v)
}

// model fills in the versions, newest first.
func (v *blockView) model(snap *state.Snapshot) {
	list := slices.Clone(snap.Versions[v.Address])
	slices.Reverse(list)
	if len(list) > maxVersionRows {
		v.More, list = len(list)-maxVersionRows, list[:maxVersionRows]
	}
	names := map[string]int{}
	for _, x := range list {
		for name := range x.Metrics {
			names[name]++
		}
	}
	v.Metrics = sortedKeys(names)
	v.Metrics = v.Metrics[:min(len(v.Metrics), maxMetricCols)]
	for _, x := range list {
		row := versionRow{Version: x, Marks: marks(snap, v.Record, x)}
		for _, by := range sortedKeys(x.Verdicts) {
			row.Verdicts = append(row.Verdicts, verdictRow{by, x.Verdicts[by]})
		}
		for _, name := range v.Metrics {
			text := "–"
			if f, ok := x.Metrics[name]; ok {
				text = fmt.Sprintf("%.4g", f)
			}
			row.Values = append(row.Values, text)
		}
		v.Versions = append(v.Versions, row)
	}
}

// marks say what a version is besides being one.
func marks(snap *state.Snapshot, rec *state.Record, x *state.Version) []condition {
	var out []condition
	if rec != nil && rec.Version == x.Number {
		out = append(out, condition{Word: "current", Sign: "●", Tone: "plain"})
	}
	for _, a := range sortedAddresses(snap.Records) {
		if a.Kind != "deployment" || !fedBy(snap, a, x.Address, 0) {
			continue
		}
		var serves struct {
			Version int             `json:"version"`
			Digest  resource.Digest `json:"digest"`
		}
		if json.Unmarshal(snap.Records[a].Outputs, &serves) == nil && serves.Digest == x.Digest && serves.Version == x.Number {
			out = append(out, condition{Word: "serves at " + nameOf(a), Sign: "✓", Tone: "good"})
		}
		if p := snap.Pins[a]; p != nil && p.Version == x.Number {
			out = append(out, condition{Word: "pinned at " + nameOf(a), Sign: "◆", Tone: "wait"})
		}
		if snap.Quarantined(a, x.Digest) != nil {
			out = append(out, condition{Word: "quarantined at " + nameOf(a), Sign: "✗", Tone: "bad"})
		}
	}
	return out
}

// fedBy says whether something rests on another block, as recorded.
func fedBy(snap *state.Snapshot, a, on resource.Address, depth int) bool {
	rec := snap.Records[a]
	if rec == nil || depth > 4 { // a deployment is a package and a gate away from its training
		return false
	}
	return slices.ContainsFunc(rec.Deps, func(d resource.Address) bool { return d == on || fedBy(snap, d, on, depth+1) })
}

func sortedAddresses[V any](m map[resource.Address]V) []resource.Address {
	out := make([]resource.Address, 0, len(m))
	for a := range m {
		out = append(out, a)
	}
	slices.SortFunc(out, resource.Address.Compare)
	return out
}

// signalTones colour the states of a signal.
var signalTones = map[resource.SignalState]condition{
	resource.SignalGood: {Sign: "✓", Tone: "good"}, resource.SignalBad: {Sign: "✗", Tone: "bad"}, resource.SignalError: {Sign: "✗", Tone: "bad"},
	resource.SignalTooFew: {Sign: "…", Tone: "plain"}, resource.SignalNoData: {Sign: "…", Tone: "plain"},
}

// monitor fills in the signals and what the latest window of each rests on.
func (v *blockView) monitor(p *project, snap *state.Snapshot) {
	for _, s := range snap.Signals[v.Address] {
		ev := readEvidence(s.Evidence)
		if len(s.Evidence) == 0 { // a new version begins without; what was seen last is still worth a look
			if kept, err := p.Windows(v.Address, s.Name); err == nil && len(kept) > 0 {
				ev.Columns, ev.Predicted = readEvidence(kept[len(kept)-1].Evidence).Columns, nil
			}
		}
		look := signalTones[s.State]
		v.Signals = append(v.Signals, signalView{Signal: s, Tone: look.Tone, Sign: look.Sign, Requests: ev.Window.Requests, Notes: ev.Notes})
		for _, c := range ev.Columns {
			v.Columns = append(v.Columns, columnRow{c})
		}
		if ev.Predicted != nil {
			v.Columns = append(v.Columns, columnRow{*ev.Predicted})
		}
	}
	slices.SortStableFunc(v.Columns, func(a, b columnRow) int {
		switch {
		case a.Drifted == b.Drifted:
			return 0
		case a.Drifted:
			return -1
		}
		return 1
	})
	v.Columns = v.Columns[:min(len(v.Columns), maxColumnRows)]
}

// Value is what is compared with the threshold: a p-value, or else the distance.
func (c columnRow) Value() string {
	switch {
	case c.Adjusted != nil:
		return fmt.Sprintf("p = %.2g", *c.Adjusted)
	case c.PValue != nil:
		return fmt.Sprintf("p = %.2g", *c.PValue)
	}
	return fmt.Sprintf("%.3g", c.Statistic)
}

func (s *Site) showVersionCharts(p *project, w http.ResponseWriter, req *http.Request) {
	a, snap, ok := p.recorded(w, req)
	if !ok {
		return
	}
	reply.JSON(w, versionCharts(snap, a))
}

func (s *Site) showWindowCharts(p *project, w http.ResponseWriter, req *http.Request) {
	a, snap, ok := p.recorded(w, req)
	if !ok {
		return
	}
	out, err := p.windowCharts(snap, a)
	if err != nil {
		reply.Unreadable(w, p.log, err)
		return
	}
	reply.JSON(w, out)
}

func (s *Site) showRunCharts(p *project, w http.ResponseWriter, req *http.Request) {
	x, ok := p.named(w, req)
	if !ok {
		return
	}
	c, err := p.curveOf(x.id)
	if err != nil {
		reply.Unreadable(w, p.log, err)
		return
	}
	reply.JSON(w, c.charts())
}

// graphDoc is the graph as JSON.
type graphDoc struct {
	Nodes []graphNode `json:"nodes"`
	Edges []graphEdge `json:"edges"`
}

type graphNode struct {
	Address string `json:"address"`
	Kind    string `json:"kind"`
	State   string `json:"state"`
	Version int    `json:"version,omitempty"`
}

type graphEdge struct {
	From     string `json:"from"`
	To       string `json:"to"`
	Version  int    `json:"version,omitempty"`
	Signal   string `json:"signal,omitempty"`
	Feedback bool   `json:"feedback,omitempty"`
}

func (s *Site) showGraph(p *project, w http.ResponseWriter, req *http.Request) {
	_, world, ok := p.stands(w, req)
	if !ok {
		return
	}
	out := graphDoc{Nodes: []graphNode{}, Edges: []graphEdge{}}
	for _, b := range world.blocks {
		out.Nodes = append(out.Nodes, graphNode{b.Addr.String(), b.Addr.Kind, world.condition(b.Addr).Word, world.version(b.Addr)})
		for _, x := range b.Deps {
			out.Edges = append(out.Edges, graphEdge{From: x.String(), To: b.Addr.String(), Version: world.version(x)})
		}
		for _, f := range b.Feedback {
			out.Edges = append(out.Edges, graphEdge{From: f.Address.String(), To: b.Addr.String(), Signal: f.Signal, Feedback: true})
		}
	}
	reply.JSON(w, out)
}
