package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

var (
	monitorAddr = resource.Address{Kind: "monitor", Name: "tumors"}
	tumors      = resource.Address{Kind: "dataset", Name: "tumors"}
	outcomes    = resource.Address{Kind: "dataset", Name: "outcomes"}
	served1     = resource.Address{Kind: "deployment", Name: "tumors"}
)

// lookout is a project whose monitor looks at a deployment: a real one, or a folder with a gateway's files.
type lookout struct {
	*providertest.Project
	m      *monitor
	served Captured
	// unreached is why nothing can be said of the deployment.
	unreached error
	spec      config.Monitor
	snap      *state.Snapshot
	signals   []*state.Signal
	rng       *rand.Rand
	now       time.Time
	seq       int
}

// newLookout has a reference of 400 rows: radius and size normal, shape of two kinds, target y.
func newLookout(t *testing.T, p *providertest.Project) *lookout {
	t.Helper()
	w := &lookout{Project: p, rng: rand.New(rand.NewPCG(1, 2)), now: noon}
	env := providertest.Env(p.Root)
	env.Now = func() time.Time { return w.now }
	w.m = w.newMonitor(env)
	var b strings.Builder
	b.WriteString("id,radius,size,shape,y\n")
	for i := range 400 {
		r := w.row(0)
		fmt.Fprintf(&b, "%d,%g,%g,%s,%d\n", i, r[0], r[1], r[2], i%2)
	}
	w.Write(".ml/data/ref/train.csv", b.String())
	w.Write(".ml/data/l0/outcomes.csv", "prediction_id,diagnosis\n")
	w.snap = &state.Snapshot{Records: map[resource.Address]*state.Record{
		tumors:   {Spec: json.RawMessage(`{"target":"y","id":"id","column":[{"name":"shape","type":"category"}]}`)},
		outcomes: {Spec: json.RawMessage(`{}`), Outputs: json.RawMessage(`{"digest":"l0","path":".ml/data/l0/outcomes.csv"}`)},
		served1:  {Ref: json.RawMessage(`{"dir":".ml/deployments/deployment.tumors"}`)},
	}}
	w.spec = config.Monitor{
		Deployment: &config.DeploymentOutputs{Address: served1.String()},
		Reference:  &config.Data{Address: tumors.String(), Name: "train", Digest: "sha256:ref", Path: ".ml/data/ref/train.csv"},
		Window:     &config.Window{Requests: 40}, MinSamples: 30,
		Drift: &config.Drift{Share: 0.5, Confirm: 2},
	}
	return w
}

// Captured implements Traffic: a folder to which the test writes as a gateway does.
func (w *lookout) Captured(context.Context, resource.Address, *state.Record) (Captured, error) {
	return w.served, w.unreached
}

func (w *lookout) newMonitor(e providers.Env) *monitor {
	return &monitor{Workspace: &runs.Workspace{Env: e}, traffic: w}
}

// row draws an instance; shift moves both numbers.
func (w *lookout) row(shift float64) []any {
	return []any{w.rng.NormFloat64() + shift, w.rng.NormFloat64() + shift, []string{"round", "long"}[w.rng.IntN(2)]}
}

func (w *lookout) dir() string { return w.Path("captured") }

// serving makes a version the one that serves.
func (w *lookout) serving(version int) {
	w.served = Captured{Version: version, Digest: resource.Digest(fmt.Sprintf("sha256:%d", version)), Dir: w.dir()}
}

// captured appends records as a gateway does.
func (w *lookout) captured(entries ...capture.Entry) {
	w.T.Helper()
	wr, err := capture.Open(w.dir(), &capture.Entries{}, capture.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		w.T.Fatal(err)
	}
	for i := range entries {
		e := &entries[i]
		w.seq++
		if e.ID == "" {
			e.ID = fmt.Sprintf("p%d", w.seq)
		}
		if e.Time.IsZero() {
			w.now = w.now.Add(time.Second)
			e.Time = w.now
		}
		if !wr.Add(e) {
			w.T.Fatal("the capture is full")
		}
	}
	if err := wr.Close(); err != nil {
		w.T.Fatal(err)
	}
}

// asked is a request for one prediction and its answer.
func (w *lookout) asked(version int, instance, prediction any) capture.Entry {
	w.T.Helper()
	req, err := json.Marshal(map[string]any{"instances": []any{instance}})
	if err != nil {
		w.T.Fatal(err)
	}
	resp, err := json.Marshal(map[string]any{"predictions": []any{prediction}})
	if err != nil {
		w.T.Fatal(err)
	}
	return capture.Entry{Version: version, Method: "POST", Path: "/v1/models/x:predict", Status: 200, Latency: 5 * time.Millisecond, Request: req, Response: resp}
}

// traffic captures n requests with shifted numbers.
func (w *lookout) traffic(version, n int, shift float64) {
	w.T.Helper()
	entries := make([]capture.Entry, n)
	for i := range entries {
		entries[i] = w.asked(version, w.row(shift), i%2)
	}
	w.captured(entries...)
}

// observe looks once, and records what it sees.
func (w *lookout) observe() map[string]*state.Signal {
	w.T.Helper()
	raw, err := state.EncodeValue(providertest.Encoded(w.T, w.spec))
	if err != nil {
		w.T.Fatal(err)
	}
	signals, err := w.m.Observe(w.T.Context(), providers.ObserveRequest{
		Address: monitorAddr, Record: &state.Record{Address: monitorAddr, Spec: raw}, Signals: w.signals, State: w.snap,
	})
	if err != nil {
		w.T.Fatal(err)
	}
	w.signals = signals
	out := map[string]*state.Signal{}
	for _, s := range signals {
		if s.Address != monitorAddr {
			w.T.Fatalf("signal of %s", s.Address)
		}
		out[s.Name] = s
	}
	return out
}

// labels freezes outcomes for the given ids.
func (w *lookout) labels(version string, byID map[string]string) {
	w.T.Helper()
	var b strings.Builder
	b.WriteString("prediction_id,diagnosis\n")
	for id, l := range byID {
		fmt.Fprintf(&b, "%s,%s\n", id, l)
	}
	path := ".ml/data/" + version + "/outcomes.csv"
	w.Write(path, b.String())
	w.snap.Records[outcomes].Outputs = json.RawMessage(fmt.Sprintf(`{"digest":%q,"path":%q}`, version, path))
}

func (w *lookout) lookAtPerformance(metrics ...config.Bound) {
	w.spec.Drift = nil
	w.spec.Performance = &config.Performance{
		Labels: &config.Data{Address: outcomes.String(), Digest: "l0", Path: ".ml/data/l0/outcomes.csv"},
		ID:     "prediction_id", Label: "diagnosis", MinSamples: 30, Confirm: 1, Metrics: metrics,
	}
}

func wantSignal(t *testing.T, s *state.Signal, want resource.SignalState, epoch int64, words ...string) {
	t.Helper()
	if s == nil {
		t.Fatalf("no signal, want %s", want)
	}
	if s.State != want || s.Epoch != epoch {
		t.Errorf("%s is %s, epoch %d (%s); want %s, epoch %d", s.Name, s.State, s.Epoch, s.Message, want, epoch)
	}
	for _, text := range words {
		if !strings.Contains(s.Message, text) {
			t.Errorf("message %q lacks %q", s.Message, text)
		}
	}
}

func removeAll(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}
