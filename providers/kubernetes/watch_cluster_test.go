//go:build e2e

package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers/providertest"
)

// counted is a way to the API server that counts requests, and lets nobody watch unless told is set.
func (p *place) counted(told bool) (kubeconfig string, requests func() int64) {
	var n atomic.Int64
	return p.through(func(w http.ResponseWriter, r *http.Request, proxy http.Handler) {
		n.Add(1)
		if r.URL.Query().Has("watch") && !told {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"this is forbidden: User \"u\" cannot watch resource"}`)
			return
		}
		proxy.ServeHTTP(w, r)
	}), n.Load
}

// TestOnAClusterAWaitIsWokenAndAsksSeldom runs the same command twice, for twenty seconds: where watching is allowed, and where it is not.
func TestOnAClusterAWaitIsWokenAndAsksSeldom(t *testing.T) {
	p := onCluster(t)
	cost := map[bool]float64{} // requests a second
	for i, told := range []bool{true, false} {
		kubeconfig, requests := p.counted(told)
		dir, s := p.stage(fmt.Sprintf("op-%d", i), "sleep 20; "+providertest.WritesModel)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		e := p.executor(kubeconfig)
		if err := e.Start(ctx, dir, s); err != nil {
			t.Fatal(err)
		}
		before, began := requests(), time.Now()
		st, err := e.Wait(ctx, dir, nil)
		if err != nil || st.Phase != runner.Succeeded {
			t.Fatalf("%+v, %v", st, err)
		}
		n, took := requests()-before, time.Since(began)
		cost[told] = float64(n) / took.Seconds()
		t.Logf("told %v: %d requests in %s", told, n, took.Round(100*time.Millisecond))
	}
	if cost[true]*4/3 > cost[false] { // half as many on a quiet machine; as many without the watch
		t.Errorf("a wait that is told asks %.1f times a second, and one that is not %.1f times", cost[true], cost[false])
	}
	p.nothingLeft()
}

// TestOnAClusterAnObjectThatIsWaitedForIsSeenAtOnce does so for a Deployment that takes twenty seconds to get ready.
func TestOnAClusterAnObjectThatIsWaitedForIsSeenAtOnce(t *testing.T) {
	p := inNamespace(t)
	const slow = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"slow%d"},"spec":{"selector":{"matchLabels":{"app":"slow%d"}},"template":{"metadata":{"labels":{"app":"slow%d"}},
		"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"main","image":%q,"command":["sleep","1000"],"readinessProbe":{"exec":{"command":["true"]},"initialDelaySeconds":20,"periodSeconds":1}}]}}}}`
	cost := map[bool]float64{} // requests a second
	for i, told := range []bool{true, false} {
		kubeconfig, requests := p.counted(told)
		c, err := kube.Connect(t.Context(), kube.Config{Kubeconfig: kubeconfig, Namespace: p.namespace})
		if err != nil {
			t.Fatal(err)
		}
		made, err := c.Apply(t.Context(), objectOf(t, fmt.Sprintf(slow, i, i, i, p.settings.Image)), kube.ApplyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		before, began := requests(), time.Now()
		if err := c.Wait(t.Context(), []kube.Ref{made.Ref}, 2*time.Minute, nil); err != nil {
			t.Fatal(err)
		}
		n, took := requests()-before, time.Since(began)
		cost[told] = float64(n) / took.Seconds()
		t.Logf("told %v: %d requests in %s", told, n, took.Round(100*time.Millisecond))
	}
	if cost[true]*4/3 > cost[false] { // half as many on a quiet machine; as many without the watch
		t.Errorf("a wait that is told asks %.1f times a second, and one that is not %.1f times", cost[true], cost[false])
	}
}

func objectOf(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return u
}
