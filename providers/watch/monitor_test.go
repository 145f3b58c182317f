package watch

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func TestNothingNewIsReturnedAsRecordedWithoutTheReference(t *testing.T) {
	t.Parallel()
	w := newLookout(t, providertest.NewProject(t, nil))
	w.spec.Latency = &config.Latency{ErrorRate: new(0.1)}
	w.serving(1)
	w.traffic(1, 60, 0)
	first := w.observe()
	wantSignal(t, first["drift"], good, 0)
	removeAll(t, w.Path(".ml/data/ref"))
	w.m = w.newMonitor(w.m.Env) // another process, without a loaded reference
	for name, s := range w.observe() {
		if s != first[name] {
			t.Errorf("%s changed: %+v", name, s)
		}
	}
	// A window that needs it says so, and only that signal suffers; when it is back, all is as it was.
	w.traffic(1, 20, 0)
	now := w.observe()
	wantSignal(t, now["drift"], resource.SignalError, 0, "reference: ", "is gone")
	wantSignal(t, now["latency"], good, 0)
}

func TestAVersionIsJudgedByItsOwnTraffic(t *testing.T) {
	t.Parallel()
	w := newLookout(t, providertest.NewProject(t, nil))
	w.spec.Drift.Confirm = 1
	w.serving(1)
	var mixed []capture.Entry
	for range 40 { // a canary's bad answers and health probes lie between
		mixed = append(mixed, w.asked(1, w.row(0), 0), w.asked(2, w.row(9), 0), capture.Entry{Version: 1, Method: "GET", Path: "/healthz", Status: 200})
	}
	w.captured(mixed...)
	wantSignal(t, w.observe()["drift"], good, 0)
	w.serving(2)
	s := w.observe()["drift"]
	wantSignal(t, s, few, 0)
	w.traffic(2, 40, 9)
	wantSignal(t, w.observe()["drift"], bad, 1)
}

func TestAReferenceThatMovedResetsDriftOnly(t *testing.T) {
	t.Parallel()
	w := newLookout(t, providertest.NewProject(t, nil))
	w.spec.Drift.Confirm = 1
	w.spec.Latency = &config.Latency{P99: new(time.Millisecond)}
	w.serving(1)
	w.traffic(1, 40, 5)
	now := w.observe()
	wantSignal(t, now["drift"], bad, 1)
	wantSignal(t, now["latency"], bad, 1, "p99 5ms, at most 1ms")
	w.spec.Reference.Digest = "sha256:other"
	now = w.observe()
	wantSignal(t, now["drift"], few, 1)
	wantSignal(t, now["latency"], bad, 1)
}

func TestAMonitorFarBehindLooksAtTheLastWindows(t *testing.T) {
	t.Parallel()
	w := newLookout(t, providertest.NewProject(t, nil))
	w.spec.Window.Requests, w.spec.MinSamples = 10, 10
	w.spec.Drift.Confirm = 1
	w.serving(1)
	w.traffic(1, 300, 5)
	w.traffic(1, maxWindows*10, 0)
	wantSignal(t, w.observe()["drift"], good, 0, "passed over")
	var c cursor
	if err := json.Unmarshal(w.signals[0].Cursor, &c); err != nil || c.Next != 801 {
		t.Errorf("cursor %+v, %v", c, err)
	}
}

func TestACaptureThatBeganAnewIsReadFromItsBeginning(t *testing.T) {
	t.Parallel()
	w := newLookout(t, providertest.NewProject(t, nil))
	w.spec.Drift.Confirm = 1
	w.serving(1)
	w.traffic(1, 120, 0)
	wantSignal(t, w.observe()["drift"], good, 0)
	removeAll(t, w.dir())
	w.traffic(1, 40, 5)
	wantSignal(t, w.observe()["drift"], bad, 1)
}

func TestWindowsOfTime(t *testing.T) {
	t.Parallel()
	w := newLookout(t, providertest.NewProject(t, nil))
	w.spec.Window = &config.Window{Duration: time.Minute}
	w.spec.Drift.Confirm = 1
	w.serving(1)
	w.traffic(1, 50, 0)
	wantSignal(t, w.observe()["drift"], few, 0)
	w.now = noon.Add(62 * time.Second)
	first := w.observe()["drift"]
	wantSignal(t, first, good, 0)
	if again := w.observe()["drift"]; again != first {
		t.Errorf("a second look made %+v", again)
	}
	w.traffic(1, 50, 5)
	w.now = noon.Add(10 * time.Minute)
	wantSignal(t, w.observe()["drift"], bad, 1)
	w.now = noon.Add(20 * time.Minute)
	wantSignal(t, w.observe()["drift"], bad, 1, "no instances")
	w.now = noon.Add(30 * 24 * time.Hour)
	w.traffic(1, 40, 0)
	w.now = w.now.Add(time.Minute)
	wantSignal(t, w.observe()["drift"], good, 1)
}

func TestLateLabels(t *testing.T) {
	t.Parallel()
	w := newLookout(t, providertest.NewProject(t, nil))
	w.lookAtPerformance(config.Bound{Name: "recall", Min: new(0.9)}, config.Bound{Name: "accuracy", Min: new(0.5)})
	w.serving(1)
	w.traffic(1, 120, 0) // says 0, 1, 0, 1 …
	right, wrong := map[string]string{}, map[string]string{}
	for i := range 120 {
		id := fmt.Sprintf("p%d", i+1)
		right[id] = fmt.Sprint(i % 2)
		if wrong[id] = "0"; i%4 < 2 {
			wrong[id] = "1"
		}
	}
	some := func(from map[string]string, lo, hi int) map[string]string {
		out := map[string]string{}
		for i := lo; i <= hi; i++ {
			out[fmt.Sprintf("p%d", i)] = from[fmt.Sprintf("p%d", i)]
		}
		return out
	}
	first := w.observe()["performance"]
	wantSignal(t, first, few, 0, "0 of 40 predictions have a label, 30 are needed")
	if again := w.observe()["performance"]; again != first {
		t.Errorf("a second look made %+v of %+v", again, first)
	}
	w.labels("l1", some(right, 1, 29)) // one too few
	wantSignal(t, w.observe()["performance"], few, 0)
	w.labels("l2", some(right, 1, 35))
	now := w.observe()["performance"]
	wantSignal(t, now, good, 0, "recall 1", "35 of 40")
	var ev performanceEvidence
	if err := json.Unmarshal(now.Evidence, &ev); err != nil || ev.Window.To != 40 || ev.Coverage != 0.875 || ev.Positive != "1" || ev.Metrics["accuracy"] != 1 {
		t.Errorf("evidence %s, %v", now.Evidence, err)
	}
	// The second window's labels never come; the third's do.
	w.labels("l3", some(wrong, 81, 120))
	now = w.observe()["performance"]
	wantSignal(t, now, bad, 1, "recall 0.5, at least 0.9")
	w.labels("l4", right)
	if again := w.observe()["performance"]; again != now {
		t.Errorf("windows that were passed are judged again: %+v", again)
	}
}

func TestABatchIsJoinedByIndex(t *testing.T) {
	t.Parallel()
	w := newLookout(t, providertest.NewProject(t, nil))
	w.lookAtPerformance(config.Bound{Name: "accuracy", Min: new(0.9)})
	w.spec.Window.Requests, w.spec.Performance.MinSamples = 2, 4
	w.serving(1)
	batch := capture.Entry{
		Version: 1, Method: "POST", Status: 200, ID: "b",
		Request: []byte(`{"instances":[[1,2,"x"],[1,2,"x"],[1,2,"x"]]}`), Response: []byte(`{"predictions":["M",{"label":"B","p":0.1},["M"]]}`),
	}
	w.captured(batch, w.asked(1, w.row(0), "B"))
	w.labels("l1", map[string]string{"b#0": "M", "b#1": "B", "b#2": "B", "p2": "B"})
	wantSignal(t, w.observe()["performance"], bad, 1, "accuracy 0.75", "4 of 4")
}

func TestInstancesByNameAndWithMissingFeatures(t *testing.T) {
	t.Parallel()
	w := newLookout(t, providertest.NewProject(t, nil))
	w.spec.Drift.Confirm = 1
	w.serving(1)
	for i := range 40 {
		r := w.row(0)
		named := map[string]any{"radius": fmt.Sprint(r[0]), "shape": r[2], "unknown": 7}
		if i%2 == 0 {
			named["radius"] = "n/a"
		}
		w.captured(w.asked(1, named, i%2))
	}
	s := w.observe()["drift"]
	var ev driftEvidence
	if err := json.Unmarshal(s.Evidence, &ev); err != nil {
		t.Fatal(err)
	}
	if ev.Nulls["radius"] != 20 || ev.Nulls["size"] != 40 {
		t.Errorf("nulls %v", ev.Nulls)
	}
	for _, c := range ev.Columns {
		if want := c.Column == "size"; c.Drifted != want {
			t.Errorf("%s: %+v", c.Column, c)
		}
	}
	wantSignal(t, s, good, 0, "no drift: 1 of 4 columns")
}

func TestWhatAMonitorRefusesWhenItIsApplied(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*lookout)
		want   string
	}{
		"a deployment that never ran":        {func(w *lookout) { w.unreached = errors.New("deployment.tumors has no gateway") }, "deployment.tumors has no gateway"},
		"a feature that is no column":        {func(w *lookout) { w.spec.Features = []string{"radius", "age"} }, `no column "age"`},
		"an override of no column":           {func(w *lookout) { w.spec.Drift.Overrides = []config.DriftColumn{{Name: "age"}} }, `no column "age"`},
		"predictions without a target":       {func(w *lookout) { w.spec.Drift.Predictions = new(true); w.snap.Records[tumors].Spec = nil }, "target"},
		"a reference that is gone":           {func(w *lookout) { removeAll(w.T, w.Path(".ml/data/ref")) }, "is gone"},
		"drift without a reference":          {func(w *lookout) { w.spec.Reference = nil }, "needs a reference"},
		"a metric that labels cannot give":   {func(w *lookout) { w.lookAtPerformance(config.Bound{Name: "auc"}) }, `"auc" is no metric`},
		"labels without the label":           {func(w *lookout) { w.lookAtPerformance(config.Bound{Name: "f1"}); w.spec.Performance.Label = "y" }, `no column "y"`},
		"a deployment that no address names": {func(w *lookout) { w.spec.Deployment.Address = "tumors" }, "deployment: "},
	} {
		w := newLookout(t, providertest.NewProject(t, nil))
		w.serving(1)
		c.change(w)
		_, err := w.m.Apply(t.Context(), w.spec, providers.ApplyRequest{Address: monitorAddr, State: w.snap})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "monitor.tumors") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMetricsFromLabels(t *testing.T) {
	t.Parallel()
	all := []config.Bound{{Name: "accuracy"}, {Name: "precision"}, {Name: "recall"}, {Name: "f1"}}
	numbers := []config.Bound{{Name: "mae"}, {Name: "rmse"}, {Name: "r2"}}
	for name, c := range map[string]struct {
		bounds       []config.Bound
		said, labels string
		positive     string
		want         map[string]float64
	}{
		// Compared with scikit-learn 1.5: accuracy_score and precision_recall_fscore_support, r2_score.
		"two classes":                 {all, "M M B B M B", "M B B M M B", "M", map[string]float64{"accuracy": 4. / 6, "precision": 2. / 3, "recall": 2. / 3, "f1": 2. / 3}},
		"the positive was never said": {all, "B B B", "M B B", "M", map[string]float64{"accuracy": 2. / 3, "precision": 0, "recall": 0, "f1": 0}},
		"there is no positive":        {all, "B B", "B B", "M", map[string]float64{"accuracy": 1}},
		"numbers":                     {numbers, "2.5 0 2 8", "3 -0.5 2 7", "", map[string]float64{"mae": 0.5, "rmse": math.Sqrt(0.375), "r2": 0.9486081370449679}},
		"numbers without variance":    {numbers, "1 2", "2 2", "", map[string]float64{"mae": 0.5, "rmse": math.Sqrt(0.5)}},
	} {
		got, err := measure(c.bounds, strings.Fields(c.said), strings.Fields(c.labels), c.positive)
		if err != nil || len(got) != len(c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		for m, v := range c.want {
			if math.Abs(got[m]-v) > 1e-12 {
				t.Errorf("%s: %s = %v, want %v", name, m, got[m], v)
			}
		}
	}
	if _, err := measure(numbers, []string{"a"}, []string{"1"}, ""); err == nil {
		t.Error("text has a mean error")
	}
	if c, err := positiveClass(config.Performance{Metrics: all}, []string{"B", "M"}, []string{"B"}); err != nil || c != "M" {
		t.Errorf("positive class %q, %v", c, err)
	}
	if _, err := positiveClass(config.Performance{Metrics: all}, []string{"a", "b", "c"}, nil); err == nil {
		t.Error("three classes have no positive one by themselves")
	}
	for _, pair := range [][2]string{{"1", "1.0"}, {"true", "1"}, {"False", "0"}, {"M ", "M"}, {"-0", "0"}} {
		if class(pair[0]) != class(pair[1]) {
			t.Errorf("%q and %q are not one class", pair[0], pair[1])
		}
	}
}

func TestLatencyBounds(t *testing.T) {
	t.Parallel()
	ms := func(n int) *time.Duration { return new(time.Duration(n) * time.Millisecond) }
	full := &latencyWindow{}
	for i := range 100 { // 1 to 100 ms; five fail, three are the client's fault
		full.add(request{latency: time.Duration(i+1) * time.Millisecond, status: []int{500, 404, 200}[min(i/4, 2)]})
	}
	for name, c := range map[string]struct {
		w    *latencyWindow
		l    config.Latency
		want resource.SignalState
		text string
	}{
		"all within":        {full, config.Latency{P50: ms(50), P95: ms(95), P99: ms(99), ErrorRate: new(0.04)}, good, "4 of 100 requests failed"},
		"the median is not": {full, config.Latency{P50: ms(49)}, bad, "p50 50ms, at most 49ms"},
		"p99 is not":        {full, config.Latency{P99: ms(98)}, bad, "p99 99ms"},
		"too many fail":     {full, config.Latency{ErrorRate: new(0.03)}, bad, "4 of 100 requests failed, at most 3 %"},
		"too few":           {&latencyWindow{times: make([]time.Duration, 29)}, config.Latency{}, few, "30 are needed"},
		"none":              {&latencyWindow{}, config.Latency{}, nodata, "no requests"},
	} {
		if o := judgeLatency(stretch{}, c.w, c.l, 30); o.state != c.want || !strings.Contains(o.message, c.text) {
			t.Errorf("%s: %s, %s", name, o.state, o.message)
		}
	}
}

func TestPredictionsAreComparedWhereTheyAreOfTheTargetsKind(t *testing.T) {
	t.Parallel()
	ref := newLookout(t, providertest.NewProject(t, nil))
	loaded, err := ref.m.reference(t.Context(), ref.spec, ref.snap)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		value func(i int) any
		asked *bool
		want  string // compared, skipped, error
	}{
		"the target's classes":    {func(i int) any { return float64(i % 2) }, nil, "compared"},
		"the same as text":        {func(i int) any { return fmt.Sprint(i % 2) }, nil, "compared"},
		"inside an object":        {func(i int) any { return map[string]any{"y": float64(i % 2), "p": 0.3} }, nil, "compared"},
		"probabilities":           {func(i int) any { return 0.1 + float64(i)/100 }, nil, "skipped"},
		"probabilities, asked":    {func(i int) any { return 0.1 + float64(i)/100 }, new(true), "compared"},
		"lists":                   {func(int) any { return []any{0.1, 0.9} }, nil, "skipped"},
		"lists, asked":            {func(int) any { return []any{0.1, 0.9} }, new(true), "error"},
		"switched off altogether": {func(i int) any { return float64(i % 2) }, new(false), "skipped"},
	} {
		w := &driftWindow{features: loaded.features}
		for i := range 40 {
			w.add(request{instances: []capture.Instance{{Values: ref.row(0)}}, predictions: []any{c.value(i)}})
		}
		var ev driftEvidence
		r, err := comparePredictions(w, loaded, config.Drift{Predictions: c.asked}, &ev)
		got := "skipped"
		if err != nil {
			got = "error"
		} else if r != nil {
			got = "compared"
		}
		if got != c.want {
			t.Errorf("%s: %s (%v, %v)", name, got, r, err)
		}
	}
}

func TestManyInstancesAreThinnedEvenly(t *testing.T) {
	t.Parallel()
	w := &driftWindow{features: []string{"x"}}
	n := 3*maxInstances + 7
	for i := range n {
		w.add(request{instances: []capture.Instance{{Values: []any{float64(i)}}}})
	}
	if w.instances != n || len(w.rows) >= maxInstances || len(w.rows) < maxInstances/4 {
		t.Fatalf("%d of %d instances are kept", len(w.rows), w.instances)
	}
	for i, r := range w.rows {
		if r[0] != float64(i*w.stride) {
			t.Fatalf("row %d holds instance %v, stride %d", i, r[0], w.stride)
		}
	}
}

func TestTheLastRecordIsFoundFromTheEnd(t *testing.T) {
	t.Parallel()
	p := providertest.NewProject(t, nil)
	long := strings.Repeat("x", 200<<10)
	p.Write("c/000001.jsonl", `{"seq":1}`+"\n"+`{"seq":2}`+"\n")
	for text, want := range map[string]uint64{
		"":                                2,
		`{"seq":3}` + "\n":                3,
		`{"seq":3}`:                       2, // not whole yet
		"{\"seq\":3}\n{\"se":              3,
		"{\"seq\":3}\nrubbish\n":          3,
		`{"seq":3,"a":"` + long + "\"}\n": 3,
		`{"seq":3}` + "\n" + `{"seq":4,"a":"` + long + "\"}\n": 4,
	} {
		p.Write("c/000002.jsonl", text)
		if got, err := lastSeq(p.Path("c")); err != nil || got != want {
			t.Errorf("%.30q: %d, %v; want %d", text, got, err, want)
		}
	}
	if got, err := lastSeq(filepath.Join(p.Root, "absent")); err != nil || got != 0 {
		t.Errorf("%d, %v", got, err)
	}
}

func TestObservingNeedsNothingButTheRecord(t *testing.T) {
	t.Parallel()
	w := newLookout(t, providertest.NewProject(t, nil)) // no deployment folder, no traffic
	s := w.observe()["drift"]
	wantSignal(t, s, few, 0)
	if again := w.observe()["drift"]; again != s {
		t.Errorf("a second look made %+v", again)
	}
	if _, err := w.m.Observe(t.Context(), providers.ObserveRequest{Address: monitorAddr, Record: &state.Record{Spec: json.RawMessage(`{"window":3}`)}}); err == nil {
		t.Error("a damaged record was read")
	}
}
