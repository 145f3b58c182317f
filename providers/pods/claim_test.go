package pods

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/oci/ocitest"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/internal/source"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
)

func theClaim() reading {
	return reading{
		claim: source.Claim{Name: "clinic", Path: "a/*.csv"}, text: "pvc://clinic/a/*.csv", addr: resource.Address{Kind: "dataset", Name: "tumors"},
		block: ClaimBlock{Namespace: "ml", Labels: map[string]string{"team": "risk", labelStage: "ours wins"}, NodeSelector: map[string]string{"disk": "near"},
			ImagePullSecrets: []string{"registry"}, StartTimeout: time.Minute, ReadTimeout: time.Hour},
	}
}

func TestThePodThatReadsAClaimCanChangeNothing(t *testing.T) {
	u, err := scanJob(theClaim(), "registry/runner@sha256:1", `{"v":1}`)
	if err != nil {
		t.Fatal(err)
	}
	var j batchv1.Job
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &j); err != nil {
		t.Fatal(err)
	}
	p := j.Spec.Template.Spec
	for _, v := range p.Volumes {
		if v.PersistentVolumeClaim != nil && !v.PersistentVolumeClaim.ReadOnly {
			t.Errorf("the volume can be written: %+v", v)
		}
	}
	for _, m := range p.Containers[0].VolumeMounts {
		if !m.ReadOnly {
			t.Errorf("the mount can be written: %+v", m)
		}
	}
	if c := p.Containers[0].SecurityContext; *c.AllowPrivilegeEscalation || !*c.ReadOnlyRootFilesystem || *p.AutomountServiceAccountToken {
		t.Errorf("it may do more than it has to: %+v", c)
	}
	if !strings.HasPrefix(u.GetName(), "tumors-scan-") && !strings.HasPrefix(u.GetName(), "dataset-tumors-scan-") {
		t.Errorf("it is called %s", u.GetName())
	}
	other, err := scanJob(theClaim(), "x", "")
	if err != nil || other.GetName() == u.GetName() {
		t.Errorf("two who plan at the same time meet at %s (%v)", u.GetName(), err)
	}
	u.SetName("NAME")
	text, err := yaml.Marshal(u.Object)
	if err != nil {
		t.Fatal(err)
	}
	const path = "testdata/scan.yaml"
	if *update {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(text)); d != "" {
		t.Errorf("%s differs (-update writes it):\n%s", path, d)
	}
}

// claimServer is an API server with one claim, whose Jobs have ended, with last words, as soon as they are made. The scenario of claims
// meets a real one.
type claimServer struct {
	mu      sync.Mutex
	phase   string // of the claim; "" = there is none
	word    func(pod.ScanTask) pod.Scanned
	exit    int
	failed  bool
	tasks   []pod.ScanTask
	jobs    map[string]string
	deleted int
}

func (s *claimServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	at := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	last := at[len(at)-1]
	missing := func(kind string) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"kind":"Status","status":"Failure","reason":"NotFound","code":404,"details":{"name":%q,"kind":%q}}`, last, kind)
	}
	switch {
	case r.URL.Path == "/apis/batch/v1":
		fmt.Fprint(w, `{"kind":"APIResourceList","resources":[{"name":"jobs","kind":"Job","namespaced":true}]}`)
	case r.URL.Path == "/api/v1":
		fmt.Fprint(w, `{"kind":"APIResourceList","resources":[{"name":"pods","kind":"Pod","namespaced":true},{"name":"persistentvolumeclaims","kind":"PersistentVolumeClaim","namespaced":true},{"name":"events","kind":"Event","namespaced":true}]}`)
	case strings.Contains(r.URL.Path, "/persistentvolumeclaims/") && s.phase == "":
		missing("persistentvolumeclaims")
	case strings.Contains(r.URL.Path, "/persistentvolumeclaims/"):
		fmt.Fprintf(w, `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"clinic","namespace":"ns","uid":"c"},"spec":{"volumeName":"pv-1"},"status":{"phase":%q}}`, s.phase)
	case r.Method == http.MethodPatch:
		b, _ := io.ReadAll(r.Body)
		var j batchv1.Job
		if err := yaml.Unmarshal(b, &j); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var t pod.ScanTask
		if err := json.Unmarshal([]byte(j.Spec.Template.Spec.Containers[0].Env[0].Value), &t); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.tasks = append(s.tasks, t)
		kind := "Complete"
		if s.failed {
			kind = "Failed"
		}
		s.jobs[last] = fmt.Sprintf(`{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":%q,"namespace":"ns","uid":"u"},"spec":{"selector":{"matchLabels":{"x":"y"}}},"status":{"conditions":[{"type":%q,"status":"True"}]}}`, last, kind)
		fmt.Fprint(w, s.jobs[last])
	case strings.HasSuffix(r.URL.Path, "/pods"):
		message := ""
		if s.word != nil {
			word := s.word(s.tasks[len(s.tasks)-1])
			word.V = pod.TaskVersion
			b, _ := json.Marshal(word)
			message = string(b)
		}
		b, _ := json.Marshal(corev1.PodList{Items: []corev1.Pod{{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: scanName,
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: int32(s.exit), Message: message}}}}}}}})
		_, _ = w.Write(b)
	case strings.HasSuffix(r.URL.Path, "/events"):
		fmt.Fprint(w, `{"kind":"EventList","items":[]}`)
	case r.Method == http.MethodDelete:
		delete(s.jobs, last)
		s.deleted++
		fmt.Fprint(w, `{"kind":"Status","status":"Success"}`)
	case s.jobs[last] == "":
		missing("jobs")
	default:
		fmt.Fprint(w, s.jobs[last])
	}
}

// on serves claims through s, with a registry.
func (s *claimServer) on(t *testing.T) (*claims, *ocitest.Registry) {
	t.Helper()
	s.jobs = map[string]string{}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	reg := ocitest.Start(t, "", "")
	client := oci.New(oci.Options{})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ml"), []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	img, err := client.Build(t.Context(), oci.BuildRequest{Layers: []oci.Layer{{Dir: dir}}, Repo: reg.Repo("runner")})
	if err != nil {
		t.Fatal(err)
	}
	store := Store{URI: reg.Repo(""), Client: client}
	e := &Env{Artifacts: store, Runner: &Runner{Store: store, Given: img.Ref}, Cluster: func() (*kube.Client, error) { return clientOf(t, srv.URL, -1), nil }}
	return &claims{Env: e, block: func(runs.ClaimRequest) (*ClaimBlock, error) { return nil, nil }, seen: map[string]*readClaim{}}, reg
}

var hexOf = strings.Repeat("ab", 32)

func ask() runs.ClaimRequest {
	return runs.ClaimRequest{Address: resource.Address{Kind: "dataset", Name: "tumors"}, Source: "pvc://clinic/x.csv", Want: resource.DigestOfHex(hexOf)}
}

func TestAClaimIsReadOnceAndNothingStays(t *testing.T) {
	s := &claimServer{phase: "Bound", word: func(pod.ScanTask) pod.Scanned { return pod.Scanned{Hex: hexOf, Files: 1, Bytes: 7} }}
	c, _ := s.on(t)
	for range 2 {
		v, err := c.Digest(t.Context(), ask())
		if err != nil || v != (source.Version{Hex: hexOf, Files: 1, Bytes: 7}) {
			t.Fatalf("%+v, %v", v, err)
		}
	}
	if want := []pod.ScanTask{{V: 1, Root: claimDir, Path: "x.csv"}}; !cmp.Equal(want, s.tasks) || s.deleted != 1 {
		t.Errorf("the pods were told %+v, and %d Jobs were deleted", s.tasks, s.deleted)
	}
	c.forget()
	if _, err := c.Digest(t.Context(), ask()); err != nil || len(s.tasks) != 2 {
		t.Errorf("what was forgotten is not read anew: %v", err)
	}
}

func TestWhatAPodStoredIsFetched(t *testing.T) {
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "x.csv"), []byte("id\n1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &claimServer{phase: "Bound"}
	c, reg := s.on(t)
	stored, err := pod.PushData(t.Context(), c.Artifacts.Client, reg.Repo("data"), filepath.Join(data, "x.csv"))
	if err != nil {
		t.Fatal(err)
	}
	s.word = func(pod.ScanTask) pod.Scanned { return pod.Scanned{Hex: hexOf, Files: 1, Ref: stored.Ref} }
	at := filepath.Join(t.TempDir(), "files")
	v, err := c.Fetch(t.Context(), ask(), at)
	if err != nil || v.Hex != hexOf || v.IsDir {
		t.Fatalf("%+v, %v", v, err)
	}
	if b, err := os.ReadFile(filepath.Join(at, "x.csv")); err != nil || string(b) != "id\n1\n" {
		t.Errorf("%q, %v", b, err)
	}
	if got := s.tasks[0]; got.Want != hexOf || !strings.HasSuffix(got.Repo, "/data") || s.deleted != 1 {
		t.Errorf("the pod was told %+v", got)
	}
}

func TestWhatStandsInTheWayOfAClaimIsOneLine(t *testing.T) {
	word := func(w pod.Scanned) func(pod.ScanTask) pod.Scanned { return func(pod.ScanTask) pod.Scanned { return w } }
	for name, c := range map[string]struct {
		s    *claimServer
		why  string
		jobs int
	}{
		"no claim":               {&claimServer{}, "there is no claim clinic", 0},
		"waits for a consumer":   {&claimServer{phase: "Pending"}, "bound to no volume yet", 0},
		"lost":                   {&claimServer{phase: "Lost"}, "has lost its volume pv-1", 0},
		"nothing there":          {&claimServer{phase: "Bound", failed: true, exit: pod.ExitFailed, word: word(pod.Scanned{Missing: true, Error: "read x.csv: none"})}, "there is nothing on the claim under that name", 1},
		"moved":                  {&claimServer{phase: "Bound", failed: true, exit: pod.ExitFailed, word: word(pod.Scanned{Moved: true, Hex: hexOf, Error: "now it is other"})}, files.ErrMoved.Error(), 1},
		"being written":          {&claimServer{phase: "Bound", failed: true, exit: pod.ExitFailed, word: word(pod.Scanned{Error: "digest x.csv: changed while it was read"})}, "changed while it was read", 1},
		"killed":                 {&claimServer{phase: "Bound", failed: true, exit: 137}, "gave no answer", 1},
		"stored, nobody where":   {&claimServer{phase: "Bound", word: word(pod.Scanned{Hex: hexOf})}, "runner_image of this version", 1},
		"of another ml's runner": {&claimServer{phase: "Bound"}, "no last word", 1},
	} {
		t.Run(name, func(t *testing.T) {
			on, _ := c.s.on(t)
			_, err := on.Fetch(t.Context(), ask(), filepath.Join(t.TempDir(), "files"))
			if err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "pvc://clinic/x.csv in namespace ns") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, c.why)
			}
			if errors.Is(err, files.ErrMoved) != (name == "moved") {
				t.Errorf("moved: %v", err)
			}
			if len(c.s.tasks) != c.jobs || c.s.deleted != c.jobs {
				t.Errorf("%d Jobs were made, and %d deleted", len(c.s.tasks), c.s.deleted)
			}
		})
	}
}

func TestWhoGivesUpLeavesNoPod(t *testing.T) {
	s := &claimServer{phase: "Bound"}
	c, _ := s.on(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.word = func(pod.ScanTask) pod.Scanned { cancel(); return pod.Scanned{Hex: hexOf} }
	if _, err := c.Digest(ctx, ask()); err == nil {
		t.Log("it had the answer before it was told")
	}
	if s.deleted != 1 || len(s.jobs) > 0 {
		t.Errorf("%d Jobs were deleted, left are %v", s.deleted, s.jobs)
	}
	c.Cluster = func() (*kube.Client, error) { return nil, errors.New("no kubeconfig") }
	c.forget()
	if _, err := c.Digest(t.Context(), ask()); err == nil || err.Error() != "no kubeconfig" {
		t.Errorf("%v", err)
	}
}

func TestAPlanNeedsARegistryToReadAClaim(t *testing.T) {
	s := &claimServer{phase: "Bound"}
	c, _ := s.on(t)
	c.Artifacts.URI = ".ml/artifacts"
	if _, err := c.Digest(t.Context(), ask()); err == nil || !strings.Contains(err.Error(), "pods need a registry") || len(s.tasks) > 0 {
		t.Errorf("%v, told %v", err, s.tasks)
	}
}
