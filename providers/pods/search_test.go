package pods

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers/runs"
)

// conductor is a service whose search is as far as a test says.
type conductor struct {
	Searching
	got Searched
}

func (c conductor) Read(context.Context, *kube.Client, *unstructured.Unstructured) (Searched, error) {
	return c.got, nil
}

// experiment is an API server with one object of a search, and a pod.
func experiment(t *testing.T, status, pod string) *kube.Client {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch path := r.URL.Path; {
		case path == "/api/v1":
			fmt.Fprint(w, `{"kind":"APIResourceList","resources":[{"name":"pods","kind":"Pod","namespaced":true},{"name":"events","kind":"Event","namespaced":true}]}`)
		case path == "/apis/kubeflow.org/v1beta1":
			fmt.Fprint(w, `{"kind":"APIResourceList","resources":[{"name":"experiments","kind":"Experiment","namespaced":true}]}`)
		case strings.HasSuffix(path, "/pods"):
			fmt.Fprintf(w, `{"kind":"PodList","items":[%s]}`, pod)
		case strings.HasSuffix(path, "/events"):
			fmt.Fprint(w, `{"kind":"EventList","items":[]}`)
		case status == "":
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"kind":"Status","status":"Failure","reason":"NotFound","code":404,"details":{"name":"e","kind":"experiments"}}`)
		default:
			fmt.Fprintf(w, `{"apiVersion":"kubeflow.org/v1beta1","kind":"Experiment","metadata":{"name":"e","namespace":"ns","uid":"u"},"status":%s}`, status)
		}
	}))
	t.Cleanup(srv.Close)
	return clientOf(t, srv.URL, -1)
}

func TestHowASearchEnds(t *testing.T) {
	value := 0.5
	good := runs.Candidate{Name: "t1", Value: &value}
	bad := runs.Candidate{Name: "t2", Reason: "Failed: trial has failed"}
	const over = `{"conditions":[{"type":"Succeeded","status":"True"}]}`
	const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"ns","labels":{"batch.kubernetes.io/job-name":"%s"}},"status":{"containerStatuses":[{"name":"main","state":{"terminated":{"exitCode":%d,"message":%q}}}]}}`
	for name, c := range map[string]struct {
		status, pod string
		got         Searched
		cancelled   bool
		phase       runner.Phase
		says        string
		notBegun    bool
	}{
		"with a best trial":       {status: over, got: Searched{Ended: []runs.Candidate{bad, good}, Best: 1}, phase: runner.Succeeded},
		"without the metric":      {status: over, got: Searched{Ended: []runs.Candidate{bad}, Best: -1}, phase: runner.Failed, says: `the search has ended, and no trial has the metric "loss"; trial t2: Failed: trial has failed`},
		"badly":                   {status: `{"conditions":[{"type":"Failed","status":"True","message":"too many"}]}`, got: Searched{Best: -1}, phase: runner.Failed, says: "too many"},
		"badly, and a pod knows":  {status: `{"conditions":[{"type":"Failed","status":"True","message":"too many"}]}`, pod: fmt.Sprintf(pod, "t2", 10, `{"v":1,"phase":"failed","exit_code":3,"message":"exit code 3"}`), got: Searched{Ended: []runs.Candidate{bad}, Best: -1}, phase: runner.Failed, says: "too many; trial t2: exit code 3"},
		"deleted by somebody":     {got: Searched{Best: -1}, phase: runner.Lost, says: "somebody deleted it"},
		"cancelled":               {got: Searched{Best: -1}, cancelled: true, phase: runner.Cancelled},
		"a metric never arrives":  {status: `{}`, pod: fmt.Sprintf(pod, "t3", 0, ""), got: Searched{Open: []string{"t3"}, Best: -1, Unmeasured: func(p corev1.Pod) string { return "look at " + p.Name }}, phase: runner.Failed, says: "its metric has not arrived: look at p"},
		"nobody conducts it":      {status: `{}`, pod: fmt.Sprintf(pod, "t2", 10, ""), got: Searched{Ended: []runs.Candidate{bad}, Best: -1}, phase: runner.Failed, says: "no trial has run for 1ms, and the search is not over"},
		"nobody ever looks at it": {status: `{}`, got: Searched{Best: -1}, phase: runner.Failed, says: "no trial has run for 1ms", notBegun: true},
	} {
		t.Run(name, func(t *testing.T) {
			client, f := experiment(t, c.status, c.pod), folder(t.TempDir())
			within := time.Millisecond
			if c.got.Unmeasured != nil {
				within = time.Minute // its own patience, which is none, ends first
			}
			if c.cancelled {
				if err := f.note(cancelFile, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			k := known{placed: placed{Job: kube.Ref{Group: "kubeflow.org", Version: "v1beta1", Kind: "Experiment", Namespace: "ns", Name: "e"}, Run: "op", Start: within}, created: created{UID: "u"}}
			s := &searching{
				executor: &executor{Env: &Env{Kind: oneJob{}}}, client: client, folder: f, k: k, service: conductor{got: c.got},
				search: runs.Search{Tuning: config.Tuning{Metric: "loss"}}, ended: map[string]time.Time{}, starting: starting{client: client, container: "main", within: within},
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				o, over, err := s.look(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if over {
					if o.Status.Phase != c.phase || !strings.Contains(o.Status.Message, c.says) || o.Status.NotBegun != c.notBegun {
						t.Errorf("%+v, want it to say %q", o.Status, c.says)
					}
					if (o.Found != nil) != (c.phase == runner.Succeeded) || o.Found != nil && o.Found.All[o.Found.Best].Name != "t1" {
						t.Errorf("found %+v", o.Found)
					}
					return
				}
				<-tick.C
			}
		})
	}
}
