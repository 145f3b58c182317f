//go:build e2e

package scenarios

import (
	"strings"
	"testing"
)

// TestA is the quickstart with where = "kubernetes": it trains in pods, pushes an image, serves it behind a Service, retrains on
// new data, rolls out by canary, goes back, and leaves nothing.
func TestA(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "quickstart", "kubernetes")
	w.exits(2, "plan", "-detailed-exitcode")
	w.ml("apply", "-auto-approve")
	w.serves(1)
	w.unchanged()
	for _, image := range w.cluster.images(t, w.namespace) {
		if !strings.Contains(image, "@sha256:") {
			t.Errorf("a pod runs %s, which is no digest", image)
		}
	}
	url := w.endpoint()
	if out := w.traffic("send", url, "data/wdbc.csv", "-n", "60"); !strings.Contains(out, "60 by version 1") {
		t.Fatalf("traffic: %s", out)
	}
	w.ml("monitor", "monitor.tumors")
	if s := w.status("monitor.tumors").Signal["drift"]; s != "good" {
		t.Fatalf("the drift signal is %s", s)
	}
	w.traffic("send", url, "data/wdbc.csv", "-n", "150", "--scale", "1.3", "--seed", "2")
	w.ml("monitor", "monitor.tumors")
	if s := w.status("monitor.tumors").Signal["drift"]; s != "bad" {
		t.Fatalf("the drift signal is %s", s)
	}

	w.traffic("label", "data/wdbc.csv", "data/wdbc-2.csv", "-n", "400", "--scale", "1.3", "--seed", "3")
	plan := w.plan()
	if why := plan["training.tumors"]; why != "run data_changed signal" {
		t.Errorf("the training is planned as %q", why)
	}
	stop := w.stream(url, "data/wdbc.csv", "--scale", "1.3", "--share", "0.4", "--seed", "4")
	w.ml("apply", "-auto-approve")
	answered := stop()
	for _, v := range []string{"by version 1", "by version 2"} {
		if !strings.Contains(answered, v) {
			t.Errorf("no request was answered %s: %s", v, answered)
		}
	}
	w.serves(2)
	w.unchanged()
	if w.endpoint() != url {
		t.Errorf("the endpoint moved from %s to %s", url, w.endpoint())
	}

	w.ml("rollback", "deployment.tumors", "-why", "the doctors want to compare")
	w.serves(1)
	if out := w.traffic("send", url, "data/wdbc.csv", "-n", "10"); !strings.Contains(out, "10 by version 1") {
		t.Errorf("after the rollback: %s", out)
	}
	if why := w.plan()["deployment.tumors"]; why != "noop pinned" {
		t.Errorf("the deployment is planned as %q", why)
	}
	w.ml("destroy", "-auto-approve")
	w.gone()
}
