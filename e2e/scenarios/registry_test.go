//go:build e2e

package scenarios

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestARegistryWithAPassword keeps data, code, models and results where nobody comes in without credentials: ml has them from
// docker's configuration, and pods from a Secret that only the kubelet and the pods read.
func TestARegistryWithAPassword(t *testing.T) {
	t.Parallel()
	host, user, password := os.Getenv("ML_E2E_AUTH_REGISTRY"), os.Getenv("ML_E2E_AUTH_USER"), os.Getenv("ML_E2E_AUTH_PASSWORD")
	if host == "" || user == "" || password == "" {
		t.Fatal("set ML_E2E_AUTH_REGISTRY, ML_E2E_AUTH_USER and ML_E2E_AUTH_PASSWORD: a registry that wants credentials; `make cluster` has one")
	}
	k := newKilled(t)
	k.newData()
	docker := t.TempDir()
	config, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{
		"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + password)),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	k.env = append(k.env, "ML_VAR_registry="+host+"/"+k.namespace, "DOCKER_CONFIG="+docker)
	out := k.exits(1, "apply", "-auto-approve")
	if !oneLineHas(out, []string{host, "docker login"}) {
		t.Errorf("without credentials no line says what to do:\n%s", out)
	}

	if err := os.WriteFile(filepath.Join(docker, "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	out = k.exits(1, "apply", "-auto-approve")
	if !oneLineHas(out, []string{host, "image_pull_secrets"}) {
		t.Errorf("where the pods have no credentials no line says what to do:\n%s", out)
	}

	if _, err := k.cluster.typed.CoreV1().Secrets(k.namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "registry"}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: config},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	k.env = append(k.env, `ML_VAR_pull_secrets=["registry"]`)
	k.ml("apply", "-auto-approve")
	k.unchanged()
	if got := k.answer(); got != "r1,0" {
		t.Errorf("the service answers %q", got)
	}
	for _, file := range []string{".ml/state.db", ".ml/runs"} {
		k.holdsNo(file, password)
	}
	k.ml("destroy", "-auto-approve")
	if left := k.cluster.left(t, k.namespace); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// holdsNo wants a text in no file at a path of the project.
func (w *world) holdsNo(path, secret string) {
	w.Helper()
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))
	seen := 0
	err := filepath.WalkDir(filepath.Join(w.dir, path), func(at string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(at)
		seen++
		if strings.Contains(string(raw), secret) || strings.Contains(string(raw), encoded) {
			w.Errorf("the password is in %s", at)
		}
		return err
	})
	if err != nil || seen == 0 {
		w.Errorf("look for the password in %s: %d files, %v", path, seen, err)
	}
}
