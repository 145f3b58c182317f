package pods

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/kube"
)

// clientOf is a client of the API server at a URL, in namespace ns. It repeats what passes by itself for as long as retry; less than 0 is never.
func clientOf(t *testing.T, url string, retry time.Duration) *kube.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}], contexts: [{name: c, context: {cluster: c, namespace: ns}}]}", url)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := kube.Connect(t.Context(), kube.Config{Kubeconfig: path, RetryFor: retry})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
