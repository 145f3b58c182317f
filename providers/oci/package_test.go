package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/oci/ocitest"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

// onnx is a ModelProto with a version and a graph; joblib a pickle that imports a class of scikit-learn.
const (
	onnx   = "\x08\x08\x12\x01x\x3a\x03\x0a\x01n\x42\x02\x10\x11"
	joblib = "\x80\x04\x8c\x0bsklearn.svm\x8c\x03SVC\x93)\x81."
)

func mustJSON(t *testing.T, v any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheDriverKeepsTheContract(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), map[string]string{"serve.py": "print()", "slow.py": "print(1)"})
	spec := config.Package{Mode: "server", Model: m.model(map[string]string{"model.onnx": onnx}), Command: []string{"python3", "serve.py"}, Sources: []string{"serve.py"}, Tags: []string{"latest"}}
	slow := spec
	slow.Sources, slow.Tags = []string{"slow.py"}, nil
	gate := make(chan struct{})
	var once sync.Once
	release := func() { once.Do(func() { close(gate) }) }
	defer release()
	begun := func() int { return m.manifests("packages/conformance") }
	made := 0
	m.reg.Between(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// The first image passes; the slow one waits for its release.
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/sha256:") {
				if made++; made > 1 {
					select {
					case <-gate:
					case <-r.Context().Done():
						return
					}
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	providertest.Run(t, providertest.Case{
		Driver: m.driver, Kind: "package", Spec: encoded(t, spec), Slow: encoded(t, slow), Release: release,
		Count: begun, AfterDelete: resource.PhaseReady, // the image stays under its digest
	})
}

func TestAnOperationIsRemembered(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), map[string]string{"serve.py": "1"})
	spec := config.Package{Mode: "server", Command: []string{"python3", "serve.py"}, Tags: []string{"latest"}}
	one, _ := m.applied("op-1", spec, nil)
	m.reg.Forget()
	two, _ := m.applied("op-1", spec, nil)
	if d := cmp.Diff(one, two); d != "" {
		t.Errorf("outputs (-first +again):\n%s", d)
	}
	if n := len(m.reg.Requests("")); n != 0 {
		t.Errorf("the same operation again made %d requests", n)
	}
	m.reg.Forget()
	three, _ := m.applied("op-2", spec, nil)
	if three != one {
		t.Errorf("another operation with the same inputs made %+v, not %+v", three, one)
	}
	if sent := m.reg.Requests("PATCH "); len(sent) != 0 {
		t.Errorf("it sent blobs that the registry has: %v", sent)
	}
}

func TestAServerImageHoldsCodeAndModel(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), map[string]string{"serve.py": "code", "lib/util.py": "util", "requirements.txt": "numpy", "data.csv": "1", "bin/run": "x"})
	if err := os.Chmod(filepath.Join(m.root, "bin", "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	base := m.base("python", "", map[string]string{"bin/sh": "shell"})
	out, _ := m.applied("op-1", config.Package{
		Mode: "server", Model: m.model(map[string]string{"model.onnx": onnx, "labels.txt": "a"}), Base: base, Command: []string{"python3", "serve.py"},
		Env: map[string]string{"WORKERS": "2"}, Labels: map[string]string{"team": "a"}, User: "65532", Tags: []string{"latest", "v1"},
	}, nil)
	want := map[string]string{"bin/sh": "shell", "app/serve.py": "code", "app/lib/util.py": "util", "app/requirements.txt": "numpy", "models/model.onnx": onnx, "models/labels.txt": "a"}
	if d := cmp.Diff(want, m.pulled(out.URI)); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	img, err := m.client.Resolve(within(t), m.reg.Repo("packages/churn")+":latest")
	if err != nil {
		t.Fatal(err)
	}
	if img.WorkDir != "/app" || img.User != "65532" || !slices.Equal(img.Entrypoint, []string{"python3", "serve.py"}) || len(img.Cmd) > 0 {
		t.Errorf("%+v", img)
	}
	if got := slices.Sorted(slices.Values(img.Env)); !slices.Equal(got, []string{"ML_MODEL_DIR=/models", "PATH=/bin", "WORKERS=2"}) {
		t.Errorf("env %v", got)
	}
	for _, l := range []string{"team", "continuo.dev/address", "continuo.dev/model", "continuo.dev/model-format", "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"} {
		if img.Labels[l] == "" {
			t.Errorf("label %s is missing: %v", l, img.Labels)
		}
	}
	wantOut := config.PackageOutputs{
		Address: "package.churn", Image: strings.TrimPrefix(img.Ref, "oci://"), Digest: string(img.Digest), URI: img.Ref, Format: "onnx", Version: 3,
	}
	if d := cmp.Diff(wantOut, out); d != "" {
		t.Errorf("outputs (-want +got):\n%s", d)
	}
}

func TestAModelImageHoldsTheModelAlone(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), map[string]string{"serve.py": "code"})
	base := m.base("busybox", "", map[string]string{"bin/sh": "shell"})
	out, _ := m.applied("op-1", config.Package{Mode: "model", Model: m.model(map[string]string{"model.onnx": onnx}), Base: base}, nil)
	if d := cmp.Diff(map[string]string{"bin/sh": "shell", "models/model.onnx": onnx}, m.pulled(out.URI)); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
}

func TestTwoMachinesMakeTheSameDigest(t *testing.T) {
	reg := ocitest.Start(t, "", "")
	var digests []string
	for i, umask := range []os.FileMode{0o644, 0o600} {
		m := newMachine(t, reg, map[string]string{"serve.py": "code", "a.py": "a"})
		old := time.Date(2001+i, 2, 3, 4, 5, 6, 0, time.UTC)
		at := filepath.Join(m.root, "serve.py")
		if err := errors.Join(os.Chmod(at, umask), os.Chtimes(at, old, old)); err != nil {
			t.Fatal(err)
		}
		base := m.base("python", "", map[string]string{"bin/sh": "shell"})
		out, _ := m.applied("op", config.Package{Mode: "server", Model: m.model(map[string]string{"model.onnx": onnx}), Base: base, Command: []string{"python3", "serve.py"}, Env: map[string]string{"B": "1", "A": "2"}}, nil)
		digests = append(digests, out.Digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("digests %v", digests)
	}
}

func TestAModelThatRunsCodeNeedsTrust(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), nil)
	spec := config.Package{Mode: "server", Model: m.model(map[string]string{"model.joblib": joblib, "notes.txt": "x"})}
	_, err := m.apply("op-1", spec, nil)
	for _, want := range []string{"package.churn: version 3 of training.churn is sklearn and runs code when it is loaded: model.joblib: a pickle", "sklearn.svm.SVC", "set trust = true"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
	if n := m.manifests("packages/churn"); n != 0 {
		t.Errorf("%d images were pushed", n)
	}
	spec.Trust = true
	out, _ := m.applied("op-2", spec, nil)
	if out.Format != "sklearn" {
		t.Errorf("format %q", out.Format)
	}
	if !slices.ContainsFunc(m.said, func(s string) bool { return strings.HasPrefix(s, "trusted: model.joblib: a pickle") }) {
		t.Errorf("it says nothing of what was trusted: %q", m.said)
	}
}

func TestAModelComesOutOfTheRegistry(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), nil)
	model := m.model(map[string]string{"model.onnx": onnx, "deep/x": "y"})
	hex := resource.Digest(model.Digest).Hex()
	img, err := m.client.PushDir(within(t), oci.PushRequest{Dir: tree(t, map[string]string{"model.onnx": onnx, "deep/x": "y"}), Prefix: "/models", Repo: m.reg.Repo("models/churn"), Tag: oci.ContentTag(hex)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(m.root, ".ml")); err != nil {
		t.Fatal(err)
	}
	model.URI = img.Ref
	out, _ := m.applied("op-1", config.Package{Mode: "server", Model: model}, nil)
	if d := cmp.Diff(map[string]string{"models/model.onnx": onnx, "models/deep/x": "y"}, m.pulled(out.URI)); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	if err := os.RemoveAll(filepath.Join(m.root, ".ml", "cache")); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 4)
	for i := range cap(errs) { // several blocks with one model
		req := m.request(fmt.Sprintf("op-many-%d", i), config.Package{Mode: "server", Model: model}, nil)
		go func() {
			_, err := m.driver.Apply(within(t), req)
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	model.Digest = string(resource.DigestOf([]byte("another")))
	if _, err := m.apply("op-2", config.Package{Mode: "server", Model: model}, nil); err == nil || !strings.Contains(err.Error(), "holds a model with digest") {
		t.Errorf("another model under the reference: %v", err)
	}
}

// The registry of the tests keeps blobs for all repositories alike; so a handler stands in for one that does not.
func TestAModelThatTheRegistryHasIsNotSentAgain(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), nil)
	contents := map[string]string{"model.onnx": onnx, "weights.bin": strings.Repeat("w", 1<<16)}
	model := m.model(contents)
	img, err := m.client.PushDir(within(t), oci.PushRequest{Dir: tree(t, contents), Prefix: "models", Repo: m.reg.Repo("models/churn")})
	if err != nil {
		t.Fatal(err)
	}
	model.URI = img.Ref
	var mu sync.Mutex
	var mounted []string
	var sent int64
	m.reg.Between(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			sent += max(r.ContentLength, 0)
			there := strings.HasPrefix(r.URL.Path, "/v2/ml/packages/churn/blobs/")
			switch {
			case there && r.Method == http.MethodHead:
				http.NotFound(w, r)
			case there && r.Method == http.MethodPost && r.URL.Query().Get("from") == "ml/models/churn":
				mounted = append(mounted, r.URL.Query().Get("mount"))
				w.WriteHeader(http.StatusCreated)
			default:
				next.ServeHTTP(w, r)
			}
		})
	})
	out, _ := m.applied("op-1", config.Package{Mode: "server", Model: model}, nil)
	mu.Lock()
	defer mu.Unlock()
	if len(mounted) != 1 || sent >= 1<<16 {
		t.Errorf("mounted %v, sent %d bytes", mounted, sent)
	}
	if out.Version != 3 {
		t.Errorf("%+v", out)
	}
}

func TestReadSeesWhatHappenedInTheRegistry(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), map[string]string{"serve.py": "1"})
	spec := config.Package{Mode: "server", Command: []string{"python3", "serve.py"}, Tags: []string{"latest", "v1"}}
	one, rec := m.applied("op-1", spec, nil)
	if o := m.read(rec); o.Phase != resource.PhaseReady || len(o.Drift) > 0 || o.Message != "" {
		t.Fatalf("right after: %+v", o)
	}
	m.write("serve.py", "2")
	other := m.base("packages/churn", "", map[string]string{"x": "other"})
	moved, err := m.client.Resolve(within(t), other)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := m.client.Untag(within(t), m.reg.Repo("packages/churn"), "latest", resource.Digest(one.Digest)); err != nil || !ok {
		t.Fatalf("untag: %v %v", ok, err)
	}
	want := []providers.Drift{
		{Path: "tags.latest", Old: one.Digest, New: "(no such tag)"},
		{Path: "tags.v1", Old: one.Digest, New: string(moved.Digest)},
	}
	if d := cmp.Diff(want, m.read(rec).Drift); d != "" {
		t.Errorf("drift (-want +got):\n%s", d)
	}
	if err := m.pack.w.Close(); err != nil { // as at the end of a command; the next one reads the files anew
		t.Fatal(err)
	}
	two, rec := m.applied("op-2", spec, rec)
	if two.Digest == one.Digest {
		t.Error("new code has the old digest")
	}
	if o := m.read(rec); o.Phase != resource.PhaseReady || len(o.Drift) > 0 {
		t.Errorf("after the next apply: %+v", o)
	}
	remove(t, m, two.Digest)
	if o := m.read(rec); o.Phase != resource.PhaseMissing || !strings.Contains(o.Message, two.Image) {
		t.Errorf("after the image was removed: %+v", o)
	}
}

// remove takes an image out of the registry, as a garbage collection does.
func remove(t *testing.T, m *machine, digest string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodDelete, "http://"+m.reg.Host+"/v2/ml/packages/churn/manifests/"+digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestTagsThatAreNotWantedAnyMoreGo(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), map[string]string{"serve.py": "1"})
	spec := config.Package{Mode: "server", Command: []string{"python3", "serve.py"}, Tags: []string{"latest", "old"}}
	_, rec := m.applied("op-1", spec, nil)
	spec.Tags = []string{"latest"}
	_, rec = m.applied("op-2", spec, rec)
	repo := m.reg.Repo("packages/churn")
	if d, err := m.client.Tagged(within(t), repo, "old"); err != nil || d != "" {
		t.Errorf("the old tag points to %q: %v", d, err)
	}
	spec.Image = strings.TrimPrefix(m.reg.Repo("elsewhere"), "oci://")
	out, rec := m.applied("op-3", spec, rec)
	if !strings.HasPrefix(out.Image, spec.Image+"@sha256:") {
		t.Errorf("image %s", out.Image)
	}
	if d, err := m.client.Tagged(within(t), repo, "latest"); err != nil || d != "" {
		t.Errorf("the tag in the repository before points to %q: %v", d, err)
	}
	if err := m.driver.Delete(within(t), providers.DeleteRequest{Address: address, Record: rec}); err != nil {
		t.Fatal(err)
	}
	if d, err := m.client.Tagged(within(t), m.reg.Repo("elsewhere"), "latest"); err != nil || d != "" {
		t.Errorf("after delete the tag points to %q: %v", d, err)
	}
	if _, err := m.client.Resolve(within(t), out.URI); err != nil {
		t.Errorf("the image must stay under its digest: %v", err)
	}
}

func TestDeleteLeavesWhatIsNotOurs(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), map[string]string{"serve.py": "1"})
	_, rec := m.applied("op-1", config.Package{Mode: "server", Command: []string{"python3", "serve.py"}, Tags: []string{"v1", "v2"}}, nil)
	m.base("packages/churn", "", map[string]string{"x": "other"}) // takes v1
	other, err := m.client.Tagged(within(t), m.reg.Repo("packages/churn"), "v1")
	if err != nil {
		t.Fatal(err)
	}
	m.reg.Between(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete {
				http.Error(w, `{"errors":[{"code":"UNSUPPORTED"}]}`, http.StatusMethodNotAllowed)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	m.said = nil
	req := providers.DeleteRequest{Address: address, Record: rec, Emit: func(e resource.Event) { m.said = append(m.said, e.Message) }}
	if err := m.driver.Delete(within(t), req); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"tag v1 of", "tag v2 stays"} {
		if len(m.said) != 2 || !strings.Contains(m.said[i], want) {
			t.Errorf("it said %q, want %q", m.said, want)
		}
	}
	if now, err := m.client.Tagged(within(t), m.reg.Repo("packages/churn"), "v1"); err != nil || now != other {
		t.Errorf("somebody else's tag points to %s, not %s: %v", now, other, err)
	}
}

func TestAPlanAsksNoRegistry(t *testing.T) {
	reg := ocitest.Start(t, "", "")
	m := newMachine(t, reg, map[string]string{"serve.py": "1", "Dockerfile": "FROM scratch", "x.txt": "x"})
	reg.Forget()
	probes := map[string]string{}
	for name, spec := range map[string]config.Package{
		"code":       {Mode: "server", Command: []string{"python3", "serve.py"}, Base: "nowhere.invalid/x"},
		"dockerfile": {Mode: "server", Dockerfile: "Dockerfile", Sources: []string{"x.txt"}},
		"all":        {Mode: "server", Dockerfile: "Dockerfile"},
		"model":      {Mode: "model", Base: "nowhere.invalid/x"},
	} {
		got, err := m.pack.Probe(t.Context(), providers.ProbeRequest{Address: address, Spec: encoded(t, spec)})
		if err != nil {
			t.Fatal(err)
		}
		probes[name] = got["code"]
	}
	if n := len(reg.Requests("")); n != 0 {
		t.Errorf("%d requests", n)
	}
	if probes["model"] != "" || len(slices.Compact(slices.Sorted(maps.Values(probes)))) != len(probes) {
		t.Errorf("probes %v", probes)
	}
}
