package pods

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/continuo-ml/continuo/internal/kube"
)

// conducting is an API server with an Experiment and one pod of it. Katib's controller makes another pod for each that goes for as long as
// the Experiment is there, deleted or not, so that waiting for pods before it goes would never end.
type conducting struct {
	gone    bool
	looks   int // at the pods after the Experiment went
	deleted metav1.DeletionPropagation
}

func (s *conducting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/apis/kubeflow.org/v1beta1":
		fmt.Fprint(w, `{"kind":"APIResourceList","resources":[{"name":"experiments","kind":"Experiment","namespaced":true}]}`)
	case "/api/v1":
		fmt.Fprint(w, `{"kind":"APIResourceList","resources":[{"name":"pods","kind":"Pod","namespaced":true}]}`)
	case "/api/v1/namespaces/ns/pods":
		if s.gone {
			s.looks++
		}
		pod := `{"metadata":{"name":"e-a","namespace":"ns","uid":"p"}}`
		if s.looks > 2 {
			pod = ""
		}
		fmt.Fprintf(w, `{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[%s]}`, pod)
	default:
		if r.Method == http.MethodDelete {
			var o metav1.DeleteOptions
			if err := json.NewDecoder(r.Body).Decode(&o); err == nil && o.PropagationPolicy != nil {
				s.deleted = *o.PropagationPolicy
			}
			s.gone = true
			fmt.Fprint(w, `{"kind":"Status","status":"Success"}`)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"kind":"Status","status":"Failure","reason":"NotFound","code":404,"details":{"name":"e","kind":"experiments"}}`)
	}
}

func TestASearchGoesBeforeItsCandidatesAndIsOverWhenTheyAreGone(t *testing.T) {
	s := &conducting{}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	k := known{placed: placed{Search: true, Job: kube.Ref{Group: "kubeflow.org", Version: "v1beta1", Kind: "Experiment", Namespace: "ns", Name: "e"}}, created: created{UID: "u"}}
	if err := (&executor{Env: &Env{}}).remove(t.Context(), clientOf(t, srv.URL, -1), k, k.job(), deleteWithin); err != nil {
		t.Fatal(err)
	}
	if s.deleted != metav1.DeletePropagationBackground {
		t.Errorf("it was deleted with %q: Katib makes candidates until it is gone", s.deleted)
	}
	if s.looks != 3 {
		t.Errorf("it was over after %d looks at the pods, the third of which found none", s.looks)
	}
}
