package crash

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/fault"
)

const served = `
training "t" {
  command = ["sh", "-c", "cp token.txt $ML_MODEL_DIR/token; echo '{\"score\": 0.9}' > $ML_METRICS"]
  sources = ["token.txt"]
}
validation "t" {
  model = training.t.model
  threshold "score" { min = 0.5 }
}
deployment "d" {
  model   = validation.t.model
  command = ["python3", "serve.py"]
  sources = ["serve.py"]
  drain   = "1s"
}
`

// serveScript answers every request with the token of its model.
const serveScript = `import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
TOKEN = open(os.environ["ML_MODEL_DIR"] + "/token", "rb").read()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(TOKEN)))
        self.end_headers()
        self.wfile.write(TOKEN)
    do_POST = do_GET
    def log_message(self, *args):
        pass
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
`

func servedProject(t *testing.T) *project {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Fatal("this test serves with python3: install it")
	}
	p := &project{t: t, dir: t.TempDir()}
	p.write("main.ml.hcl", served)
	p.write("serve.py", serveScript)
	t.Cleanup(func() {
		if out, err := p.ml("ML_NOTHING=", 0, "destroy", "-auto-approve", "-no-color", "-lock-timeout=30s"); err != nil {
			t.Errorf("destroy: %v\n%s", err, out)
		}
		p.checkProcesses()
	})
	return p
}

// newToken begins a round: the code moved, so that a new version is trained and served.
func (p *project) newToken() string {
	p.round++
	token := fmt.Sprintf("token-%d", p.round)
	p.write("token.txt", token)
	return token
}

// endpoint is where the deployment answers, as ml tells it.
func (p *project) endpoint() string {
	p.t.Helper()
	out, err := p.ml("ML_NOTHING=", 0, "status", "-json")
	if err != nil {
		p.t.Fatalf("status: %v\n%s", err, out)
	}
	_, rest, found := strings.Cut(out, `"endpoint": "`)
	endpoint, _, _ := strings.Cut(rest, `"`)
	if !found {
		p.t.Fatalf("round %d: nothing serves:\n%s", p.round, out)
	}
	return endpoint
}

// checkServed asks the endpoint, and counts who stands behind it.
func (p *project) checkServed(token, port string) string {
	p.t.Helper()
	endpoint := p.endpoint()
	if port != "" && port != endpoint {
		p.t.Fatalf("round %d: the endpoint moved from %s to %s", p.round, port, endpoint)
	}
	client := http.Client{Timeout: 10 * time.Second}
	res, err := client.Get(endpoint)
	if err != nil {
		p.t.Fatalf("round %d: %v", p.round, err)
	}
	body, err := io.ReadAll(res.Body)
	if cerr := res.Body.Close(); err != nil || cerr != nil || string(body) != token {
		p.t.Fatalf("round %d: answered %q, want %q (%v, %v)", p.round, body, token, err, cerr)
	}
	gateways, servers := 0, 0
	deadline := time.Now().Add(10 * time.Second)
	for {
		gateways, servers = 0, 0
		for _, l := range p.processes() {
			switch {
			case strings.Contains(l, "__gateway"):
				gateways++
			case strings.Contains(l, "serve.py"):
				servers++
			}
		}
		if gateways == 1 && servers == 1 {
			return endpoint
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("round %d: %d gateways and %d servers, want one each: %s", p.round, gateways, servers, strings.Join(p.processes(), "; "))
		}
		<-time.After(20 * time.Millisecond) // the server of the version before may still drain
	}
}

// TestCrashWhileDeploying kills applies while versions are trained and take over:
// afterwards exactly one gateway and one server stand, on the same endpoint,
// with the newest version.
func TestCrashWhileDeploying(t *testing.T) {
	p := servedProject(t)
	endpoint, killedOnes := "", 0
	attack := func(env string, after time.Duration) {
		token := p.newToken()
		if _, err := p.ml(env, after, "apply", "-auto-approve", "-no-color", "-lock-timeout=10s"); killed(err) {
			killedOnes++
		}
		p.recover()
		endpoint = p.checkServed(token, endpoint)
	}
	for _, point := range []string{fault.EngineIntentAfter, fault.EngineActed, fault.EngineDoneBefore, fault.EngineDoneAfter} {
		for _, hit := range []int{2, 3} {
			attack(fmt.Sprintf("%s=%s:%d", fault.Variable, point, hit), 0)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 7))
	atPoints, window := killedOnes, 400.0 // the window follows the machine, as in the random test
	for tries := 0; killedOnes < atPoints+8; tries++ {
		if tries > 200 {
			t.Fatalf("only %d of %d tries hit a living process", killedOnes-atPoints, tries)
		}
		before := killedOnes
		attack("ML_NOTHING=", time.Duration(30+rng.Float64()*window)*time.Millisecond)
		if killedOnes > before {
			window = min(window*1.05, 3000)
		} else {
			window = max(window*0.85, 60)
		}
	}
	if atPoints < 6 {
		t.Fatalf("only %d kills at journal points", atPoints)
	}
	t.Logf("%d kills while deploying", killedOnes)
}
