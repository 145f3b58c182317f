//go:build e2e

package state

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/remote"
	"github.com/continuo-ml/continuo/state/remote/kube"
	"github.com/continuo-ml/continuo/state/remote/remotetest"
	"github.com/continuo-ml/continuo/state/statetest"
)

// namespace is a namespace of the cluster for one test, and a kubeconfig with
// the rights of deploy/rbac-state.yaml in it and no others.
type namespace struct {
	name, kubeconfig string
}

func newNamespace(t testing.TB) namespace {
	t.Helper()
	if os.Getenv("ML_E2E_KUBECONFIG") == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("ML_E2E_KUBECONFIG names no cluster: make cluster")
		}
		t.Skip("ML_E2E_KUBECONFIG names no cluster: make cluster, and set what `go run ./e2e/cluster env` prints")
	}
	n := namespace{name: "ml-state-" + strings.ToLower(rand.Text()[:8])}
	kubectl(t, nil, "create", "namespace", n.name)
	t.Cleanup(func() {
		kubectl(t, nil, "delete", "namespace", n.name, "--wait=false")
	})
	rules, err := os.ReadFile("../../deploy/rbac-state.yaml")
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, bytes.ReplaceAll(rules, []byte("namespace: ml-state"), []byte("namespace: "+n.name)), "apply", "-f", "-")
	n.kubeconfig = n.as(t, "continuo-state")
	return n
}

// as is a kubeconfig of a service account: the admin's with another user.
func (n namespace) as(t testing.TB, account string) string {
	t.Helper()
	token := strings.TrimSpace(kubectl(t, nil, "create", "token", account, "-n", n.name))
	path := t.TempDir() + "/kubeconfig"
	if err := os.WriteFile(path, []byte(kubectl(t, nil, "config", "view", "--raw", "--minify", "--flatten")), 0o600); err != nil {
		t.Fatal(err)
	}
	of := strings.TrimSpace(kubectl(t, nil, "--kubeconfig", path, "config", "view", "-o", "jsonpath={.contexts[0].name}"))
	kubectl(t, nil, "--kubeconfig", path, "config", "set-credentials", "state", "--token", token)
	kubectl(t, nil, "--kubeconfig", path, "config", "set-context", of, "--user", "state")
	return path
}

func kubectl(t testing.TB, stdin []byte, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Getenv("ML_E2E_KUBECTL"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+os.Getenv("ML_E2E_KUBECONFIG"))
	cmd.Stdin = bytes.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

func (n namespace) place(name string) *kube.Namespace {
	return kube.New(kube.Options{Name: name, Namespace: n.name, Kubeconfig: n.kubeconfig})
}

func TestAClusterKeepsAState(t *testing.T) {
	n := newNamespace(t)
	t.Run("its namespace is a place", func(t *testing.T) { remotetest.Run(t, n.place("contract")) })
	var i atomic.Int32
	t.Run("every promise is kept with the rights of deploy/rbac-state.yaml", func(t *testing.T) {
		statetest.Run(t, func(t *testing.T) state.Store {
			s := remote.Open(n.place(fmt.Sprintf("p%d", i.Add(1))), options(t, t.TempDir()))
			t.Cleanup(func() {
				if _, err := s.Verify(context.WithoutCancel(t.Context())); err != nil {
					t.Error("after the test:", err)
				}
			})
			return s
		})
	})
	t.Run("a large state is cut into Secrets that the cluster takes", func(t *testing.T) { large(t, n.place("large")) })
	t.Run("who may only read plans, and is refused what writes", func(t *testing.T) {
		kubectl(t, nil, "create", "serviceaccount", "reader", "-n", n.name)
		kubectl(t, nil, "create", "rolebinding", "reader", "-n", n.name, "--role=continuo-state-reader", "--serviceaccount="+n.name+":reader")
		reader := remote.Open(kube.New(kube.Options{Name: "p1", Namespace: n.name, Kubeconfig: n.as(t, "reader")}), options(t, t.TempDir()))
		if _, err := reader.Snapshot(t.Context()); err != nil {
			t.Error(err)
		}
		_, _, err := reader.Acquire(t.Context(), "apply")
		if err == nil || !strings.Contains(err.Error(), "secrets in namespace "+n.name+" is missing") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a Secret of somebody else's is not read", func(t *testing.T) {
		kubectl(t, nil, "create", "secret", "generic", "mine.head", "-n", n.name, "--from-literal=data=private")
		_, err := remote.Open(n.place("mine"), options(t, t.TempDir())).Snapshot(t.Context())
		if err == nil || !strings.Contains(err.Error(), "nothing of this program's") || strings.Contains(err.Error(), "private") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("refusals say what to do", func(t *testing.T) {
		other := kube.New(kube.Options{Name: "x", Namespace: "default", Kubeconfig: n.kubeconfig})
		_, err := remote.Open(other, options(t, t.TempDir())).Snapshot(t.Context())
		if err == nil || !strings.Contains(err.Error(), "deploy/rbac-state.yaml") {
			t.Errorf("without the right: %v", err)
		}
		admin := kube.New(kube.Options{Name: "x", Namespace: "ml-nowhere", Kubeconfig: os.Getenv("ML_E2E_KUBECONFIG")})
		_, _, err = remote.Open(admin, options(t, t.TempDir())).Acquire(t.Context(), "apply")
		if err == nil || errors.Is(err, remote.ErrBusy) || !strings.Contains(err.Error(), "kubectl create namespace ml-nowhere") {
			t.Errorf("without the namespace: %v", err)
		}
	})
}
