package runs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/oci/ocitest"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

func TestAModelThatAClusterTrainedIsFetchedOnce(t *testing.T) {
	reg := ocitest.Start(t, "", "")
	client := oci.New(oci.Options{})
	push := func(text string) Made {
		t.Helper()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "model.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := pod.PushModel(t.Context(), client, pod.ModelPlace{Repo: reg.Repo("models/m")}, dir)
		if err != nil {
			t.Fatal(err)
		}
		return Made{Digest: resource.DigestOfHex(m.Digest), URI: m.Ref}
	}
	good, other := push("weights"), push("other weights")
	w, err := NewWorkspace(providertest.Env(t.TempDir()), 0)
	if err != nil {
		t.Fatal(err)
	}
	p := Processes{w}
	if err := p.Stored(t.Context(), good); err != nil {
		t.Errorf("a model in a registry is not stored: %v", err)
	}
	in := Input{Model: good}
	dir, err := p.path(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "model.json")); string(text) != "weights" || err != nil {
		t.Errorf("it holds %q, %v", text, err)
	}
	before := len(reg.Requests(""))
	if _, err := p.path(t.Context(), in); err != nil {
		t.Error(err)
	}
	if err := p.Stored(t.Context(), good); err != nil {
		t.Error(err)
	}
	if n := len(reg.Requests("")) - before; n != 0 {
		t.Errorf("%d requests for what is here", n)
	}

	wrong := Made{Digest: other.Digest, URI: good.URI}
	if _, err := p.path(t.Context(), Input{Model: wrong}); err == nil || !strings.Contains(err.Error(), "somebody stored something else") {
		t.Errorf("another model than was named: %v", err)
	}
	gone := Made{Digest: resource.DigestOf([]byte("gone")), URI: reg.Repo("models/none") + "@" + string(resource.DigestOf([]byte("gone")))}
	if _, err := p.path(t.Context(), Input{Model: gone}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a model that is nowhere: %v", err)
	}
	if err := p.Stored(t.Context(), gone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a model that is nowhere: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(w.Dir, "cache", "fetch-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
