//go:build e2e

package scenarios

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestG breaks a cluster in the ways that clusters break: each apply ends within its deadline, and says the cause in one line, in the
// cluster's own words where it has some.
func TestG(t *testing.T) {
	cases := []struct {
		name   string
		vars   []string
		broken func(w *world)
		// words stand together in one line of what ml says.
		words []string
		// early: it is said before anything is done.
		early bool
	}{
		{
			name: "an image that is not there", vars: []string{"-var", "train_image=" + here.registry + "/nothing:1"},
			words: []string{"training.t", here.registry + "/nothing:1", "not found"},
		},
		{
			name:  "a command that takes more memory than it may",
			vars:  []string{"-var", `command=["python3","-c","x = bytearray(1 << 30); print(len(x))"]`, "-var", "memory=96Mi"},
			words: []string{"training.t", "out of memory"},
		},
		{
			name: "a quota that is used up",
			broken: func(w *world) {
				w.cluster.quota(w.T, w.namespace)
			},
			words: []string{"training.t", "exceeded quota"},
		},
		{
			name: "a right that is missing",
			broken: func(w *world) {
				w.cluster.withoutRight(w.T, w.namespace)
			},
			words: []string{"training.t", "jobs", w403},
		},
		{
			name:  "a server that does not stay up",
			vars:  []string{"-var", `serve=["sh","-c","echo no weights in this model >&2; exit 3"]`},
			words: []string{"deployment.m", "exited with 3", "its last line: no weights in this model"},
		},
		{
			name: "a namespace that is being deleted",
			broken: func(w *world) {
				w.cluster.terminate(w.T, w.namespace)
			},
			words: []string{"training.t", "is being deleted"},
		},
		{
			name: "a kind that is not installed", vars: []string{"-var", "extra=monitoring.coreos.com/v1 ServiceMonitor"}, early: true,
			words: []string{"manifest.extra", "servicemonitors.monitoring.coreos.com", "the Prometheus Operator"},
		},
		{
			name: "a version of KServe that is not installed", vars: []string{"-var", "extra=serving.kserve.io/v9 InferenceService"}, early: true,
			words: []string{"manifest.extra", "inferenceservices.serving.kserve.io", "it comes with KServe"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, os.DirFS(filepath.Join("testdata", "causes")), "kubernetes")
			if c.broken != nil {
				c.broken(w)
			}
			began := time.Now()
			out := w.exits(1, append([]string{"apply", "-auto-approve"}, c.vars...)...)
			took := time.Since(began)
			if took > 2*time.Minute {
				t.Errorf("it took %s", took)
			}
			if c.early { // a diagnostic, which is wrapped as a paragraph
				_, of, _ := strings.Cut(out, "Error: ")
				out = joined(of)
			}
			if !oneLineHas(out, c.words) {
				t.Errorf("no line says %q:\n%s", c.words, out)
			}
			if c.early {
				w.gone()
			}
			t.Logf("%.1f s: %s", took.Seconds(), lineWith(out, c.words[len(c.words)-1]))
		})
	}
}

// w403 is how the API server says that it does not let somebody.
const w403 = "forbidden"

// oneLineHas looks at what a person reads: a message may be wrapped, so lines that go on are joined.
func oneLineHas(out string, words []string) bool {
	for _, line := range strings.Split(unwrap(out), "\n") {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return true
		}
	}
	return false
}

func unwrap(out string) string { return strings.ReplaceAll(out, "\n      ", " ") }

func lineWith(out, word string) string {
	for _, line := range strings.Split(unwrap(out), "\n") {
		if strings.Contains(line, word) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func (c cluster) quota(t *testing.T, namespace string) {
	t.Helper()
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "none"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("0")}}}
	if _, err := c.typed.CoreV1().ResourceQuotas(namespace).Create(t.Context(), q, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// withoutRight takes the right to make Jobs.
func (c cluster) withoutRight(t *testing.T, namespace string) {
	t.Helper()
	role, err := c.typed.RbacV1().Roles(namespace).Get(t.Context(), "continuo", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kept := role.Rules[:0]
	for _, r := range role.Rules {
		if r.APIGroups[0] != "batch" {
			kept = append(kept, r)
		}
	}
	role.Rules = kept
	if _, err := c.typed.RbacV1().Roles(namespace).Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// terminate begins to delete a namespace that a finalizer keeps, and lets it go at the end.
func (c cluster) terminate(t *testing.T, namespace string) {
	t.Helper()
	holder := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "holder", Finalizers: []string{"continuo.dev/e2e"}}}
	if _, err := c.typed.CoreV1().ConfigMaps(namespace).Create(t.Context(), holder, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := c.typed.CoreV1().Namespaces().Delete(t.Context(), namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := c.typed.CoreV1().ConfigMaps(namespace).Patch(context.Background(), "holder", types.MergePatchType,
			[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		if err != nil {
			t.Error(err)
		}
	})
}
