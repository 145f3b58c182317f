//go:build e2e

package scenarios

import (
	"os"
	"path/filepath"
	"testing"
)

// TestL explains: beside each version stands a server of the user's own that KServe starts, and requests for explanations reach that of the
// version that serves, at the deployment's own address.
func TestL(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, os.DirFS(filepath.Join("testdata", "explain")), "kserve")
	w.env = append(w.env, "ML_VAR_base="+here.registry+"/busybox:1")
	w.sklearnRuntime()
	w.ml("apply", "-auto-approve")
	w.serves(1)
	w.unchanged()
	w.explained(`200 {"predictions": [3.0]}`, `200 {"explanations": [[1.0, 2.0]]}`)

	w.edit("tumors.ml.hcl", "factor = 1", "factor = 2")
	w.ml("apply", "-auto-approve")
	w.serves(2)
	w.unchanged()
	w.explained(`200 {"predictions": [6.0]}`, `200 {"explanations": [[2.0, 4.0]]}`)

	w.ml("rollback", "deployment.tumors", "-to", "1")
	w.explained(`200 {"predictions": [3.0]}`, `200 {"explanations": [[1.0, 2.0]]}`)
	w.ml("destroy", "-auto-approve")
	w.gone()
}

// explained asks for a prediction, and why it is that.
func (w *world) explained(prediction, why string) {
	w.Helper()
	at := w.endpoint() + "/v1/models/tumors"
	for path, want := range map[string]string{":predict": prediction, ":explain": why} {
		if got := post(w.Context(), at+path); got != want {
			w.Errorf("%s is answered %s, want %s", path, got, want)
		}
	}
}
