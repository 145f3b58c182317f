//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/api"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/host"
)

// webhooksAnswer asks until every webhook does its work: a controller that has just started says that it is ready before it knows all of
// its webhooks, and the API server is told of them a moment later.
func webhooksAnswer(ctx context.Context, w *workspace) error {
	w.namespace = "default"
	return host.Until(ctx, 25*time.Second, w.webhooks)
}

// webhooks asks for objects that only a webhook refuses: silence would mean that it was not asked.
func (w *workspace) webhooks(ctx context.Context) error {
	runtime := torchRuntime()
	runtime["metadata"] = map[string]any{"name": "e2e-check"}
	if err := w.dryRun(ctx, runtime); err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	for _, c := range []struct {
		who    string
		object api.Object
	}{
		{"kserve", w.object("serving.kserve.io/v1beta1", "InferenceService", "1-is-no-first-letter", map[string]any{
			"predictor": map[string]any{"model": map[string]any{"modelFormat": map[string]any{"name": "sklearn"}}},
		})},
		{"trainer", w.object("trainer.kubeflow.org/v1alpha1", "TrainJob", "e2e-check", map[string]any{
			"runtimeRef": map[string]any{"name": "no-such-runtime"},
		})},
		{"jobset", w.object("jobset.x-k8s.io/v1alpha2", "JobSet", "e2e-check", map[string]any{
			"replicatedJobs": []any{map[string]any{"name": "a", "replicas": 1, "dependsOn": []any{map[string]any{"name": "b", "status": "Ready"}},
				"template": map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
					"restartPolicy": "Never", "containers": []any{map[string]any{"name": "a", "image": "a"}},
				}}}},
			}},
		})},
	} {
		err := w.dryRun(ctx, c.object)
		if err == nil {
			return fmt.Errorf("%s took an object that it must refuse: its webhook was not asked", c.who)
		}
		if !strings.Contains(err.Error(), "admission webhook") || strings.Contains(err.Error(), "failed calling webhook") {
			return fmt.Errorf("%s: its webhook did not answer: %w", c.who, err)
		}
	}
	return nil
}

// server answers KServe's protocol version 1 with what lies in the model's folder.
const server = `
import http.server, json
model = json.load(open("/mnt/models/model.json"))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"name": "model", "ready": True, "model": model}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
`

// servesModel runs an InferenceService with a runtime of its own and a model from an image.
func servesModel(ctx context.Context, w *workspace) error {
	err := w.Apply(ctx,
		w.object("serving.kserve.io/v1alpha1", "ServingRuntime", "check", map[string]any{
			"supportedModelFormats": []any{map[string]any{"name": "check", "version": "1", "autoSelect": true}},
			"containers": []any{map[string]any{
				"name": "kserve-container", "image": w.registry + "/python-sklearn:12", "command": []string{"python3", "-c", server},
				"ports":          []any{map[string]any{"containerPort": 8080, "protocol": "TCP"}},
				"readinessProbe": map[string]any{"httpGet": map[string]any{"path": "/v1/models/model", "port": 8080}, "periodSeconds": 1},
			}},
		}),
		w.object("serving.kserve.io/v1beta1", "InferenceService", "model", map[string]any{"predictor": map[string]any{
			"terminationGracePeriodSeconds": 1,
			"model":                         map[string]any{"modelFormat": map[string]any{"name": "check"}, "storageUri": "oci://" + w.registry + "/check-model:1"},
		}}),
	)
	if err != nil {
		return err
	}
	err = w.until(ctx, "inferenceservice model", func(ctx context.Context) error {
		var s struct {
			Status struct {
				Conditions []struct{ Type, Status, Reason, Message string }
			}
		}
		if err := w.Get(ctx, "/apis/serving.kserve.io/v1beta1/namespaces/"+w.namespace+"/inferenceservices/model", &s); err != nil {
			return err
		}
		for _, cond := range s.Status.Conditions {
			if cond.Type == "Ready" && cond.Status == "True" {
				return nil
			} else if cond.Type == "Ready" {
				return fmt.Errorf("it is not ready: %s %s", cond.Reason, cond.Message)
			}
		}
		return errors.New("KServe has said nothing about it")
	})
	if err != nil {
		return err
	}
	var s struct{ Spec struct{ ClusterIP string } }
	if err := w.Get(ctx, "/api/v1/namespaces/"+w.namespace+"/services/model-predictor", &s); err != nil {
		return err
	}
	url := "http://" + s.Spec.ClusterIP + "/v1/models/model"
	if s.Spec.ClusterIP == "None" {
		return fmt.Errorf("service model-predictor has no address")
	}
	return w.until(ctx, "GET "+url, answers(url, http.StatusOK))
}

// program trains nothing: it proves that two nodes find each other and agree on a sum.
const program = `
import os, torch, torch.distributed as dist
rank, size = int(os.environ["PET_NODE_RANK"]), int(os.environ["PET_NNODES"])
dist.init_process_group("gloo", init_method="tcp://%s:%s" % (os.environ["PET_MASTER_ADDR"], os.environ["PET_MASTER_PORT"]), rank=rank, world_size=size)
t = torch.tensor([rank + 1.0])
dist.all_reduce(t)
assert size == 2 and t.item() == 3.0, (size, t)
print("sum", t.item())
`

func trainsOnTwoNodes(ctx context.Context, w *workspace) error {
	job := w.object("trainer.kubeflow.org/v1alpha1", "TrainJob", "sum", map[string]any{
		"runtimeRef": map[string]any{"name": "torch-distributed"},
		"trainer":    map[string]any{"numNodes": 2, "command": []string{"python3", "-c", program}},
	})
	if err := w.Apply(ctx, job); err != nil {
		return err
	}
	return w.until(ctx, "trainjob sum", func(ctx context.Context) error {
		var j struct {
			Status struct {
				Conditions []struct{ Type, Status, Message string }
			}
		}
		if err := w.Get(ctx, "/apis/trainer.kubeflow.org/v1alpha1/namespaces/"+w.namespace+"/trainjobs/sum", &j); err != nil {
			return err
		}
		for _, cond := range j.Status.Conditions {
			switch {
			case cond.Type == "Complete" && cond.Status == "True":
				return nil
			case cond.Type == "Failed" && cond.Status == "True":
				return host.Final(fmt.Errorf("it failed: %s: %s", cond.Message, w.logs(ctx, "jobset.sigs.k8s.io/jobset-name=sum")))
			}
		}
		return errors.New("it has not completed")
	})
}
