package standin

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// ingress is one as Knative writes it, with 30 percent for the newest revision.
func ingress(percent int64) *unstructured.Unstructured {
	to := func(revision string, percent int64) any {
		return map[string]any{
			"serviceName": revision, "serviceNamespace": "team", "servicePort": int64(80), "percent": percent,
			"appendHeaders": map[string]any{"Knative-Serving-Revision": revision},
		}
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"namespace": "team", "name": "web"},
		"spec": map[string]any{"rules": []any{map[string]any{
			"hosts": []any{"web.team", "web.team.svc.cluster.local"},
			"http": map[string]any{"paths": []any{
				map[string]any{"splits": []any{to("web-00001", 100-percent), to("web-00002", percent)}},
				map[string]any{"headers": map[string]any{"Knative-Serving-Tag": map[string]any{"exact": "latest"}},
					"splits": []any{map[string]any{"serviceName": "web-00002", "serviceNamespace": "team", "servicePort": int64(80)}}},
			}},
		}}},
	}}
}

// fronted leads to servers that say their name and the revision that they were called.
func fronted(t *testing.T, percent int64) *front {
	t.Helper()
	table := routes{}
	err := table.add(ingress(percent), func(namespace, name string, port intstr.IntOrString) (string, error) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, "%s called %q at %s", name, r.Header.Get("Knative-Serving-Revision"), r.Host)
		}))
		t.Cleanup(server.Close)
		if namespace != "team" || port.IntValue() != 80 {
			return "", fmt.Errorf("asked for %s/%s:%s", namespace, name, port.String())
		}
		return strings.TrimPrefix(server.URL, "http://"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f := newFront()
	f.routes.Store(&table)
	return f
}

func ask(f *front, host string, header map[string]string) (int, string) {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v1/models/web", nil)
	r.Host = host
	for k, v := range header {
		r.Header.Set(k, v)
	}
	f.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

func TestEveryHundredRequestsAreDividedByThePercentages(t *testing.T) {
	for _, percent := range []int64{0, 10, 30, 100} {
		f := fronted(t, percent)
		next := -1
		f.draw = func() int { next++; return next % 100 }
		got := map[string]int{}
		for range 100 {
			status, answer := ask(f, "web.team.svc.cluster.local:80", nil)
			if status != http.StatusOK {
				t.Fatalf("%d %s", status, answer)
			}
			got[answer]++
		}
		for name, want := range map[string]int{"web-00001": 100 - int(percent), "web-00002": int(percent)} {
			if n := got[name+` called "`+name+`" at web.team.svc.cluster.local:80`]; n != want {
				t.Errorf("at %d %%, %s answered %d of 100: %v", percent, name, n, got)
			}
		}
	}
}

func TestAHeaderChoosesAPathOfItsOwn(t *testing.T) {
	f := fronted(t, 0)
	if _, answer := ask(f, "web.team", map[string]string{"Knative-Serving-Tag": "latest"}); !strings.HasPrefix(answer, "web-00002 ") {
		t.Error(answer)
	}
	if _, answer := ask(f, "web.team", map[string]string{"Knative-Serving-Tag": "other"}); !strings.HasPrefix(answer, "web-00001 ") {
		t.Error(answer)
	}
}

func TestAHostThatNoIngressHasIsNotFound(t *testing.T) {
	if status, answer := ask(fronted(t, 0), "other.team", nil); status != http.StatusNotFound || !strings.Contains(answer, "other.team") {
		t.Errorf("%d %s", status, answer)
	}
}

func TestAnIngressIsNotFollowedInParts(t *testing.T) {
	some := func(string, string, intstr.IntOrString) (string, error) { return "127.0.0.1:1", nil }
	u := ingress(30)
	rules := u.Object["spec"].(map[string]any)["rules"].([]any)
	first := rules[0].(map[string]any)["http"].(map[string]any)["paths"].([]any)[0].(map[string]any)["splits"].([]any)[0].(map[string]any)
	first["percent"] = int64(60)
	if err := (routes{}).add(u, some); err == nil || !strings.Contains(err.Error(), "add up to 90") {
		t.Errorf("error %v", err)
	}
	none := func(string, string, intstr.IntOrString) (string, error) { return "", fmt.Errorf("no address") }
	if err := (routes{}).add(ingress(30), none); err == nil {
		t.Error("a service without an address is followed")
	}
}
