//go:build e2e

package providertest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/continuo-ml/continuo/internal/kube"
)

// Granted is a kubeconfig with the rights that deploy/rbac.yaml gives in the namespace, and no others: the token of the account that it makes.
// Each test of a driver is a test of that file.
func (c *Cluster) Granted() string {
	c.T.Helper()
	if c.granted != "" {
		return c.granted
	}
	c.grant()
	token := strings.TrimSpace(c.Kubectl("", "create", "token", "continuo", "--duration=2h"))
	raw, err := os.ReadFile(c.Kubeconfig)
	var cfg map[string]any
	if err == nil {
		err = yaml.Unmarshal(raw, &cfg)
	}
	if err != nil {
		c.T.Fatal(err)
	}
	contexts, _ := cfg["contexts"].([]any)
	for _, one := range contexts {
		if in, ok := one.(map[string]any)["context"].(map[string]any); ok {
			in["user"], in["namespace"] = "continuo", c.Namespace
		}
	}
	cfg["users"] = []any{map[string]any{"name": "continuo", "user": map[string]any{"token": token}}}
	c.granted = filepath.Join(c.T.TempDir(), "kubeconfig")
	if raw, err = json.Marshal(cfg); err == nil { // JSON is YAML
		err = os.WriteFile(c.granted, raw, 0o600)
	}
	if err != nil {
		c.T.Fatal(err)
	}
	return c.granted
}

// grant applies deploy/rbac.yaml for the namespace. What belongs to no namespace goes with the test.
func (c *Cluster) grant() {
	c.T.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "deploy", "rbac.yaml"))
	if err != nil {
		c.T.Fatal(err)
	}
	text := strings.NewReplacer("namespace: ml\n", "namespace: "+c.Namespace+"\n", "name: continuo-ml\n", "name: continuo-"+c.Namespace+"\n").Replace(string(raw))
	docs := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		u := &unstructured.Unstructured{}
		err := docs.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			c.T.Fatal(err)
		}
		made, err := c.Admin.Apply(c.T.Context(), u, kube.ApplyOptions{})
		if err != nil {
			c.T.Fatal(err)
		}
		if u.GetNamespace() != "" {
			continue
		}
		c.T.Cleanup(func() {
			if err := c.Admin.Delete(context.WithoutCancel(c.T.Context()), made.Ref, kube.DeleteOptions{}); err != nil {
				c.T.Error(err)
			}
		})
	}
}
