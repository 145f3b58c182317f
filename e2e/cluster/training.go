//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/api"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/host"
)

// startTraining sets JobSet and Kubeflow Trainer up and starts their controllers.
func (c *cluster) startTraining(ctx context.Context) error {
	client, err := api.Load(c.kubeconfig("admin"))
	if err != nil {
		return err
	}
	if err := client.Apply(ctx, namespace("jobset-system"), namespace("kubeflow-system")); err != nil {
		return fmt.Errorf("start trainer: %w", err)
	}
	jobsetFiles, trainerFiles := c.files["jobset"], c.files["trainer"]
	crds := []string{filepath.Join(jobsetFiles, "config/components/crd/bases/*.yaml"), filepath.Join(trainerFiles, "manifests/base/crds/trainer*.yaml")}
	if err := applyKinds(ctx, client, crds...); err != nil {
		return fmt.Errorf("start trainer: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := c.startController(gctx, "jobset", "jobset", jobsetConfig()); err != nil {
			return err
		}
		return c.applyWebhooks(gctx, client, filepath.Join(jobsetFiles, "config/components/webhook/manifests.yaml"), jobsetPort, map[string]string{
			"MutatingWebhookConfiguration": "jobset-mutating", "ValidatingWebhookConfiguration": "jobset-validating",
		})
	})
	g.Go(func() error {
		if err := c.startController(gctx, "trainer", "trainer-controller-manager", trainerConfig()); err != nil {
			return err
		}
		return c.applyWebhooks(gctx, client, filepath.Join(trainerFiles, "manifests/base/webhook/manifests.yaml"), trainerPort, map[string]string{
			"MutatingWebhookConfiguration": "defaulter.trainer.kubeflow.org", "ValidatingWebhookConfiguration": "validator.trainer.kubeflow.org",
		})
	})
	if err := g.Wait(); err != nil {
		return err
	}
	// Its webhook is asked about it, and may not be there yet although Trainer says that it is ready.
	if err := host.Until(ctx, 30*time.Second, func(ctx context.Context) error { return client.Apply(ctx, torchRuntime()) }); err != nil {
		return fmt.Errorf("start trainer: %w", err)
	}
	return nil
}

func (c *cluster) startController(ctx context.Context, name, program string, config map[string]any) error {
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	if err := c.write(string(text), "config", name+".json"); err != nil {
		return err
	}
	tmp, err := c.servingCertificate(name)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	return c.dir.Start(ctx, host.Component{
		Name:  name,
		Args:  []string{c.bin[program], "--config=" + c.dir.Path("config", name+".json"), "--kubeconfig=" + c.kubeconfig("trainer")},
		Env:   []string{"TMPDIR=" + tmp},
		Ready: c.ready()[name], Deadline: 90 * time.Second,
	})
}

func jobsetConfig() map[string]any {
	return map[string]any{
		"apiVersion": "config.jobset.x-k8s.io/v1alpha1", "kind": "Configuration",
		"internalCertManagement": map[string]any{"enable": false},
		"leaderElection":         map[string]any{"leaderElect": false},
		"health":                 map[string]any{"healthProbeBindAddress": "127.0.0.1:18082"},
		"metrics":                map[string]any{"bindAddress": "0"}, // none: it would want a certificate, too
		"webhook":                map[string]any{"host": "127.0.0.1", "port": jobsetPort},
	}
}

func trainerConfig() map[string]any {
	return map[string]any{
		"apiVersion": "config.trainer.kubeflow.org/v1alpha1", "kind": "Configuration",
		"certManagement": map[string]any{"enable": false},
		"leaderElection": map[string]any{"leaderElect": false},
		"health":         map[string]any{"healthProbeBindAddress": "127.0.0.1:18083"},
		"metrics":        map[string]any{"bindAddress": "0", "secureServing": false},
		"webhook":        map[string]any{"host": "127.0.0.1", "port": trainerPort},
	}
}

// torchRuntime is what a TrainJob refers to for PyTorch on several nodes. Trainer tells the program through PET_* variables who it is.
func torchRuntime() api.Object {
	return api.Object{
		"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "ClusterTrainingRuntime",
		"metadata": map[string]any{"name": "torch-distributed", "labels": map[string]any{"trainer.kubeflow.org/framework": "torch"}},
		"spec": map[string]any{
			"mlPolicy": map[string]any{"numNodes": 1, "torch": map[string]any{}},
			"template": map[string]any{"spec": map[string]any{"replicatedJobs": []any{map[string]any{
				"name": "node",
				"template": map[string]any{
					"metadata": map[string]any{"labels": map[string]any{"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
					"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
						"containers": []any{map[string]any{"name": "node", "image": registryHost + "/python-torch:12"}},
					}}},
				},
			}}}},
		},
	}
}
