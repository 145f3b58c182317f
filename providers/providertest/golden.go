package providertest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
)

// Golden compares objects with a file. With ML_UPDATE_GOLDEN=1 it writes the file, for a person to read.
func Golden(t *testing.T, file string, objects ...*unstructured.Unstructured) {
	t.Helper()
	var b strings.Builder
	for _, u := range objects {
		u = u.DeepCopy()
		notes := u.GetAnnotations()
		if _, ok := notes[kube.AnnotationApplied]; ok {
			delete(notes, kube.AnnotationApplied) // the same once more
			u.SetAnnotations(notes)
		}
		text, err := json.MarshalIndent(u.Object, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(text, '\n'))
	}
	if os.Getenv("ML_UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("%s: %s", file, d)
	}
}

// Object fails the test when an object could not be made.
func Object(t *testing.T) func(*unstructured.Unstructured, error) *unstructured.Unstructured {
	return func(u *unstructured.Unstructured, err error) *unstructured.Unstructured {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
}
