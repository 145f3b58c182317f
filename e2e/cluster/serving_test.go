//go:build linux

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/api"
)

// A controller that has just started answers 404 for a webhook that it is about to register.
func TestTheCheckOfWebhooksWaitsForThoseOfAControllerThatHasJustStarted(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kinds := map[string]string{
			"/apis/trainer.kubeflow.org/v1alpha1": `{"name":"clustertrainingruntimes","kind":"ClusterTrainingRuntime"},{"name":"trainjobs","kind":"TrainJob","namespaced":true}`,
			"/apis/serving.kserve.io/v1beta1":     `{"name":"inferenceservices","kind":"InferenceService","namespaced":true}`,
			"/apis/jobset.x-k8s.io/v1alpha2":      `{"name":"jobsets","kind":"JobSet","namespaced":true}`,
		}
		refuse := func(message string) {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, `{"kind":"Status","reason":"InternalError","message":%q,"code":500}`, message)
		}
		switch list, ok := kinds[r.URL.Path]; {
		case ok:
			fmt.Fprintf(w, `{"resources":[%s]}`, list)
		case strings.HasSuffix(r.URL.Path, "/clustertrainingruntimes"):
			fmt.Fprint(w, `{}`)
		case strings.HasSuffix(r.URL.Path, "/jobsets") && asked < 2:
			asked++
			refuse(`failed calling webhook "mjobset.kb.io": the server could not find the requested resource`)
		default:
			refuse(`admission webhook "x" denied the request`)
		}
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(`{"current-context":"c","contexts":[{"name":"c","context":{"cluster":"k","user":"u"}}],"clusters":[{"name":"k","cluster":{"server":%q}}]}`, s.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := api.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := webhooksAnswer(t.Context(), &workspace{Client: client}); err != nil || asked != 2 {
		t.Errorf("after %d answers of JobSet that it knows no webhook: %v", asked, err)
	}
}
