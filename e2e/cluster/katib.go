//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/api"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/host"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/image"
)

const (
	katibNamespace = "kubeflow"
	katibDatabase  = "katib-postgres"
)

// katibCheck is the namespace in which the first search is tried: one with the label that lets searches in.
const katibCheck = "katib-check"

// databaseSteps is the layer that Katib's database runs from.
var databaseSteps = []image.Step{{Name: "postgresql", Packages: []string{"postgresql-15"}}}

// katibUp adds Katib to a cluster that runs, as pods by its own manifests: controller, webhooks, database manager, the collector of metrics from
// files, and its Go service of suggestions, which knows random, tpe, cmaes and sobol. Its other services are Python programs that need packages
// which Debian has not. Its database is Debian's PostgreSQL.
func (c *cluster) katibUp(ctx context.Context) error {
	if err := c.buildModules(ctx, katib); err != nil {
		return err
	}
	client, err := c.admin()
	if err != nil {
		return err
	}
	if err := c.katibImages(ctx); err != nil {
		return err
	}
	if err := c.katibObjects(ctx, client); err != nil {
		return fmt.Errorf("start katib: %w", err)
	}
	err = host.Until(ctx, 4*time.Minute, func(ctx context.Context) error {
		if err := podsReady(ctx, client, katibNamespace, katibDatabase, "katib-db-manager", "katib-controller"); err != nil {
			return err
		}
		body, err := json.Marshal(smallSearch())
		if err != nil {
			return err
		}
		return client.Do(ctx, http.MethodPost, "/apis/kubeflow.org/v1beta1/namespaces/"+katibCheck+"/experiments?dryRun=All", "application/json", body, nil)
	})
	if err != nil {
		return fmt.Errorf("start katib: %w", err)
	}
	c.say("Katib runs")
	return nil
}

// katibImages pushes each program as an image that has it where Katib's manifests look for it, and the database.
func (c *cluster) katibImages(ctx context.Context) error {
	for _, tool := range katib.Tools {
		l, err := c.store.Program(c.bin[tool], tool)
		if err != nil {
			return err
		}
		// Without a user, as Katib's own images are.
		i := image.Image{Name: tool + ":1", Layers: []*image.Layer{l}, Entrypoint: []string{"/" + tool}}
		if _, err := i.Push(ctx, registryHost); err != nil {
			return err
		}
	}
	log, err := c.openLog("images")
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // only a log
	layers, err := debian().Layers(ctx, c.store, log, databaseSteps...)
	if err != nil {
		return fmt.Errorf("%w (log: %s)", err, log.Name())
	}
	_, err = image.Image{Name: katibDatabase + ":1", Layers: layers, Env: []string{"LANG=C.UTF-8"}}.Push(ctx, registryHost)
	return err
}

// katibObjects applies Katib's manifests, changed where this cluster differs.
func (c *cluster) katibObjects(ctx context.Context, client *api.Client) error {
	of := func(names ...string) string {
		return filepath.Join(append([]string{c.files[katib.Name], "manifests", "v1beta1", "components"}, names...)...)
	}
	// Without the label that lets searches in, which their own namespaces have: Katib's webhook would be asked before the controller's pod, too,
	// and nobody would ever answer when the webhook came first.
	own := api.Object{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": katibNamespace}}
	check := api.Object{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{
		"name": katibCheck, "labels": map[string]any{"katib.kubeflow.org/metrics-collector-injection": "enabled"}}}
	if err := client.Apply(ctx, own, check); err != nil {
		return err
	}
	var kinds []string
	for _, name := range []string{"experiment", "suggestion", "trial"} {
		kinds = append(kinds, of("crd", name+".yaml"))
	}
	if err := applyKinds(ctx, client, kinds...); err != nil {
		return err
	}
	objects, err := katibOwn()
	if err != nil {
		return err
	}
	for _, file := range []string{
		of("postgres", "service.yaml"), of("db-manager", "service.yaml"), of("db-manager", "db-manager.yaml"),
		of("controller", "rbac.yaml"), of("controller", "service.yaml"), of("controller", "controller.yaml"), of("webhook", "webhooks.yaml"),
	} {
		all, err := api.ParseFile(file)
		if err != nil {
			return err
		}
		for _, o := range all {
			adaptKatib(o)
		}
		objects = append(objects, all...)
	}
	return client.Apply(ctx, objects...)
}

// adaptKatib names the images of this cluster, and the database.
func adaptKatib(o api.Object) {
	if o.String("kind") != "Deployment" {
		return
	}
	name := o.String("metadata", "name")
	list, _ := o.At("spec", "template", "spec", "containers").([]any)
	for _, v := range list {
		container, ok := v.(map[string]any)
		if !ok {
			continue
		}
		container["image"] = registryHost + "/" + name + ":1"
		if name == "katib-db-manager" {
			container["env"] = []any{
				map[string]any{"name": "DB_NAME", "value": "postgres"}, map[string]any{"name": "DB_PASSWORD", "value": "katib"},
				map[string]any{"name": "KATIB_POSTGRESQL_DB_DATABASE", "value": "postgres"},
			}
		}
	}
}

// katibOwn are the objects that whoever installs Katib writes: what it is to use, an empty Secret that it fills, and a database.
func katibOwn() ([]api.Object, error) {
	images := func(kind, tool string, names ...string) []any {
		var list []any
		for _, n := range names {
			list = append(list, map[string]any{kind: n, "image": registryHost + "/" + tool + ":1"})
		}
		return list
	}
	config := map[string]any{
		"apiVersion": "config.kubeflow.org/v1beta1", "kind": "KatibConfig",
		"init": map[string]any{
			"certGenerator": map[string]any{"enable": true},
			"controller":    map[string]any{"webhookPort": 8443, "trialResources": []string{"TrainJob.v1alpha1.trainer.kubeflow.org", "Job.v1.batch"}},
		},
		"runtime": map[string]any{
			"metricsCollectors": images("kind", "file-metricscollector", "StdOut", "File"),
			"suggestions":       images("algorithmName", "goptuna-suggestion", "random", "tpe", "cmaes", "sobol"),
		},
	}
	text, err := json.Marshal(config) // which is YAML, too
	if err != nil {
		return nil, err
	}
	meta := func(name string) map[string]any { return map[string]any{"name": name, "namespace": katibNamespace} }
	labels := map[string]any{"katib.kubeflow.org/component": "postgres"}
	// Durable enough for a cluster that is thrown away: the data ends with the pod.
	start := `set -e
install -d -o postgres /data
su postgres -c "$BIN/initdb -D /data -U katib --auth=trust"
echo "host all all all trust" >> /data/pg_hba.conf
exec su postgres -c "exec $BIN/postgres -D /data -c listen_addresses=*"`
	return []api.Object{
		{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("katib-config"), "data": map[string]any{"katib-config.yaml": string(text)}},
		{"apiVersion": "v1", "kind": "Secret", "metadata": meta("katib-webhook-cert")},
		{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(katibDatabase), "spec": map[string]any{
			"selector": map[string]any{"matchLabels": labels}, "strategy": map[string]any{"type": "Recreate"},
			"template": map[string]any{"metadata": map[string]any{"labels": labels}, "spec": map[string]any{"containers": []any{map[string]any{
				"name": "postgres", "image": registryHost + "/" + katibDatabase + ":1", "command": []any{"sh", "-c", start},
				"env":            []any{map[string]any{"name": "BIN", "value": "/usr/lib/postgresql/15/bin"}},
				"readinessProbe": map[string]any{"tcpSocket": map[string]any{"port": 5432}, "periodSeconds": 1},
				"resources":      map[string]any{"requests": map[string]any{"cpu": "10m", "memory": "60Mi"}, "limits": map[string]any{"memory": "500Mi"}},
			}}}},
		}},
	}, nil
}

// smallSearch is an Experiment that Katib's webhooks take.
func smallSearch() api.Object {
	return api.Object{"apiVersion": "kubeflow.org/v1beta1", "kind": "Experiment", "metadata": map[string]any{"name": "e2e-check", "namespace": katibCheck}, "spec": map[string]any{
		"objective": map[string]any{"type": "minimize", "objectiveMetricName": "loss"}, "algorithm": map[string]any{"algorithmName": "random"},
		"maxTrialCount": 1, "parallelTrialCount": 1,
		"parameters": []any{map[string]any{"name": "x", "parameterType": "double", "feasibleSpace": map[string]any{"min": "0", "max": "1"}}},
		"trialTemplate": map[string]any{
			"primaryContainerName": "main", "trialParameters": []any{map[string]any{"name": "x", "reference": "x"}},
			"trialSpec": map[string]any{"apiVersion": "batch/v1", "kind": "Job", "spec": map[string]any{"template": map[string]any{"spec": map[string]any{
				"restartPolicy": "Never", "containers": []any{map[string]any{"name": "main", "image": registryHost + "/busybox:1", "command": []any{"echo", "loss=${trialParameters.x}"}}},
			}}}},
		},
	}}
}
