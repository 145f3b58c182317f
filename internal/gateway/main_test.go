package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The test binary is also the gateway and the model server that the tests run
// as real processes.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "__gateway" {
		os.Exit(Main(os.Args[2]))
	}
	if len(os.Args) == 2 && os.Args[1] == "__model" {
		os.Exit(modelServer())
	}
	if len(os.Args) == 3 && os.Args[1] == "__squat" {
		os.Exit(squat(os.Args[2]))
	}
	if len(os.Args) == 5 && os.Args[1] == "__flood" {
		os.Exit(flood(os.Args[2], os.Args[3], os.Args[4]))
	}
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// squat holds a port until it is killed or its parent's test is over.
func squat(port string) int {
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer l.Close()
	<-time.After(time.Minute)
	return 0
}

// losePort has somebody else take the port of this server, the first three
// times that it is started; file keeps one pid per time.
func losePort(file string) bool {
	pids, _ := os.ReadFile(file)
	if strings.Count(string(pids), "\n") >= 3 {
		return false
	}
	thief := exec.Command(os.Args[0], "__squat", os.Getenv("PORT"))
	if err := detach(thief); err != nil {
		return false
	}
	if err := thief.Start(); err != nil {
		return false
	}
	for {
		c, err := net.Dial("tcp", "127.0.0.1:"+os.Getenv("PORT"))
		if err == nil {
			_ = c.Close()
			break
		}
	}
	pids = fmt.Appendf(pids, "%d\n", thief.Process.Pid)
	return os.WriteFile(file, pids, 0o600) == nil
}

// modelServer is a small model server. FAIL_EVERY=n fails every n-th
// prediction, DELAY slows each down, DIE ends at once with a last word, VALUE
// is the prediction.
func modelServer() int {
	if why := os.Getenv("DIE"); why != "" {
		fmt.Fprintln(os.Stderr, why)
		return 7
	}
	if file := os.Getenv("LOSE_PORT"); file != "" && losePort(file) {
		fmt.Fprintln(os.Stderr, "address already in use")
		return 1
	}
	if file := os.Getenv("CHILD"); file != "" {
		child := exec.Command(os.Args[0], "__squat", "0")
		if err := child.Start(); err != nil {
			return 1
		}
		if err := os.WriteFile(file, fmt.Append(nil, child.Process.Pid), 0o600); err != nil {
			return 1
		}
	}
	delay, _ := time.ParseDuration(os.Getenv("DELAY"))
	every, _ := strconv.ParseInt(os.Getenv("FAIL_EVERY"), 10, 64)
	value := os.Getenv("VALUE")
	if value == "" {
		value = "0"
	}
	if host := os.Getenv("PREDICTOR_HOST"); host != "" {
		return serveModel(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			resp, err := http.Post("http://"+host+r.URL.Path, "application/json", r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			defer resp.Body.Close()
			w.Header().Set("X-Transformed", "yes")
			w.WriteHeader(resp.StatusCode)
			_, _ = io.Copy(w, resp.Body)
		}))
	}
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if delay > 0 {
			<-time.After(delay)
		}
		if r.Method == http.MethodPost && every > 0 && n.Add(1)%every == 0 {
			http.Error(w, `{"error":"injected"}`, http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"predictions": [%s]}`, value)
	})
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(9) })
	mux.HandleFunc("/until", func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := os.Stat(r.URL.Query().Get("file")); err == nil || r.Context().Err() != nil {
				break
			}
		}
		_, _ = io.WriteString(w, "waited")
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // the next one needs a new connection
		<-time.After(200 * time.Millisecond)
	})
	mux.HandleFunc("/sized", sized)
	mux.HandleFunc("/chunks", sized)
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(os.Environ())
	})
	return serveModel(mux)
}

func serveModel(h http.Handler) int {
	err := http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), h)
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// rig is a gateway process on a folder of its own.
type rig struct {
	t   *testing.T
	dir string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "gw")}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := Stop(ctx, r.dir, time.Second); err != nil {
			t.Errorf("stop: %v", err)
		}
		if t.Failed() {
			t.Logf("gateway log:\n%s", logTail(folder(r.dir).log()))
		}
	})
	return r
}

func (r *rig) start() {
	r.t.Helper()
	if err := Start(r.t.Context(), []string{os.Args[0]}, r.dir); err != nil {
		r.t.Fatal(err)
	}
}

// desired is a deployment of the test model server with the given version.
func desired(version int, env ...string) Desired {
	d := Desired{
		Name: "m", Address: "deployment.m",
		Model: Version{Number: version, Digest: fmt.Sprintf("sha256:%d", version)},
		Server: Server{Command: []string{os.Args[0], "__model"}, Env: map[string]string{
			"VALUE": strconv.Itoa(version),
		}},
		Readiness: Readiness{Timeout: 20 * time.Second},
		Rollout:   Rollout{Strategy: Rolling},
		Drain:     5 * time.Second,
		Capture:   Capture{Enabled: true},
	}
	for _, kv := range env {
		k, v, _ := strings.Cut(kv, "=")
		d.Server.Env[k] = v
	}
	return d
}

// apply applies d and waits for its outcome.
func (r *rig) apply(d Desired) Live {
	r.t.Helper()
	return r.wait(r.begin(d))
}

func (r *rig) begin(d Desired) int64 {
	r.t.Helper()
	gen, err := Apply(r.t.Context(), r.dir, d)
	if err != nil {
		r.t.Fatal(err)
	}
	return gen
}

func (r *rig) wait(gen int64) Live {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	live, err := Wait(ctx, r.dir, gen, func(m string) { r.t.Log(m) })
	if err != nil {
		r.t.Fatal(err)
	}
	return live
}

// until polls Read until ok or a deadline.
func (r *rig) until(what string, ok func(Live) bool) Live {
	r.t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		live, err := Read(r.dir)
		if err != nil {
			r.t.Fatal(err)
		}
		if ok(live) {
			return live
		}
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("%s did not come; live: %+v", what, live)
		}
	}
}

func (r *rig) live() Live {
	r.t.Helper()
	live, err := Read(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	return live
}

// answer is what a client saw.
type answer struct {
	status  int
	version string
	id      string
	body    string
	header  http.Header
}

func (r *rig) post(path, body string) (answer, error) {
	return r.do(http.MethodPost, path, body, nil)
}

func (r *rig) do(method, path, body string, header http.Header) (answer, error) {
	req, err := http.NewRequest(method, r.live().Endpoint+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if header != nil {
		req.Header = header
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header.Get("ML-Model-Version"), resp.Header.Get("ML-Prediction-Id"), string(data), resp.Header}, err
}

func (r *rig) mustPost(path, body string) answer {
	r.t.Helper()
	a, err := r.post(path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}
