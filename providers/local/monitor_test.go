package local

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// watchedSite is a deployment with a monitor over it.
type watchedSite struct {
	*site
	spec config.Monitor
	snap *state.Snapshot
	at   resource.Address
}

func newWatchedSite(t *testing.T) *watchedSite {
	t.Helper()
	w := &watchedSite{site: newSite(t), at: resource.Address{Kind: "monitor", Name: "tumors"}}
	var b strings.Builder
	b.WriteString("id,radius,y\n")
	for i := range 400 {
		fmt.Fprintf(&b, "%d,%g,%d\n", i, float64(i%20)/10-1, i%2)
	}
	w.Write(".ml/data/ref/train.csv", b.String())
	w.Write(".ml/data/l0/outcomes.csv", "prediction_id,diagnosis\n")
	data := func(name string) resource.Address { return resource.Address{Kind: "dataset", Name: name} }
	w.snap = &state.Snapshot{Records: map[resource.Address]*state.Record{
		data("tumors"):   {Spec: json.RawMessage(`{"target":"y","id":"id"}`)},
		data("outcomes"): {Spec: json.RawMessage(`{}`), Outputs: json.RawMessage(`{"digest":"l0","path":".ml/data/l0/outcomes.csv"}`)},
	}}
	w.spec = config.Monitor{
		Deployment: &config.DeploymentOutputs{Address: w.addr.String()}, MinSamples: 30,
		Reference: &config.Data{Address: "dataset.tumors", Name: "train", Digest: "sha256:ref", Path: ".ml/data/ref/train.csv"},
		Window:    &config.Window{Requests: 40}, Drift: &config.Drift{Share: 0.5, Confirm: 2},
		Performance: &config.Performance{
			Labels: &config.Data{Address: "dataset.outcomes", Digest: "l0", Path: ".ml/data/l0/outcomes.csv"},
			ID:     "prediction_id", Label: "diagnosis", MinSamples: 30, Confirm: 1, Metrics: []config.Bound{{Name: "accuracy", Min: new(0.9)}},
		},
	}
	return w
}

// serve deploys a version, and lets the monitor's state know of it.
func (w *watchedSite) serve(m *config.Model) config.DeploymentOutputs {
	w.T.Helper()
	res, out := w.mustDeploy(w.site.spec(m))
	raw, err := json.Marshal(res.Ref)
	if err != nil {
		w.T.Fatal(err)
	}
	w.snap.Records[w.addr] = &state.Record{Ref: raw, Provider: "local"}
	return out
}

// observe is what the monitor finds out, on top of what it found out before.
func (w *watchedSite) observe(before map[string]*state.Signal) map[string]*state.Signal {
	w.T.Helper()
	raw, err := state.EncodeValue(providertest.Encoded(w.T, w.spec))
	if err != nil {
		w.T.Fatal(err)
	}
	req := providers.ObserveRequest{Address: w.at, State: w.snap, Record: &state.Record{Spec: raw}}
	for _, s := range before {
		req.Signals = append(req.Signals, s)
	}
	o, ok := providers.As[providers.Observer](w.Drivers["monitor"])
	if !ok {
		w.T.Fatal("monitors do not observe")
	}
	found, err := o.Observe(w.T.Context(), req)
	if err != nil {
		w.T.Fatal(err)
	}
	out := map[string]*state.Signal{}
	for _, s := range found {
		out[s.Name] = s
	}
	return out
}

// send asks for n predictions and waits until they are captured; it returns their ids.
func (w *watchedSite) send(endpoint string, n int, shift float64) (ids []string) {
	w.T.Helper()
	dir := gateway.CaptureDir(w.dir())
	before := captured(dir)
	for i := range n {
		ids = append(ids, postRow(w.T, endpoint, fmt.Sprintf(`{"instances":[[%g]]}`, float64(i%20)/10-1+shift)))
	}
	poll(w.T, "the capture", func() bool { return captured(dir) == before+n })
	return ids
}

func captured(dir string) (n int) {
	for _, err := range capture.Records(dir, 1) {
		if err == nil {
			n++
		}
	}
	return n
}

func postRow(t *testing.T, endpoint, body string) string {
	t.Helper()
	resp, err := http.Post(endpoint+"/v1/models/tumors:predict", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if data, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s, %v", resp.StatusCode, data, err)
	}
	return resp.Header.Get("ML-Prediction-Id")
}

func TestAMonitorOfARealDeployment(t *testing.T) {
	t.Parallel()
	w := newWatchedSite(t)
	wants := func(got map[string]*state.Signal, drift, performance resource.SignalState) map[string]*state.Signal {
		t.Helper()
		if got["drift"].State != drift || got["performance"].State != performance {
			t.Fatalf("drift %s (%s), performance %s (%s); want %s and %s", got["drift"].State, got["drift"].Message,
				got["performance"].State, got["performance"].Message, drift, performance)
		}
		return got
	}
	out := w.serve(w.model(1, "first"))
	now := wants(w.observe(nil), resource.SignalTooFew, resource.SignalTooFew)
	ids := w.send(out.Endpoint, 40, 0)
	now = wants(w.observe(now), resource.SignalGood, resource.SignalTooFew)
	w.send(out.Endpoint, 40, 5)
	now = wants(w.observe(now), resource.SignalGood, resource.SignalTooFew)
	w.send(out.Endpoint, 40, 5)
	now = wants(w.observe(now), resource.SignalBad, resource.SignalTooFew)
	if now["drift"].Epoch != 1 {
		t.Errorf("epoch %d", now["drift"].Epoch)
	}
	// Labels come late, for the first window: half of them say that the model was wrong.
	labels := "prediction_id,diagnosis\n"
	for i, id := range ids {
		labels += fmt.Sprintf("%s,%d\n", id, i%2)
	}
	w.Write(".ml/data/l1/outcomes.csv", labels)
	w.snap.Records[resource.Address{Kind: "dataset", Name: "outcomes"}].Outputs = json.RawMessage(`{"digest":"l1","path":".ml/data/l1/outcomes.csv"}`)
	now = wants(w.observe(now), resource.SignalBad, resource.SignalBad)
	w.serve(w.model(2, "first"))
	wants(w.observe(now), resource.SignalTooFew, resource.SignalTooFew)
}

func TestAMonitorOfADeploymentThatIsNotHere(t *testing.T) {
	t.Parallel()
	w := newWatchedSite(t)
	apply := func() error {
		_, err := w.Drivers["monitor"].Apply(providertest.Within(t), providers.ApplyRequest{
			Address: w.at, State: w.snap, Spec: providertest.Encoded(t, w.spec), Emit: func(resource.Event) {},
		})
		return err
	}
	providertest.WantError(t, apply(), "deployment.tumors has no gateway on this machine; apply it first")
	w.snap.Records[w.addr] = &state.Record{Provider: "kubernetes.eu"}
	providertest.WantError(t, apply(), `give this monitor provider = "kubernetes.eu" too`)
}
