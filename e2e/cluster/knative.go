//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/api"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/host"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/image"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/standin"
	"github.com/continuo-ml/continuo/e2e/internal/binaries"
)

// What stands in for Knative's ingress (package standin): requests from this machine come in at knativeURL, those of pods by the Service.
const (
	knativeNamespace = "knative-serving"
	standinName      = "knative-standin"
	standinPort      = 18086
	knativeURL       = "http://" + nodeIP + ":18086"
	standinService   = standinName + "." + knativeNamespace + ".svc.cluster.local"
)

// knativeDomain is what addresses from outside end in. Nothing resolves it: the request names it, and goes to knativeURL.
const knativeDomain = "knative.example"

// knativeUp adds Knative Serving to a cluster that runs, and has KServe see it. It is no part of up: most of what is tested needs none.
//
// Controller, autoscaler, activator, webhook and queue-proxy are Knative's own, as pods by Knative's own manifests. Its ingress is not:
// that is package standin, a process of this machine.
func (c *cluster) knativeUp(ctx context.Context) error {
	if err := c.buildModules(ctx, knative); err != nil {
		return err
	}
	client, err := c.admin()
	if err != nil {
		return err
	}
	if err := c.knativeImages(ctx); err != nil {
		return err
	}
	fresh, err := c.knativeObjects(ctx, client)
	if err != nil {
		return fmt.Errorf("start knative: %w", err)
	}
	running, err := c.dir.Running()
	if err != nil {
		return err
	}
	if !slices.Contains(running, standinName) {
		// Under a name of its own: the registry runs from the other, and that may be older.
		if err := c.copyAs(standinName); err != nil {
			return err
		}
		if err := c.dir.Start(ctx, c.standin()); err != nil {
			return err
		}
	}
	if err := deployed(ctx, client); err != nil {
		return err
	}
	// KServe looks for Knative when it starts, and watches nothing of it otherwise.
	if fresh && slices.Contains(running, "kserve") {
		if err := c.restart(ctx, "kserve"); err != nil {
			return err
		}
	}
	c.say("Knative Serving runs; its ingress is a stand-in, which answers at %s", knativeURL)
	return nil
}

func (c *cluster) standin() host.Component {
	return host.Component{
		Name: standinName,
		Args: []string{c.dir.Path("bin", standinName), "standin", "-listen", fmt.Sprintf("%s:%d", nodeIP, standinPort),
			"-kubeconfig", c.kubeconfig("admin"), "-service", standinService},
		Ready: c.ready()[standinName], Deadline: 30 * time.Second,
	}
}

func standinReady() func(context.Context) error { return answers(knativeURL+"/healthz", http.StatusOK) }

func runStandin(ctx context.Context, listen, kubeconfig, service string) error {
	return standin.Serve(ctx, standin.Options{Listen: listen, Kubeconfig: kubeconfig, Internal: service, Log: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, time.Now().Format(time.RFC3339)+" "+format+"\n", args...)
	}})
}

// knativeImages pushes each program as the image that Knative's manifests have built of it.
func (c *cluster) knativeImages(ctx context.Context) error {
	for _, tool := range knative.Tools {
		l, err := c.store.Program(c.bin[tool], "ko-app/"+tool)
		if err != nil {
			return err
		}
		i := image.Image{Name: "knative-" + tool + ":1", Layers: []*image.Layer{l}, Entrypoint: []string{"/ko-app/" + tool}, User: nobody}
		if _, err := i.Push(ctx, registryHost); err != nil {
			return err
		}
	}
	return nil
}

// knativeDeployments are Knative's parts; what would scale the parts themselves is left out.
var knativeDeployments = []string{"activator.yaml", "autoscaler.yaml", "controller.yaml", "webhook.yaml"}

// knativeObjects applies what Knative's repositories have for it. fresh says that the cluster did not know Knative before.
func (c *cluster) knativeObjects(ctx context.Context, client *api.Client) (fresh bool, err error) {
	dir := c.files[knative.Name]
	of := func(module string) (string, error) {
		return c.builder.Files(ctx, binaries.Module{Name: knative.Name, Path: module})
	}
	networking, err := of("knative.dev/networking")
	if err != nil {
		return false, err
	}
	caching, err := of("knative.dev/caching")
	if err != nil {
		return false, err
	}
	_, err = client.Path(ctx, api.Object{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": map[string]any{"namespace": "x", "name": "x"}})
	fresh = err != nil
	core := func(name string) string { return filepath.Join(dir, "config", "core", name) }
	kinds := []string{core("300-resources/*.yaml"), filepath.Join(caching, "config/image.yaml")}
	for _, name := range []string{"certificate", "domain-claim", "ingress", "serverlessservice"} {
		kinds = append(kinds, filepath.Join(networking, "config", name+".yaml"))
	}
	if err := applyKinds(ctx, client, kinds...); err != nil {
		return fresh, err
	}
	patterns := []string{
		core("100-namespace.yaml"), core("200-serviceaccount.yaml"), core("200-roles/*.yaml"), filepath.Join(networking, "config/config-network.yaml"),
		core("configmaps/*.yaml"), core("webhooks/*.yaml"),
	}
	for _, p := range knativeDeployments {
		patterns = append(patterns, core("deployments/"+p))
	}
	for _, pattern := range patterns {
		if err := applyKnative(ctx, client, pattern); err != nil {
			return fresh, err
		}
	}
	return fresh, client.Apply(ctx, standinObjects()...)
}

// applyKnative applies the objects of files, changed where this cluster differs.
func applyKnative(ctx context.Context, client *api.Client, pattern string) error {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no file %s: %w", pattern, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		// Images are named by the programs that are in them.
		objects, err := api.Parse([]byte(knativeImage(string(text))))
		if err != nil {
			return fmt.Errorf("read %s: %w", f, err)
		}
		for _, o := range objects {
			adaptKnative(o)
		}
		if err := client.Apply(ctx, objects...); err != nil {
			return fmt.Errorf("apply %s: %w", filepath.Base(f), err)
		}
	}
	return nil
}

func knativeImage(text string) string {
	const built = "ko://knative.dev/serving/cmd/"
	for _, tool := range knative.Tools {
		text = strings.ReplaceAll(text, built+tool+"\n", registryHost+"/knative-"+tool+":1\n")
	}
	return text
}

// adaptKnative changes what differs here: the ingress, an address from outside, what pods of this project need, and how much one node has.
func adaptKnative(o api.Object) {
	settings := map[string]map[string]any{
		"config-network":    {"ingress-class": standin.Class},
		"config-domain":     {knativeDomain: ""},
		"config-deployment": {"registries-skipping-tag-resolving": registryHost, "queue-sidecar-cpu-request": "5m"},
		"config-features": {"kubernetes.podspec-init-containers": "enabled", "kubernetes.podspec-nodeselector": "enabled",
			"kubernetes.podspec-tolerations": "enabled", "kubernetes.podspec-securitycontext": "enabled"},
		// A version that leaves is gone at once, and a server that nobody asks soon: tests wait for both.
		"config-autoscaler": {"scale-to-zero-grace-period": "6s", "stable-window": "6s"},
	}
	if o.String("kind") == "ConfigMap" {
		data, _ := o.At("data").(map[string]any)
		if data == nil {
			data = map[string]any{}
			o["data"] = data
		}
		delete(data, "_example")
		meta, _ := o.At("metadata").(map[string]any)
		delete(meta, "annotations") // the checksum of the example
		for k, v := range settings[o.String("metadata", "name")] {
			data[k] = v
		}
		return
	}
	if o.String("kind") != "Deployment" {
		return
	}
	list, _ := o.At("spec", "template", "spec", "containers").([]any)
	for _, v := range list {
		if container, ok := v.(map[string]any); ok {
			container["resources"] = map[string]any{"requests": map[string]any{"cpu": "10m", "memory": "60Mi"}, "limits": map[string]any{"memory": "1000Mi"}}
		}
	}
}

// standinObjects lead pods to the stand-in, which runs on the node.
func standinObjects() []api.Object {
	return []api.Object{
		{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": standinName, "namespace": knativeNamespace},
			"spec": map[string]any{"ports": []any{map[string]any{"name": "http", "port": 80, "targetPort": standinPort}}}},
		{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
			"metadata":  map[string]any{"name": standinName, "namespace": knativeNamespace, "labels": map[string]any{"kubernetes.io/service-name": standinName}},
			"ports":     []any{map[string]any{"name": "http", "port": standinPort, "protocol": "TCP"}},
			"endpoints": []any{map[string]any{"addresses": []any{nodeIP}, "conditions": map[string]any{"ready": true}}}},
	}
}

// deployed waits until every part of Knative is ready, and its webhook answers.
func deployed(ctx context.Context, client *api.Client) error {
	err := host.Until(ctx, 3*time.Minute, func(ctx context.Context) error {
		if err := podsReady(ctx, client, knativeNamespace, "activator", "autoscaler", "controller", "webhook"); err != nil {
			return err
		}
		service := map[string]any{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": map[string]any{"name": "e2e-check", "namespace": "default"},
			"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"image": registryHost + "/busybox:1"}}}}}}
		body, err := json.Marshal(service)
		if err != nil {
			return err
		}
		return client.Do(ctx, http.MethodPost, "/apis/serving.knative.dev/v1/namespaces/default/services?dryRun=All", "application/json", body, nil)
	})
	if err != nil {
		return fmt.Errorf("start knative: %w", err)
	}
	return nil
}

// podsReady errs with the first of some Deployments that has no pod which is ready.
func podsReady(ctx context.Context, client *api.Client, namespace string, names ...string) error {
	for _, name := range names {
		var d struct {
			Status struct{ ReadyReplicas int }
		}
		if err := client.Get(ctx, "/apis/apps/v1/namespaces/"+namespace+"/deployments/"+name, &d); err != nil {
			return err
		}
		if d.Status.ReadyReplicas == 0 {
			return fmt.Errorf("no pod of %s is ready: kubectl -n %s logs deploy/%s", name, namespace, name)
		}
	}
	return nil
}
