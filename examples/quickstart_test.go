//go:build examples

package examples_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// traffic asks the endpoint for predictions, or labels rows, and fails the test if a request failed.
func (p *project) traffic(args ...string) string {
	p.Helper()
	out, err := p.command(p.Context(), "python3", append([]string{trafficScript(p.T)}, args...)...)
	if err != nil {
		p.Fatalf("traffic %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func trafficScript(t *testing.T) string {
	t.Helper()
	file, err := filepath.Abs("traffic.py")
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// stream sends requests until the function that it returns is called, which
// gives back what was sent and answered.
func (p *project) stream(args ...string) func() string {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), limit)
	cmd := exec.CommandContext(ctx, "python3", append([]string{trafficScript(p.T), "send"}, args...)...)
	cmd.Dir = p.dir
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		cancel()
		p.Fatal(err)
	}
	p.Cleanup(cancel) // also ends it when the test fails meanwhile
	return func() string {
		p.Helper()
		defer cancel()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			p.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			p.Fatalf("a request failed meanwhile: %v\n%s", err, out.String())
		}
		return out.String()
	}
}

// expectPlan compares actions and what causes each, not the reasons' codes.
func (p *project) expectPlan(want map[string]string) {
	p.Helper()
	got := p.plan()
	for address, step := range got {
		action, rest, _ := strings.Cut(step, " ")
		_, by, _ := strings.Cut(rest, "<")
		got[address] = action + " <" + by
	}
	if diff := cmp.Diff(want, got); diff != "" {
		p.Fatalf("plan (-want +got):\n%s", diff)
	}
}

func (p *project) expectServing(version int) {
	p.Helper()
	if d := p.status("deployment.tumors"); d.Version != version || d.Phase != "ready" {
		p.Fatalf("deployment.tumors: version %d %s, want version %d ready", d.Version, d.Phase, version)
	}
}

func TestQuickstartFromFirstPlanToRetrainingAndBack(t *testing.T) {
	p := open(t, "quickstart")
	p.ml(2, "plan", "-detailed-exitcode")
	p.ml(0, "apply", "-auto-approve")
	p.ml(0, "plan", "-detailed-exitcode")
	p.expectServing(1)
	endpoint := p.status("deployment.tumors").Endpoint

	p.traffic("send", endpoint, "data/wdbc.csv", "-n", "100")
	p.ml(0, "monitor", "monitor.tumors")
	if got := p.status("monitor.tumors").Signal["drift"]; got != "good" {
		t.Fatalf("drift under usual traffic: %s, want good", got)
	}
	p.traffic("send", endpoint, "data/wdbc.csv", "-n", "150", "--scale", "1.3", "--seed", "2")
	p.ml(0, "monitor", "monitor.tumors")
	if got := p.status("monitor.tumors").Signal["drift"]; got != "bad" {
		t.Fatalf("drift with the new scanner: %s, want bad", got)
	}
	if alerts := p.read(".ml/alerts.log"); strings.Count(alerts, "\n") != 1 || !strings.Contains(alerts, "drift") {
		t.Fatalf("want one alert of drift, got:\n%s", alerts)
	}
	p.expectPlan(map[string]string{
		"training.tumors":   "run <monitor.tumors.drift",
		"validation.tumors": "run <training.tumors",
		"deployment.tumors": "update <validation.tumors",
	})
	if got := p.plan()["training.tumors"]; got != "run signal<monitor.tumors.drift" {
		t.Fatalf("training.tumors: %q, want a run because of the signal", got)
	}

	p.retrain(endpoint)
	p.refuse()
	p.rollback()

	p.ml(0, "destroy", "-auto-approve")
	if out := p.ml(0, "status"); !strings.Contains(out, "Nothing is applied") {
		t.Errorf("status after destroy:\n%s", out)
	}
	client := &http.Client{Timeout: 5 * time.Second}
	if resp, err := client.Get(endpoint); err == nil {
		t.Errorf("the endpoint still answers after destroy: %v", errors.Join(errors.New(resp.Status), resp.Body.Close()))
	} else if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the endpoint after destroy: %v, want connection refused", err)
	}
}

// retrain: the new scanner's first diagnoses arrive; what follows is planned,
// approved and applied while requests go on.
func (p *project) retrain(endpoint string) {
	p.Helper()
	p.traffic("label", "data/wdbc.csv", "data/wdbc-2.csv", "-n", "400", "--scale", "1.3", "--seed", "3")
	p.ml(2, "plan", "-out", "next.plan", "-detailed-exitcode")
	if got := p.plan()["training.tumors"]; !strings.Contains(got, "data_changed<dataset.tumors") || !strings.Contains(got, "signal<monitor.tumors.drift") {
		p.Fatalf("reasons of training.tumors: %q, want data_changed and signal", got)
	}

	// Data that arrives after the review is not what was approved.
	whole := p.read("data/wdbc-2.csv")
	lines := strings.SplitAfterN(whole, "\n", 3)
	if err := os.WriteFile(filepath.Join(p.dir, "data/wdbc-2.csv"), []byte(whole+lines[1]), 0o644); err != nil {
		p.Fatal(err)
	}
	if out := p.ml(1, "apply", "next.plan"); !strings.Contains(out, "stale") || !strings.Contains(out, "dataset.tumors") {
		p.Fatalf("a stale plan is refused without naming what moved:\n%s", out)
	}
	p.expectServing(1)

	p.ml(2, "plan", "-out", "next.plan", "-detailed-exitcode")
	stop := p.stream(endpoint, "data/wdbc.csv", "--scale", "1.3", "--share", "0.4", "--seed", "4")
	p.ml(0, "apply", "next.plan")
	sent := stop()
	for _, v := range []string{"by version 1", "by version 2"} {
		if !strings.Contains(sent, v) {
			p.Errorf("no request was answered %s during the canary: %s", v, sent)
		}
	}
	p.expectServing(2)
	// The new reference knows both scanners.
	p.traffic("send", endpoint, "data/wdbc.csv", "-n", "150", "--scale", "1.3", "--share", "0.4", "--seed", "5")
	p.ml(0, "monitor", "monitor.tumors")
	if got := p.status("monitor.tumors").Signal["drift"]; got != "good" {
		p.Fatalf("drift under version 2: %s, want good", got)
	}
	vs := p.versions("training.tumors")
	if len(vs) != 2 || !vs[1].Passed || !vs[1].Current || vs[0].Digest == vs[1].Digest {
		p.Fatalf("versions after retraining: %+v", vs)
	}
}

// refuse: a change that makes a bad model stops at the gate, and what serves goes on.
func (p *project) refuse() {
	p.Helper()
	const good, bad = "learning_rate = 0.3", "learning_rate = 0"
	p.replace("tumors.ml.hcl", "{ epochs = 200, "+good, "{ epochs = 200, "+bad)
	if got := p.plan()["training.tumors"]; got != "run params_changed" {
		p.Fatalf("training.tumors with other parameters: %q", got)
	}
	if out := p.ml(3, "apply", "-auto-approve"); !strings.Contains(out, "recall") {
		p.Fatalf("apply does not say which threshold was missed:\n%s", out)
	}
	p.expectServing(2)
	if vs := p.versions("training.tumors"); len(vs) != 3 || vs[2].Passed {
		p.Fatalf("versions after a failed gate: %+v", vs)
	}
	for address, step := range p.plan() {
		if strings.HasPrefix(step, "run") {
			p.Errorf("%s is planned again with nothing moved: %s", address, step)
		}
	}
	p.replace("tumors.ml.hcl", "{ epochs = 200, "+bad, "{ epochs = 200, "+good)
	p.ml(0, "apply", "-auto-approve")
	p.expectServing(2)
	if vs := p.versions("training.tumors"); len(vs) != 3 || !vs[1].Current {
		p.Fatalf("going back to the old parameters must make version 2 current without training: %+v", vs)
	}
}

func (p *project) rollback() {
	p.Helper()
	p.ml(0, "rollback", "deployment.tumors", "-to", "1", "-why", "a test")
	p.expectServing(1)
	if got := p.plan()["deployment.tumors"]; got != "noop pinned" {
		p.Fatalf("deployment.tumors after rollback: %q, want noop pinned", got)
	}
	p.ml(0, "apply", "-auto-approve")
	p.expectServing(1)
	p.ml(1, "rollback", "deployment.tumors", "-to", "3") // never passed
	p.expectServing(1)
	p.ml(0, "unpin", "deployment.tumors")
	if got := p.plan()["deployment.tumors"]; !strings.HasPrefix(got, "update") {
		p.Fatalf("deployment.tumors after unpin: %q, want an update", got)
	}
}

func TestStarterAppliesAsItIs(t *testing.T) {
	p := open(t, "")
	p.ml(0, "init")
	p.ml(0, "init")
	p.ml(0, "apply", "-auto-approve")
	p.ml(0, "plan", "-detailed-exitcode")
	if d := p.status("deployment.seeds"); d.Version != 1 || !strings.HasPrefix(d.Endpoint, "http://127.0.0.1:") {
		t.Errorf("deployment.seeds: %+v", d)
	}
	if !strings.Contains(p.read(".gitignore"), ".ml/") {
		t.Error(".ml/ is not ignored")
	}
}
