package pods

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
)

// asleep is an API server with at most one Job, that of a run.
type asleep struct {
	run     string // "" has none
	deleted int
}

func (s *asleep) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.URL.Path == "/apis/batch/v1":
		fmt.Fprint(w, `{"kind":"APIResourceList","resources":[{"name":"jobs","kind":"Job","namespaced":true}]}`)
	case s.run == "":
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","status":"Failure","reason":"NotFound","code":404,"details":{"name":"j","kind":"jobs"}}`)
	case r.Method == http.MethodDelete:
		s.run = ""
		s.deleted++
		fmt.Fprint(w, `{"kind":"Status","status":"Success"}`)
	default:
		fmt.Fprintf(w, `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j","namespace":"ns","uid":"u","labels":{%q:%q}},"spec":{"suspend":true}}`, LabelRun, s.run)
	}
}

func TestWhatCouldNotBeginIsTakenAwayOrStaysOpen(t *testing.T) {
	final := errors.New("exceeded quota")
	passing := &kube.Retryable{Err: errors.New("the API server answers 503")}
	for name, c := range map[string]struct {
		run     string
		cause   error
		deleted int
		open    bool // the next apply goes on with it
		over    bool // it never will begin
	}{
		"refused for good":                    {"op", final, 1, false, true},
		"nothing was made":                    {"", final, 0, false, true},
		"another run's is left alone":         {"other", final, 0, false, true},
		"the server is away":                  {"op", passing, 0, true, false},
		"the server is away before anything":  {"", passing, 0, true, false},
		"an admission is out of order":        {"", fmt.Errorf("%w: %w", errRefused, passing), 0, false, true},
		"an admission came after it was made": {"op", fmt.Errorf("%w: %w", errRefused, passing), 0, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := &asleep{run: c.run}
			srv := httptest.NewServer(s)
			t.Cleanup(srv.Close)
			client := clientOf(t, srv.URL, -1)
			f, k := folder(t.TempDir()), theJob()
			k.placed.Run, k.isPlaced = "op", true
			err := (&executor{Env: &Env{}}).abandon(t.Context(), client, f, k, c.cause)
			var open *providers.OpenError
			if !errors.Is(err, c.cause) || errors.As(err, &open) != c.open {
				t.Errorf("%T: %v", err, err)
			}
			if s.deleted != c.deleted {
				t.Errorf("%d were deleted, want %d", s.deleted, c.deleted)
			}
			now, err := f.known()
			if err != nil || now.isOver != c.over || c.over && (!now.outcome.Status.NotBegun || !strings.Contains(now.outcome.Status.Message, "it could not begin")) {
				t.Errorf("%+v, %v", now.outcome, err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := folder(t.TempDir())
	if err := (&executor{Env: &Env{}}).abandon(ctx, nil, f, theJob(), final); !errors.Is(err, final) {
		t.Error(err)
	}
	if now, err := f.known(); err != nil || now.isOver {
		t.Errorf("an interrupted start is over: %+v, %v", now, err)
	}
}

// An admission that looks into its cache refuses what refers to an object that was made a moment ago.
func TestAnAdmissionThatHasNotSeenTheRuntimeYetIsAskedAgain(t *testing.T) {
	for _, c := range []struct {
		says  string
		tries int
		made  bool
	}{
		{`denied the request: TrainingRuntime \"r\" not found: must be created before`, 3, true},
		{`denied the request: numNodes is too large`, 1, false},
	} {
		tries := 0
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if tries++; tries < 3 {
				w.WriteHeader(http.StatusForbidden)
				fmt.Fprintf(w, `{"kind":"Status","status":"Failure","reason":"Forbidden","code":403,"message":"admission webhook \"v\" %s"}`, c.says)
				return
			}
			fmt.Fprint(w, `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j","namespace":"ns","uid":"u"}}`)
		}))
		t.Cleanup(srv.Close)
		client := clientOf(t, srv.URL, -1)
		job := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "batch/v1", "kind": "Job", "metadata": map[string]any{"name": "j", "namespace": "ns"}}}
		runtime := &unstructured.Unstructured{}
		runtime.SetName("r")
		ref, err := applyAfter(t.Context(), client, job, []*unstructured.Unstructured{runtime})
		if (err == nil) != c.made || tries != c.tries || c.made && ref.UID != "u" {
			t.Errorf("%d tries, %v, %v", tries, ref, err)
		}
	}
}
