//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/api"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/host"
)

// The ports on which controllers answer the API server's questions. Some of them cannot be told an address to listen on; the packet filter
// keeps the world away from those.
const (
	kservePort  = 19443
	jobsetPort  = 19444
	trainerPort = 19445
)

// startKServe sets KServe up for plain Deployments, without an ingress, with models from images, and starts its controller.
func (c *cluster) startKServe(ctx context.Context) error {
	client, err := api.Load(c.kubeconfig("admin"))
	if err != nil {
		return err
	}
	dir := c.files["kserve"]
	if err := client.Apply(ctx, namespace("kserve")); err != nil {
		return fmt.Errorf("start kserve: %w", err)
	}
	crds := []string{filepath.Join(dir, "config/crd/full/serving*.yaml"), filepath.Join(dir, "config/crd/full/clusterstoragecontainer/serving*.yaml")}
	if err := applyKinds(ctx, client, crds...); err != nil {
		return fmt.Errorf("start kserve: %w", err)
	}
	config, err := kserveConfig(filepath.Join(dir, "config/configmap/inferenceservice.yaml"))
	if err != nil {
		return fmt.Errorf("start kserve: %w", err)
	}
	if err := client.Apply(ctx, config); err != nil {
		return fmt.Errorf("start kserve: %w", err)
	}
	tmp, err := c.servingCertificate("kserve")
	if err != nil {
		return fmt.Errorf("start kserve: %w", err)
	}
	err = c.dir.Start(ctx, host.Component{
		Name: "kserve",
		Args: []string{
			c.bin["manager"], "-kubeconfig=" + c.kubeconfig("kserve"), "-metrics-addr=127.0.0.1:18084", "-health-probe-addr=127.0.0.1:18081",
			fmt.Sprintf("-webhook-port=%d", kservePort),
		},
		Env:   []string{"POD_NAMESPACE=kserve", "TMPDIR=" + tmp},
		Ready: c.ready()["kserve"], Deadline: 90 * time.Second,
	})
	if err != nil {
		return err
	}
	if err := c.applyWebhooks(ctx, client, filepath.Join(dir, "config/webhook/manifests.yaml"), kservePort, nil); err != nil {
		return fmt.Errorf("start kserve: %w", err)
	}
	return nil
}

func (c *cluster) kserveReady(ctx context.Context) error {
	return answers("http://127.0.0.1:18081/readyz", http.StatusOK)(ctx)
}

// kserveConfig returns KServe's own ConfigMap with what differs here.
func kserveConfig(file string) (api.Object, error) {
	objects, err := api.ParseFile(file)
	if err != nil {
		return nil, err
	}
	if len(objects) != 1 {
		return nil, fmt.Errorf("%s has %d objects, not 1", file, len(objects))
	}
	config := objects[0]
	data, _ := config.At("data").(map[string]any)
	// One node with two processors: what a pod asks for must leave room for the next.
	small := map[string]any{"cpuRequest": "10m", "memoryRequest": "64Mi"}
	changes := []struct {
		key    string
		fields map[string]any
	}{
		{"deploy", map[string]any{"defaultDeploymentMode": "Standard"}},
		{"ingress", map[string]any{"disableIngressCreation": true, "disableIstioVirtualHost": true}},
		{"storageInitializer", map[string]any{"enableOciModelSupport": true, "enableModelcar": true}},
		{"agent", map[string]any{"image": registryHost + "/kserve-agent:1", "cpuRequest": small["cpuRequest"], "memoryRequest": small["memoryRequest"]}},
		{"logger", map[string]any{"image": registryHost + "/kserve-agent:1", "cpuRequest": small["cpuRequest"], "memoryRequest": small["memoryRequest"]}},
		{"batcher", map[string]any{"image": registryHost + "/kserve-agent:1", "cpuRequest": small["cpuRequest"], "memoryRequest": small["memoryRequest"]}},
		{"router", map[string]any{"image": registryHost + "/kserve-router:1", "cpuRequest": small["cpuRequest"], "memoryRequest": small["memoryRequest"]}},
		{"inferenceService", map[string]any{"resource": map[string]any{"cpuRequest": "10m", "memoryRequest": "64Mi", "cpuLimit": "2", "memoryLimit": "2Gi"}}},
	}
	for _, ch := range changes {
		text, _ := data[ch.key].(string)
		section := map[string]any{}
		if err := json.Unmarshal([]byte(text), &section); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", file, ch.key, err)
		}
		for k, v := range ch.fields {
			section[k] = v
		}
		changed, err := json.MarshalIndent(section, "", "  ")
		if err != nil {
			return nil, err
		}
		data[ch.key] = string(changed)
	}
	delete(data, "_example")
	return config, nil
}

func namespace(name string) api.Object {
	return api.Object{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name}}
}

// applyKinds applies every definition of a kind in the files that the patterns name, and waits until the API server serves them.
func applyKinds(ctx context.Context, client *api.Client, patterns ...string) error {
	var kinds []api.Object
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			return errors.Join(fmt.Errorf("no file %s", pattern), err)
		}
		for _, f := range files {
			objects, err := api.ParseFile(f)
			if err != nil {
				return err
			}
			for _, o := range objects {
				if m, ok := o.At("metadata").(map[string]any); ok {
					delete(m, "creationTimestamp") // a null that generators leave
				}
				kinds = append(kinds, served(o)...)
			}
			if err := client.Apply(ctx, objects...); err != nil {
				return fmt.Errorf("apply %s: %w", filepath.Base(f), err)
			}
		}
	}
	return host.Until(ctx, 2*time.Minute, func(ctx context.Context) error {
		for _, k := range kinds {
			if _, err := client.Path(ctx, k); err != nil {
				return err
			}
		}
		return nil
	})
}

// served returns an object of each version that a definition of a kind says is served.
func served(crd api.Object) []api.Object {
	var all []api.Object
	versions, _ := crd.At("spec", "versions").([]any)
	for _, v := range versions {
		version, _ := v.(map[string]any)
		if on, _ := version["served"].(bool); on {
			all = append(all, api.Object{
				"apiVersion": crd.String("spec", "group") + "/" + api.Object(version).String("name"),
				"kind":       crd.String("spec", "names", "kind"),
			})
		}
	}
	return all
}

// servingCertificate makes a folder for temporary files in which a controller finds its certificate where it looks for one by default.
func (c *cluster) servingCertificate(name string) (string, error) {
	tmp := c.dir.Path("tmp", name)
	certs := filepath.Join(tmp, "k8s-webhook-server", "serving-certs")
	if err := os.MkdirAll(certs, 0o755); err != nil {
		return "", err
	}
	return tmp, errors.Join(
		os.Symlink(c.dir.Path("pki", "server.crt"), filepath.Join(certs, "tls.crt")),
		os.Symlink(c.dir.Path("pki", "server.key"), filepath.Join(certs, "tls.key")),
	)
}

// applyWebhooks applies webhook configurations so that they lead to this machine instead of a Service. rename gives those a name of their
// own that would overwrite each other.
func (c *cluster) applyWebhooks(ctx context.Context, client *api.Client, file string, port int, rename map[string]string) error {
	objects, err := api.ParseFile(file)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(c.dir.Path("pki", "ca.crt"))
	if err != nil {
		return err
	}
	for _, o := range objects {
		meta, _ := o.At("metadata").(map[string]any)
		delete(meta, "creationTimestamp")
		if name, ok := rename[o.String("kind")]; ok {
			meta["name"] = name
		}
		hooks, _ := o.At("webhooks").([]any)
		for _, h := range hooks {
			hook, _ := h.(map[string]any)
			path := api.Object(hook).String("clientConfig", "service", "path")
			hook["clientConfig"] = map[string]any{"url": fmt.Sprintf("https://127.0.0.1:%d%s", port, path), "caBundle": ca}
			if path == "/mutate--v1-pod" || path == "/validate--v1-pod" {
				// JobSet is asked about its own pods alone, as its installation does it: no other pod may depend on it.
				hook["objectSelector"] = map[string]any{"matchExpressions": []any{map[string]any{"key": "jobset.sigs.k8s.io/jobset-name", "operator": "Exists"}}}
			}
		}
	}
	return client.Apply(ctx, objects...)
}
