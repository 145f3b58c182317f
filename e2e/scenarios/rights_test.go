//go:build e2e

package scenarios

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/tools/clientcmd"
	clientapi "k8s.io/client-go/tools/clientcmd/api"
)

// rights gives the namespace what deploy/rbac.yaml says, and returns a kubeconfig that has these rights and no others: every
// scenario is a test of that file.
func (c cluster) rights(t *testing.T, namespace string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "deploy", "rbac.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("namespace: ml\n", "namespace: "+namespace+"\n", "name: continuo-ml\n", "name: continuo-"+namespace+"\n").Replace(string(raw))
	docs := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		var u unstructured.Unstructured
		if err := docs.Decode(&u.Object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		c.makeRight(t, &u)
	}
	token, err := c.typed.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "continuo", &authv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.LoadFromFile(here.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	current := cfg.Contexts[cfg.CurrentContext]
	cfg.AuthInfos = map[string]*clientapi.AuthInfo{"continuo": {Token: token.Status.Token}}
	current.AuthInfo, current.Namespace = "continuo", namespace
	at := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, at); err != nil {
		t.Fatal(err)
	}
	return at
}

// makeRight makes an object of rbac.yaml; those that belong to no namespace are removed at the end.
func (c cluster) makeRight(t *testing.T, u *unstructured.Unstructured) {
	t.Helper()
	gvr := schema.GroupVersionResource{Group: u.GroupVersionKind().Group, Version: u.GroupVersionKind().Version, Resource: strings.ToLower(u.GetKind()) + "s"}
	if _, err := c.any.Resource(gvr).Namespace(u.GetNamespace()).Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
		t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
	}
	if u.GetNamespace() != "" {
		return
	}
	t.Cleanup(func() {
		if err := c.any.Resource(gvr).Delete(context.Background(), u.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}
