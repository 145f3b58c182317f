package pods

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/internal/runner"
)

// oneJob is a kind whose object has all the pods that its labels find.
type oneJob struct{ Kind }

func (oneJob) Container() string { return "main" }

func (oneJob) Owns(*unstructured.Unstructured, *corev1.Pod) bool { return true }

// logServer is an API server that has one Job with one pod and cuts the pod's log off wherever a test wants. It stands for an API server
// that goes away in the middle of a line, which none does on demand.
type logServer struct {
	mu    sync.Mutex
	lines []string // with their times
	cuts  []int    // after how many bytes each answer breaks off; past its end, none does
	since []string // what was asked for
	over  bool
	mute  int // how many answers are the kubelet's own words and not the log
}

func (s *logServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	state, status := `{"running":{}}`, `{}`
	if s.over {
		state, status = `{"terminated":{"exitCode":0}}`, `{"conditions":[{"type":"Complete","status":"True"}]}`
	}
	pod := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"ns","ownerReferences":[{"uid":"j"}]},"status":{"containerStatuses":[{"name":"main","state":` + state + `}]}}`
	switch path := r.URL.Path; {
	case path == "/api/v1":
		fmt.Fprint(w, `{"kind":"APIResourceList","resources":[{"name":"pods","kind":"Pod","namespaced":true},{"name":"events","kind":"Event","namespaced":true}]}`)
	case path == "/apis/batch/v1":
		fmt.Fprint(w, `{"kind":"APIResourceList","resources":[{"name":"jobs","kind":"Job","namespaced":true}]}`)
	case strings.HasSuffix(path, "/log"):
		s.log(w, r)
	case strings.HasSuffix(path, "/pods"):
		fmt.Fprint(w, `{"kind":"PodList","items":[`+pod+`]}`)
	case strings.HasSuffix(path, "/pods/p"):
		fmt.Fprint(w, pod)
	default:
		fmt.Fprint(w, `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j","namespace":"ns","uid":"j"},"status":`+status+`}`)
	}
}

func (s *logServer) log(w http.ResponseWriter, r *http.Request) {
	since := r.URL.Query().Get("sinceTime")
	s.since = append(s.since, since)
	var from time.Time
	if since != "" {
		from, _ = time.Parse(time.RFC3339, since)
	}
	var text strings.Builder
	for _, l := range s.lines {
		at, _, _ := strings.Cut(l, " ")
		if t, err := time.Parse(time.RFC3339Nano, at); err != nil || !t.Before(from) {
			text.WriteString(l + "\n")
		}
	}
	out := text.String()
	if s.mute > 0 {
		s.mute--
		s.over = true
		fmt.Fprint(w, "unable to retrieve container logs for containerd://4f2a")
		return
	}
	if len(s.cuts) == 0 {
		s.over = true
		fmt.Fprint(w, out)
		return
	}
	n := min(s.cuts[0], len(out))
	s.cuts = s.cuts[1:]
	fmt.Fprint(w, out[:n])
	if err := http.NewResponseController(w).Flush(); err != nil {
		panic(err)
	}
	panic(http.ErrAbortHandler)
}

func (s *logServer) start(t *testing.T) *kube.Client {
	t.Helper()
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	srv.Config.ErrorLog = nil
	return clientOf(t, srv.URL, time.Second)
}

func theJob() known {
	return known{placed: placed{Job: kube.Ref{Group: "batch", Version: "v1", Kind: "Job", Namespace: "ns", Name: "j"}}, created: created{UID: "j"}}
}

// tenLines are lines of two seconds, some of the very same time.
func tenLines() (with, without []string) {
	for i := range 10 {
		at := time.Date(2026, 11, 1, 10, 0, i/5, (i%5)/2*1000, time.UTC)
		with = append(with, fmt.Sprintf("%s line %d", at.Format(time.RFC3339Nano), i))
		without = append(without, fmt.Sprintf("line %d", i))
	}
	return with, without
}

func TestALogThatBreaksOffIsMirroredOnceAndWhole(t *testing.T) {
	with, without := tenLines()
	whole := len(strings.Join(with, "\n"))
	for cut := 0; cut <= whole; cut += 23 {
		t.Run(fmt.Sprintf("after %d bytes", cut), func(t *testing.T) {
			t.Parallel()
			s := &logServer{lines: with, cuts: []int{cut, cut / 2}}
			c, dir := s.start(t), folder(t.TempDir())
			w := &watch{client: c, kind: oneJob{}, k: theJob(), sink: func(i int) (sink, error) { return newMirror(dir, i, nil) }}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := w.run(ctx, nil); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(runner.LogPath(string(dir), 0))
			if err != nil || string(got) != strings.Join(without, "\n")+"\n" {
				t.Errorf("%v\n%s", err, got)
			}
			if len(s.since) != 3 {
				t.Errorf("the log was opened %d times", len(s.since))
			}
		})
	}
}

// A kubelet that does not find the log of a container that was killed says so in the place of the log, with the code of a success.
func TestWhatAKubeletSaysItselfIsNoLineOfTheLog(t *testing.T) {
	with, without := tenLines()
	for _, c := range []struct {
		mute int
		want string
	}{{1, strings.Join(without, "\n") + "\n"}, {99, ""}} {
		s := &logServer{lines: with, mute: c.mute}
		client, dir := s.start(t), folder(t.TempDir())
		w := &watch{client: client, kind: oneJob{}, k: theJob(), sink: func(i int) (sink, error) { return newMirror(dir, i, nil) }}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := w.run(ctx, nil); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(runner.LogPath(string(dir), 0)); err != nil || string(got) != c.want {
			t.Errorf("mute %d times: %v\n%s", c.mute, err, got)
		}
	}
}

func TestAMirrorGoesOnWhereTheProcessBeforeItNoted(t *testing.T) {
	dir := folder(t.TempDir())
	take := func(lines ...string) (steps []float64) {
		m, err := newMirror(dir, 0, func(p runner.Progress) { steps = append(steps, p.Step) })
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			if err := m.line(cursor{Pod: "p", Time: time.Unix(1, 0), Same: 1}, l); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.close(); err != nil {
			t.Fatal(err)
		}
		return steps
	}
	if got := take("one", "\x1eml {\"step\":1,\"values\":{\"loss\":0.5}}"); !reflect.DeepEqual(got, []float64{1}) {
		t.Errorf("%v", got)
	}
	// A process that died had written more than it noted.
	for _, name := range []string{"stdout.log", progressFile} {
		f, err := os.OpenFile(dir.at(name), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("not noted"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := take("\x1e\x1ecommand's own", "\x1eml {\"step\":2}"); !reflect.DeepEqual(got, []float64{1, 2}) {
		t.Errorf("progress comes from the first line on: %v", got)
	}
	log, err := os.ReadFile(dir.at("stdout.log"))
	if err != nil || string(log) != "one\n\x1ecommand's own\n" {
		t.Errorf("%q, %v", log, err)
	}
	progress, err := os.ReadFile(dir.at(progressFile))
	if err != nil || string(progress) != "{\"loss\":0.5,\"step\":1}\n{\"step\":2}\n" {
		t.Errorf("%q, %v", progress, err)
	}
}

func TestAWatchEndsWithItsContextAndWithItsJob(t *testing.T) {
	s := &logServer{cuts: make([]int, 1000)}
	c := s.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	w := &watch{client: c, kind: oneJob{}, k: theJob(), sink: func(int) (sink, error) { return discard{}, nil }}
	if err := w.run(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	other := theJob()
	other.created.UID = "another"
	if err := (&watch{client: c, kind: oneJob{}, k: other}).run(t.Context(), nil); !errors.Is(err, errGone) {
		t.Errorf("a Job made anew is not the one meant: %v", err)
	}
}

func TestARunThatNobodyCanLookAtIsNotWaitedForWithoutEnd(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no quorum", http.StatusServiceUnavailable)
	}))
	t.Cleanup(srv.Close)
	c := clientOf(t, srv.URL, -1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := (&watch{client: c, kind: oneJob{}, k: theJob(), unseenFor: 300 * time.Millisecond}).run(ctx, nil)
	if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "could not be looked at for") || !strings.Contains(err.Error(), "no quorum") {
		t.Errorf("%v", err)
	}
}
