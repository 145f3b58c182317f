package site

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/windows"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/bolt"
)

const evil = `<img src=x onerror=alert(1)>"'</script>`

func at(t *testing.T, s string) resource.Address {
	t.Helper()
	a, err := resource.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// life is a project with files in a folder, and a reader who may do all but what
// the test says.
type life struct {
	dir    string
	status status.Repository
	blocks []Block
	log    func(follow bool, to io.Writer) error
	may    bool // approve
	full   bool // nobody else may follow
	places int  // of those who follow that are taken
}

func (l *life) store() state.Store {
	return bolt.Open(filepath.Join(l.dir, "state.db"), bolt.Options{})
}

func (l *life) Status() status.Repository { return l.status }

func (l *life) Blocks() []Block { return l.blocks }

func (l *life) Snapshot(ctx context.Context) (*state.Snapshot, error) { return l.store().Snapshot(ctx) }

func (l *life) Runs(ctx context.Context, a resource.Address) ([]*state.Run, error) {
	return l.store().Runs(ctx, a)
}

func (l *life) Windows(monitor resource.Address, signal string) ([]state.Window, error) {
	return windows.Read(filepath.Join(l.dir, "windows"), monitor, signal)
}

func (l *life) RunFolder(id string) string { return filepath.Join(l.dir, "runs", id) }

func (l *life) WriteLog(_ context.Context, _ resource.Address, _ string, _, follow bool, to io.Writer) error {
	if l.log == nil {
		return errors.New("there is no log")
	}
	return l.log(follow, to)
}

// young is a project that was never applied, and its site.
func young(t *testing.T) (*life, *httptest.Server) {
	t.Helper()
	l := &life{dir: t.TempDir(), may: true, status: status.Repository{Name: "r", Mode: status.Applies, Phase: status.Starting}}
	s := &Site{
		Version: "test", Log: slog.New(slog.DiscardHandler),
		MayApprove: func(*http.Request) bool { return l.may },
		MayFollow: func(w http.ResponseWriter) (func(), bool) {
			if l.full {
				http.Error(w, "too many readers", http.StatusServiceUnavailable)
				return nil, false
			}
			l.places++
			return func() { l.places-- }, true
		},
	}
	s.Add(l)
	mux := http.NewServeMux()
	for _, r := range s.Routes() {
		mux.Handle(r.Pattern, r.Handle)
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return l, srv
}

// seeded is a project that has a life behind it, with markup wherever text comes from outside.
func seeded(t *testing.T) (*life, *httptest.Server) {
	t.Helper()
	r, srv := young(t)
	now := time.Now().UTC()
	data, train, gate, serve, mon := at(t, "dataset.d"), at(t, "training.t"), at(t, "validation.v"), at(t, "deployment.s"), at(t, "monitor.m")
	digest := func(n int) resource.Digest { return resource.DigestOf([]byte(fmt.Sprint(n))) }
	num := func(f float64) *float64 { return &f }
	var ops []state.Op
	put := func(a resource.Address, outputs, spec string, deps ...resource.Address) *state.Record {
		rec := &state.Record{Address: a, Provider: "local", Phase: resource.PhaseReady, Outputs: json.RawMessage(outputs), Spec: json.RawMessage(spec), Deps: deps, Created: now, Updated: now}
		ops = append(ops, state.Op{PutRecord: rec})
		return rec
	}
	for n := 1; n <= 3; n++ {
		id := fmt.Sprintf("01RUN%d", n)
		ops = append(ops, state.Op{PutRun: &state.Run{
			ID: id, Address: train, Phase: resource.PhaseReady, Version: n, Started: now.Add(-time.Minute), Finished: now, Message: evil,
			Reasons: []resource.Reason{{Code: resource.ReasonDataChanged, Message: "data changed " + evil}}, Metrics: map[string]float64{"loss": 1 / float64(n)},
		}}, state.Op{PutVersion: &state.Version{
			Address: train, Number: n, Digest: digest(n), Run: id, Metrics: map[string]float64{"loss": 1 / float64(n)}, Created: now,
			Verdicts: map[string]*resource.Verdict{"validation.v": {Passed: n < 3, Message: evil, Findings: []resource.Finding{{Name: "recall", Path: "recall", Rule: "min", Value: num(0.9 - float64(n)/100), Limit: num(0.88), OK: n < 3}}}},
		}})
	}
	put(data, `{"digest":"`+string(digest(9))+`"}`, "{}")
	put(train, `{"version":3}`, "{}", data).Version = 3
	put(gate, `{"model":{"version":2}}`, "{}", train).Verdict = &resource.Verdict{Message: evil}
	put(serve, fmt.Sprintf(`{"version":2,"digest":%q,"endpoint":"http://127.0.0.1:1"}`, digest(2)), "{}", gate)
	put(mon, "{}", `{"drift":{"share":0.5},"latency":{"p99":"200ms"}}`, serve)
	ops = append(ops,
		state.Op{PutPin: &state.Pin{Address: serve, Version: 1, Who: evil, When: now, Why: evil}},
		state.Op{PutQuarantine: &state.Quarantine{Address: serve, Version: 3, Digest: digest(3), Reason: evil, When: now}},
		state.Op{PutSignal: &state.Signal{Address: mon, Name: "drift", State: resource.SignalBad, Epoch: 1, Message: evil, Time: now, Evidence: driftEvidence(9)}},
		state.Op{PutIntent: &state.Intent{OpID: "01RUN4", Address: train, Provider: "local", Action: resource.RunIt, Started: now}},
	)
	if _, err := r.store().Commit(t.Context(), 0, ops...); err != nil {
		t.Fatal(err)
	}
	var list []state.Window
	for n := range 10 {
		list = append(list, state.Window{Signal: "drift", State: resource.SignalGood, Evidence: driftEvidence(n)})
	}
	if err := windows.Append(filepath.Join(r.dir, "windows"), mon, list); err != nil {
		t.Fatal(err)
	}
	r.blocks = []Block{
		{Addr: data}, {Addr: train, Deps: []resource.Address{data}, Feedback: []resource.SignalRef{{Address: mon, Signal: "drift"}}},
		{Addr: gate, Deps: []resource.Address{train, data}}, {Addr: serve, Deps: []resource.Address{gate}},
		{Addr: mon, Deps: []resource.Address{serve, data}}, {Addr: at(t, `training.many["`+strings.ReplaceAll(evil, `"`, `\"`)+`"]`)},
	}
	r.status.Blocks = []engine.StatusRow{
		{Address: "dataset.d", Phase: resource.PhaseReady, Verdict: "passed"}, {Address: "training.t", Phase: resource.PhaseReady},
		{Address: "validation.v", Phase: resource.PhaseReady, Verdict: "failed", Message: evil}, {Address: "deployment.s", Phase: resource.PhaseReady, Pinned: 1},
		{Address: "monitor.m", Phase: resource.PhaseReady, Signal: map[string]string{"drift": "bad"}},
	}
	r.status.Phase, r.status.Held = status.Held, &status.HeldPlan{ID: "abcd1234", Why: []string{evil}, Expires: now.Add(time.Hour)}
	r.status.Plan = &planner.Plan{Created: now, Complete: true, Summary: planner.Summary{Run: 1, Gates: 1}, Steps: []*planner.Step{{
		Address: train, Kind: "training", Action: resource.RunIt, Reasons: []resource.Reason{{Code: resource.ReasonDataChanged, Message: evil}},
		Changes: []planner.Change{{Path: "params.epochs", Old: json.RawMessage("300"), New: json.RawMessage(`"` + "<b>400" + `"`)}},
	}, {
		Address: gate, Kind: "validation", Action: resource.RunIt, Gate: []string{"recall ≥ 0.88"},
	}, {
		Address: serve, Kind: "deployment", Action: resource.Update, GatedBy: []resource.Address{gate},
	}}}
	return r, srv
}

func driftEvidence(n int) json.RawMessage {
	return fmt.Appendf(nil, `{"window":{"requests":50,"end":%q},"share":%g,"columns":[{"column":"age","method":"psi","statistic":%g,"threshold":0.1,"drifted":%v},{"column":"sex","method":"chi_square","statistic":3,"p_value":1e-30,"threshold":0.05,"drifted":true}]}`,
		time.Unix(int64(1000+60*n), 0).UTC().Format(time.RFC3339), float64(n)/10, float64(n)/50, n > 5)
}

// readPage gets a page whole.
func readPage(t *testing.T, srv *httptest.Server, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func TestPagesSayWhatIsAndShowNoMarkupOfOthers(t *testing.T) {
	_, srv := seeded(t)
	for path, want := range map[string][]string{
		"/":                   {"held"},
		"/r/r":                {"<svg", ">v3<", ">v2<", `class="line back"`, "not passed", "alarm", "running", "pinned at 1", "Plan <code>abcd1234</code> waits", `action="/api/v1/repositories/r/approve/abcd1234"`, "All runs"},
		"/r/r/plan":           {"run", "recall ≥ 0.88", "only if validation.v passes", "params.epochs", "300", "&lt;b&gt;400", "Approve this plan"},
		"/r/r/b/training.t":   {"v1", "v3", "current", "serves at s", "pinned at s", "quarantined at s", "✓ passed", "✗ not passed", "0.3333", "charts/versions/training.t", "Follow what runs now"},
		"/r/r/b/monitor.m":    {"epoch 1", "✗ drifted", "p = 1e-30", "charts/windows/monitor.m", "psi"},
		"/r/r/b/deployment.s": {"Pinned", "is quarantined here"},
		"/r/r/b/validation.v": {"✗ not passed", "of training.t"},
		"/r/r/runs":           {"RUN1", "RUN4", "running"},
		"/r/r/runs/01RUN1":    {"training.t", "version 1", "data changed", "loss 1"},
		"/r/r/runs/01RUN4":    {"data-follow", "running", "Reload"},
		"/r/r/b/" + url.PathEscape(`training.many["`+strings.ReplaceAll(evil, `"`, `\"`)+`"]`): {"planned", "There is no version yet"},
	} {
		code, body := readPage(t, srv, path)
		if code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
		for _, text := range want {
			if !strings.Contains(body, text) {
				t.Errorf("%s lacks %q", path, text)
			}
		}
		if strings.Contains(body, "<img") || strings.Contains(body, "<b>400") || strings.Contains(body, "style=") || strings.Contains(body, "<script>") || strings.Contains(body, "ZgotmplZ") {
			t.Errorf("%s has markup that is not ours:\n%s", path, body)
		}
	}
}

func TestWhoMayNotApproveGetsNoButton(t *testing.T) {
	l, srv := seeded(t)
	l.may = false
	for _, path := range []string{"/r/r", "/r/r/plan"} {
		if code, body := readPage(t, srv, path); code != 200 || strings.Contains(body, "<button>Approve") || !strings.Contains(body, "right to write") {
			t.Errorf("%s: %d, the button is there: %v", path, code, strings.Contains(body, "<button>Approve"))
		}
	}
	l.may, l.status.Mode = true, "plan" // a daemon that applies nothing
	if _, body := readPage(t, srv, "/r/r"); strings.Contains(body, "<button>Approve") {
		t.Error("a daemon that only plans offers to approve")
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	_, srv := seeded(t)
	for path, want := range map[string]int{
		"/r/r/b/training.x": 404, "/r/r/b/what%20ever": 400, "/r/r/runs/01NONE": 404, "/r/r/runs/..%2f..%2f..": 404, "/r/x": 404,
		"/api/v1/repositories/r/follow/01NONE": 404, "/api/v1/repositories/r/charts/run/..%2f..": 404, "/api/v1/repositories/r/charts/windows/x": 400,
		"/web/assets.json": 404, "/web/vendor%2fassets.json": 404,
	} {
		if code, body := readPage(t, srv, path); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
}

func chartsAt(t *testing.T, srv *httptest.Server, path string) map[string]*chart {
	t.Helper()
	code, body := readPage(t, srv, "/api/v1/repositories/r/charts/"+path)
	var doc charts
	if err := json.Unmarshal([]byte(body), &doc); err != nil || code != http.StatusOK {
		t.Fatalf("%s: %d %s", path, code, body)
	}
	out := map[string]*chart{}
	for _, c := range doc.Charts {
		out[c.Title] = c
	}
	return out
}

func values(s series) (out []float64) {
	for _, v := range s.Values {
		if v == nil {
			out = append(out, -1)
			continue
		}
		out = append(out, *v)
	}
	return out
}

func TestChartsHoldTheNumbersAndTheirBounds(t *testing.T) {
	l, srv := seeded(t)
	got := chartsAt(t, srv, "windows/monitor.m")
	age := got["age"]
	if age == nil || len(age.X) != 10 || age.X[9] != 10 || age.Times[9] != 1540 || fmt.Sprint(values(age.Series[1])[9], values(age.Series[0])[0]) != "0.18 0.1" || !age.Series[0].Bound || !age.Bad {
		t.Errorf("age: %+v", age)
	}
	if sex := got["sex"]; sex == nil || !sex.Log || values(sex.Series[1])[0] != leastP {
		t.Errorf("sex: %+v", sex)
	}
	if share := got[shareTitle]; share == nil || len(share.Series) != 2 || values(share.Series[1])[0] != 0.5 || !share.Bad {
		t.Errorf("share: %+v", share)
	}
	got = chartsAt(t, srv, "versions/training.t")
	if c := got["recall"]; c == nil || fmt.Sprint(c.X) != "[1 2 3]" || len(c.Series) != 2 || !c.Bad || c.Series[1].Name != "at least" {
		t.Errorf("recall: %+v", c)
	}
	if c := got["loss"]; c == nil || values(c.Series[0])[1] != 0.5 {
		t.Errorf("loss: %+v", c)
	}
	// A run's progress, also when it is longer than a chart is wide.
	dir := l.RunFolder("01RUN4")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&lines, "{\"step\":%d,\"of\":6000,\"loss\":%g}\n", i+1, 1/float64(i+1))
	}
	if err := os.WriteFile(filepath.Join(dir, "progress.jsonl"), []byte(lines.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	c := chartsAt(t, srv, "run/01RUN4")["loss"]
	if c == nil || len(c.X) > 2*maxPoints+1 || len(c.X) < maxPoints/2 || c.X[0] != 1 || c.X[len(c.X)-1] != 5000 {
		t.Fatalf("loss: %+v", c)
	}
	if _, body := readPage(t, srv, "/r/r/runs/01RUN4"); !strings.Contains(body, `value="83"`) || !strings.Contains(body, "step 5000 of 6000") {
		t.Errorf("the page's bar: %s", body)
	}
}

func TestAProjectOfThousandBlocksHasAPageThatCanBeRead(t *testing.T) {
	r, srv := young(t)
	var before resource.Address
	for n := range 250 {
		chain := []string{fmt.Sprintf("dataset.d%d", n), fmt.Sprintf("training.t%d", n), fmt.Sprintf("validation.v%d", n), fmt.Sprintf("deployment.s%d", n)}
		for i, name := range chain {
			b := Block{Addr: at(t, name)}
			if i > 0 {
				b.Deps = []resource.Address{before}
			}
			before = b.Addr
			r.blocks = append(r.blocks, b)
			row := engine.StatusRow{Address: name, Phase: resource.PhaseReady}
			if n == 249 {
				row.Phase = resource.PhaseFailed
			}
			r.status.Blocks = append(r.status.Blocks, row)
		}
	}
	code, body := readPage(t, srv, "/r/r")
	if code != 200 {
		t.Errorf("%d", code)
	}
	if n := strings.Count(body, `class="box `); n != 4 || !strings.Contains(body, "too many for a picture") || !strings.Contains(body, "×250") {
		t.Errorf("%d boxes", n)
	}
	if !strings.Contains(body, ">dataset.d249<") || strings.Contains(body, ">dataset.d248<") || !strings.Contains(body, "200 are shown") {
		t.Error("the table is not of those that need a look first")
	}
	if _, body = readPage(t, srv, "/r/r?q=d248"); !strings.Contains(body, ">dataset.d248<") || !strings.Contains(body, "1 of 1,000") {
		t.Error("the filter finds nothing")
	}
	// Instances of one block are one box.
	r.blocks = nil
	for n := range 100 {
		r.blocks = append(r.blocks, Block{Addr: at(t, fmt.Sprintf("training.t[%d]", n)), Deps: []resource.Address{at(t, "dataset.d")}})
	}
	r.blocks = append(r.blocks, Block{Addr: at(t, "dataset.d")})
	if _, body = readPage(t, srv, "/r/r"); strings.Count(body, `class="box `) != 2 || !strings.Contains(body, "t ×100") {
		t.Errorf("%d boxes", strings.Count(body, `class="box `))
	}
}

func TestALogLineIsFitToBeRead(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                                    "plain",
		"\x1b[31mred\x1b[0m and \x1b[1;4mbold":     "red and bold",
		"\x1b]0;a title\x07text":                   "text",
		"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": "link",
		"10 %\r50 %\r100 %":                        "100 %",
		"windows\r":                                "windows",
		"a\tb\x00\x07c":                            "a\tbc",
		"bad \xff\xfe":                             "bad \uFFFD",
		"turn \u202e round":                        "turn \uFFFD round",
		strings.Repeat("é", maxLogLine+1):          strings.Repeat("é", maxLogLine-1) + "…",
	} {
		if got := logLine([]byte(in)); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestALogWithoutEndIsBounded(t *testing.T) {
	var l logBuffer
	for n := range 5000 {
		fmt.Fprintf(&l, "line %d\n", n)
	}
	lines, dropped := l.take(false)
	if len(lines) != LogLines || lines[LogLines-1] != "line 4999" || dropped != 5000-LogLines {
		t.Errorf("%d lines, %d dropped, last %q", len(lines), dropped, lines[len(lines)-1])
	}
	for range 64 {
		if _, err := l.Write([]byte(strings.Repeat("x", 1<<20))); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.part) > maxLogBytes {
		t.Errorf("%d bytes are kept of a line", len(l.part))
	}
	if lines, _ = l.take(true); len(lines) != 1 || !strings.HasSuffix(lines[0], fmt.Sprintf("(%d bytes more)", 64<<20-maxLogBytes)) {
		t.Errorf("%.80q", lines)
	}
}

func TestVendoredAssetsAreThoseOfTheList(t *testing.T) {
	raw, err := web.ReadFile("web/vendor/assets.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ Package, Version, License, File, SHA256 string }
	if err := json.Unmarshal(raw, &list); err != nil || len(list) == 0 {
		t.Fatal(err, list)
	}
	listed := map[string]bool{"README.md": true, "assets.json": true}
	licensed := map[string]bool{}
	for _, a := range list {
		text, err := web.ReadFile("web/vendor/" + a.File)
		if err != nil {
			t.Error(err)
			continue
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != a.SHA256 {
			t.Errorf("%s is not that of %s %s", a.File, a.Package, a.Version)
		}
		listed[a.File] = true
		licensed[a.Package] = licensed[a.Package] || strings.HasSuffix(a.File, "LICENSE")
	}
	for name, ok := range licensed {
		if !ok {
			t.Errorf("%s has no licence beside it", name)
		}
	}
	files, err := web.ReadDir("web/vendor")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !listed[f.Name()] {
			t.Errorf("%s is not on the list", f.Name())
		}
	}
}
