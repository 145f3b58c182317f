package kube

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// alone gives the test an empty home, no KUBECONFIG and no pod around it.
func alone(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("KUBECONFIG", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	return home
}

func TestConnectSaysWhatIsMissing(t *testing.T) {
	for _, test := range []struct {
		name string
		cfg  func(t *testing.T) Config
		want []string
	}{
		{"no kubeconfig: the file to make", func(*testing.T) Config { return Config{} }, []string{"no kubeconfig: make ", "KUBECONFIG"}},
		{"a file that is not there", func(*testing.T) Config { return Config{Kubeconfig: "/nonexistent/kc"} }, []string{"/nonexistent/kc does not exist"}},
		{"an unknown context: those that exist", func(t *testing.T) Config {
			return Config{Kubeconfig: writeConfig(t, "http://127.0.0.1:1", "token: x"), Context: "prod"}
		}, []string{`context "prod" does not exist`, "main, other"}},
		{"a namespace that the list leaves out", func(t *testing.T) Config {
			return Config{Kubeconfig: writeConfig(t, "http://127.0.0.1:1", "token: x"), Namespace: "a", Allowed: []string{"b"}}
		}, []string{`namespace "a" is not allowed`, "are b"}},
		{"text that is no kubeconfig", func(t *testing.T) Config {
			path := filepath.Join(t.TempDir(), "kc")
			if err := os.WriteFile(path, []byte("\tno yaml"), 0o600); err != nil {
				t.Fatal(err)
			}
			return Config{Kubeconfig: path}
		}, []string{"kubeconfig: "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			alone(t)
			_, err := Connect(context.Background(), test.cfg(t))
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range test.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the error lacks %q: %v", w, err)
				}
			}
		})
	}
}

func TestAFileOfTheProjectMayNotStartProgramsOrReadTokens(t *testing.T) {
	for what, user := range map[string]string{
		"starts a program":    `exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, interactiveMode: Never}`,
		"reads its token":     `tokenFile: /etc/hostname`,
		"uses an auth provid": `auth-provider: {name: oidc}`,
	} {
		t.Run(what, func(t *testing.T) {
			alone(t)
			path := writeConfig(t, "http://127.0.0.1:1", user)
			if _, err := Connect(context.Background(), Config{Kubeconfig: path}); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("from the project: %v", err)
			}
			if what == "uses an auth provid" {
				return // client-go itself no longer knows this one
			}
			t.Setenv("KUBECONFIG", path)
			if _, err := Connect(context.Background(), Config{}); err != nil {
				t.Errorf("from the user: %v", err)
			}
			if _, err := Connect(context.Background(), Config{Kubeconfig: path}); err != nil {
				t.Errorf("the user's own, named by the project: %v", err)
			}
		})
	}
}

func TestNothingIsSentBeforeItIsNeededOrOutsideTheNamespaces(t *testing.T) {
	alone(t)
	requests := 0
	f := newServer(t, nil)
	f.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests++ })
	c := connect(t, f.URL, nil)
	ctx := context.Background()
	away := Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "other", Name: "x", UID: "u"}
	var refused *NamespaceError
	if _, err := c.Get(ctx, away); !errors.As(err, &refused) {
		t.Errorf("get: %v", err)
	}
	if err := c.Delete(ctx, away, DeleteOptions{}); !errors.As(err, &refused) {
		t.Errorf("delete: %v", err)
	}
	if _, err := c.Apply(ctx, object(t, "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x, namespace: other}}"), ApplyOptions{}); !errors.As(err, &refused) {
		t.Errorf("apply: %v", err)
	}
	if _, err := c.List(ctx, podKind, "other", Selector{}); !errors.As(err, &refused) {
		t.Errorf("list: %v", err)
	}
	if _, err := c.PodLogs(ctx, "other", "x", "", LogOptions{}); !errors.As(err, &refused) {
		t.Errorf("logs: %v", err)
	}
	if _, _, err := c.Proxy("other", Target{Name: "x"}); !errors.As(err, &refused) {
		t.Errorf("proxy: %v", err)
	}
	if requests > 0 {
		t.Errorf("%d requests were sent", requests)
	}
}

func TestWhatBelongsToNoNamespaceNeedsAll(t *testing.T) {
	alone(t)
	f := newServer(t, returns(`{"apiVersion":"v1","kind":"Node","metadata":{"name":"node1"}}`))
	node := object(t, "{apiVersion: v1, kind: Node, metadata: {name: node1}}")
	var refused *NamespaceError
	if _, err := connect(t, f.URL, nil).Apply(context.Background(), node, ApplyOptions{}); !errors.As(err, &refused) {
		t.Errorf("apply a node: %v", err)
	}
	if _, err := connect(t, f.URL, nil).Get(context.Background(), RefOf(node)); err != nil {
		t.Errorf("to read it is no harm: %v", err)
	}
	all := connect(t, f.URL, func(c *Config) { c.Allowed = []string{AllNamespaces} })
	if _, err := all.Apply(context.Background(), node, ApplyOptions{}); err != nil {
		t.Errorf("apply a node where all is allowed: %v", err)
	}
}

func TestAnUnreachableServerIsNamedWithTheCause(t *testing.T) {
	alone(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c := connect(t, "http://"+host, func(c *Config) { c.RetryFor = 300 * time.Millisecond })
	_, err = c.Get(context.Background(), Ref{Version: "v1", Kind: "Pod", Name: "x"})
	var again *Retryable
	if !errors.As(err, &again) || !strings.Contains(err.Error(), "reach the API server "+host) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v", err)
	}
}
