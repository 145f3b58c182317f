package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdPipelines starts what answers as the API of Kubeflow Pipelines does, and whose runs end well at once; its address is in
// KF_PIPELINES_ENDPOINT from then on. It keeps no experiments: each is made anew.
func cmdPipelines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: pipelines")
	}
	var mu sync.Mutex
	var runs []map[string]any
	ended := map[string]any{"task_details": []any{map[string]any{"display_name": "load", "state": "SUCCEEDED"}, map[string]any{"display_name": "fit", "state": "SUCCEEDED"}}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var in map[string]any
		if r.Method == http.MethodPost {
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
		}
		var out any = map[string]any{}
		path := strings.TrimPrefix(r.URL.Path, "/apis/v2beta1/")
		switch {
		case path == "experiments" && in != nil:
			out = map[string]any{"experiment_id": "e1"}
		case path == "runs" && in != nil:
			in["run_id"], in["state"], in["run_details"] = fmt.Sprintf("run-%d", len(runs)+1), "SUCCEEDED", ended
			runs = append(runs, in)
			out = in
		case strings.HasPrefix(path, "runs/"):
			for _, run := range runs {
				if "runs/"+run["run_id"].(string) == path {
					out = run
				}
			}
		}
		if err := json.NewEncoder(w).Encode(out); err != nil {
			panic(http.ErrAbortHandler)
		}
	}))
	ts.Defer(s.Close)
	ts.Setenv("KF_PIPELINES_ENDPOINT", s.URL)
}
