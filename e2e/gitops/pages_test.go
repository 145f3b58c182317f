//go:build e2e && linux

package gitops

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// desk is a daemon, the real program, over the quickstart in a plain repository: what people look at.
type desk struct {
	t              *testing.T
	dir, url, repo string
	bin            string
	cmd            *exec.Cmd
	said           *saying
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	at := freePort(t)
	w := &desk{t: t, dir: t.TempDir(), url: "http://" + at, bin: must[string](t)(program()), said: &saying{}}
	w.repo = filepath.Join(w.dir, "repo")
	ok(t, os.CopyFS(w.repo, os.DirFS("../../examples/quickstart")))
	ok(t, os.RemoveAll(filepath.Join(w.repo, ".ml")))
	w.git("init", "-q", "-b", "main")
	w.push("The tumour project")
	ok(t, os.WriteFile(filepath.Join(w.dir, "daemon.hcl"), fmt.Appendf(nil, "listen = %q\ndata = \"data\"\nrepository \"models\" {\n url = %q\n branch = \"main\"\n interval = \"5s\"\n mode = \"apply\"\n}\n", at, w.repo), 0o600))
	w.cmd = exec.Command(w.bin, "daemon")
	w.cmd.Dir, w.cmd.Stdout, w.cmd.Stderr = w.dir, w.said, w.said
	ok(t, w.cmd.Start())
	t.Cleanup(func() {
		err := errors.Join(w.cmd.Process.Signal(syscall.SIGTERM), w.cmd.Wait())
		if err != nil || t.Failed() {
			t.Logf("the daemon ended with %v and said:\n%s", err, w.said)
		}
		out, err := exec.Command(w.bin, "-chdir", filepath.Join(w.dir, "data", "models", "work"), "destroy", "-auto-approve").CombinedOutput()
		if err != nil {
			t.Errorf("destroy: %v\n%s", err, out)
		}
	})
	return w
}

func (w *desk) git(args ...string) string {
	w.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=Ada", "-c", "user.email=ada@example.org"}, args...)...)
	cmd.Dir = w.repo
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *desk) push(message string) string {
	w.t.Helper()
	w.git("add", "-A")
	w.git("commit", "-q", "-m", message)
	return w.git("rev-parse", "HEAD")
}

// edit replaces text in a file of the project.
func (w *desk) edit(file, from, to string) {
	w.t.Helper()
	path := filepath.Join(w.repo, file)
	raw := must[[]byte](w.t)(os.ReadFile(path))
	if !strings.Contains(string(raw), from) {
		w.t.Fatalf("%s does not say %q", file, from)
	}
	ok(w.t, os.WriteFile(path, []byte(strings.Replace(string(raw), from, to, 1)), 0o644))
}

func (w *desk) get(path string) string {
	resp, err := http.Get(w.url + path) //nolint:noctx // a test of a program of its own
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

func (w *desk) reconcile() {
	w.t.Helper()
	resp, err := http.Post(w.url+"/api/v1/repositories/models/reconcile", "", nil) //nolint:noctx // a test of a program of its own
	ok(w.t, err)
	ok(w.t, resp.Body.Close())
}

func (w *desk) until(what string, so func(status) bool) status {
	w.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var s status
		text := w.get("/api/v1/repositories/models")
		if json.Unmarshal([]byte(text), &s) == nil && so(s) {
			return s
		}
		select {
		case <-deadline:
			w.t.Fatalf("%s: not so within %s; the daemon is\n%s", what, patience, text)
		case <-tick.C:
		}
	}
}

func at(commit, phase string) func(status) bool {
	return func(s status) bool { return s.Phase == phase && (commit == "" || s.Applied.Commit == commit) }
}

// ask sends requests to the deployment, as the world around the project does.
func (w *desk) ask(n int, more ...string) {
	w.t.Helper()
	endpoint := ""
	for _, b := range w.until("it serves", func(s status) bool { return s.version("deployment.tumors") > 0 }).Blocks {
		if b.Address == "deployment.tumors" {
			endpoint = b.Endpoint
		}
	}
	out, err := exec.Command("python3", append([]string{"../../examples/traffic.py", "send", endpoint, filepath.Join(w.repo, "data", "wdbc.csv"), "-n", fmt.Sprint(n)}, more...)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("traffic: %v\n%s", err, out)
	}
}

// charts counts the points of the longest chart at an endpoint.
func (w *desk) points(path string) int {
	w.t.Helper()
	var doc struct {
		Charts []struct{ X []float64 }
	}
	w.json("/api/v1/repositories/models/charts/"+path, &doc)
	n := 0
	for _, c := range doc.Charts {
		n = max(n, len(c.X))
	}
	return n
}

// TestPages walks through every page of a project that has been trained twice, has served, and has a plan that waits: as people do, on a phone and on
// a desk, by day and by night, with the keyboard alone, and without JavaScript.
func TestPages(t *testing.T) {
	w := newDesk(t)
	first := w.git("rev-parse", "HEAD")
	w.until("the first commit is applied", at(first, "synced"))
	w.ask(160)
	w.reconcile()
	w.until("windows are judged", func(status) bool { return w.points("windows/monitor.tumors") >= 3 })
	w.edit("tumors.ml.hcl", "epochs = 200", "epochs = 120")
	second := w.push("Fewer epochs")
	w.reconcile()
	w.until("the second commit is applied", at(second, "synced"))
	w.ask(60)
	// What deletes waits.
	w.edit("tumors.ml.hcl", "  alert { notify = [notifier.log] }\n", "")
	w.edit("tumors.ml.hcl", "notifier \"log\" {\n  type = \"log\"\n}\n", "")
	third := w.push("No notifier")
	w.reconcile()
	w.until("a plan waits", at("", "held"))
	var runs []struct{ ID, Address string }
	w.json("/api/v1/repositories/models/runs/training.tumors", &runs)
	run := "/r/models/runs/" + runs[0].ID

	b := newBrowser(t, w.url)
	pages := []struct {
		path   string
		says   string
		charts int // at least
	}{
		{"/", "models", 0},
		{"/r/models", "What feeds what", 0},
		{"/r/models/plan", "destroy", 0},
		{"/r/models/runs", "training.tumors", 0},
		{"/r/models/b/training.tumors", "Metrics by version", 3},
		{"/r/models/b/monitor.tumors", "Window by window", 9},
		{"/r/models/b/validation.tumors", "recall", 0},
		{"/r/models/b/deployment.tumors", "Endpoint", 0},
		{"/r/models/b/dataset.tumors", "Feeds", 0},
		{run, "Progress", 1},
	}
	background := map[string]string{}
	for _, l := range []look{{1200, "light"}, {1200, "dark"}, {400, "light"}, {400, "dark"}} {
		b.as(l)
		for _, p := range pages {
			where := fmt.Sprintf("%s at %d, %s", p.path, l.width, l.scheme)
			b.open(p.path)
			if n := b.drawn(); n < p.charts {
				t.Errorf("%s: %d charts, at least %d", where, n, p.charts)
			}
			if text := eval[string](b, "document.body.innerText"); !strings.Contains(text, p.says) {
				t.Errorf("%s does not say %q:\n%s", where, p.says, text)
			}
			if n := eval[int](b, blank); n > 0 {
				t.Errorf("%s: %d charts are blank", where, n)
			}
			if eval[bool](b, wide) {
				t.Errorf("%s is wider than its window", where)
			}
			if list := eval[[]string](b, faint); len(list) > 0 {
				t.Errorf("%s: too little contrast: %q", where, list)
			}
			b.clean(where)
		}
		background[l.scheme] = eval[string](b, "getComputedStyle(document.body).backgroundColor")
	}
	if background["light"] == background["dark"] {
		t.Errorf("day and night are both %s", background["light"])
	}
	t.Run("the graph", func(t *testing.T) { theGraph(t, b) })
	t.Run("every link leads somewhere", func(t *testing.T) { links(t, w, b) })
	t.Run("without JavaScript", func(t *testing.T) { withoutScripts(t, b, run) })
	t.Run("by keyboard alone", func(t *testing.T) { byKeyboard(t, w, b, third) })
	t.Run("a log as it grows", func(t *testing.T) { liveLog(t, w, b) })
}

func theGraph(t *testing.T, b *browser) {
	b.as(look{1200, "light"})
	b.open("/r/models")
	for _, edge := range []string{"training.tumors → validation.tumors: v2", "validation.tumors → deployment.tumors: v2", "deployment.tumors → monitor.tumors: v2", "dataset.tumors → training.tumors", "monitor.tumors → training.tumors: drift"} {
		if !eval[bool](b, fmt.Sprintf(`[...document.querySelectorAll(".line title")].some((e) => e.textContent === %q)`, edge)) {
			t.Errorf("there is no edge %q", edge)
		}
	}
	if dash := eval[string](b, `getComputedStyle(document.querySelector(".line.back path")).strokeDasharray`); !strings.Contains(dash, "5") {
		t.Errorf("feedback is drawn with %q", dash)
	}
	if n := eval[int](b, `[...document.querySelectorAll(".box")].filter((e) => /[✓✗▶!◆○…] \S/.test(e.querySelector(".word").textContent)).length`); n != 7 {
		t.Errorf("%d boxes have a sign and a word", n)
	}
	b.clean("the graph")
}

// links follows every link that the pages have to other pages of ours.
func links(t *testing.T, w *desk, b *browser) {
	seen, next := map[string]bool{}, []string{"/"}
	for len(next) > 0 && len(seen) < 100 {
		path := next[0]
		next = next[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		resp, err := http.Get(w.url + path) //nolint:noctx // a test of a program of its own
		ok(t, err)
		ok(t, resp.Body.Close())
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
		if strings.HasPrefix(path, "/api/") {
			continue
		}
		b.open(path)
		next = append(next, eval[[]string](b, `[...document.querySelectorAll("a[href]")].map((a) => a.pathname || new URL(a.href.baseVal, location).pathname)`)...)
	}
	if len(seen) < 15 {
		t.Errorf("only %d pages: %v", len(seen), seen)
	}
	b.clean("links")
}

func withoutScripts(t *testing.T, b *browser, run string) {
	b.scripts(false)
	defer b.scripts(true)
	for path, want := range map[string]string{
		"/r/models": "What feeds what", "/r/models/plan": "Approve this plan", "/r/models/b/training.tumors": "accuracy", "/r/models/b/monitor.tumors": "Charts need JavaScript", run: "trained on",
	} {
		b.open(path)
		if text := eval[string](b, "document.body.innerText"); !strings.Contains(text, want) {
			t.Errorf("%s without JavaScript does not say %q:\n%s", path, want, text)
		}
	}
	if n := eval[int](b, `document.querySelectorAll(".uplot").length`); n != 0 {
		t.Error("JavaScript ran")
	}
}

// byKeyboard goes from the overview to the button of the plan that waits, and presses it, without a mouse.
func byKeyboard(t *testing.T, w *desk, b *browser, commit string) {
	b.as(look{1200, "light"})
	b.open("/")
	press := func(until, what string) {
		t.Helper()
		for range 60 {
			b.do(chromedp.KeyEvent(kb.Tab))
			if strings.HasPrefix(eval[string](b, focused), until) {
				if outline := eval[string](b, `getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
					t.Errorf("%s has the focus, and nobody sees it", what)
				}
				b.do(chromedp.KeyEvent(kb.Enter))
				return
			}
		}
		t.Fatalf("the keyboard does not reach %s", what)
	}
	b.do(chromedp.KeyEvent(kb.Tab))
	if first := eval[string](b, focused); first != "A Skip to content" {
		t.Errorf("the first stop is %q", first)
	}
	press("A models", "the repository")
	b.until("its page", `location.pathname === "/r/models"`)
	b.until("it is there", `document.readyState === "complete"`)
	press("BUTTON Approve this plan", "the button")
	w.until("the plan is applied", at(commit, "synced"))
	b.until("the page says so without being asked", `document.querySelector("h1").textContent.includes("synced")`)
	b.clean("by keyboard")
}

const slow = `n=0
while [ ! -e "$GATE" ] && [ $n -lt 3000 ]; do
  n=$((n+1))
  printf '\033[31mline %d\033[0m <b>of</b> the log\n' $n
  echo "{\"step\": $n, \"of\": 100, \"loss\": 0.$((1000 - n))}" >> "$ML_PROGRESS"
  sleep 0.1
done
echo '{"loss": 0.1}' > "$ML_METRICS"
echo model > "$ML_MODEL_DIR/model"
`

// liveLog looks at a run while it runs.
func liveLog(t *testing.T, w *desk, b *browser) {
	gate := filepath.Join(w.dir, "gate")
	ok(t, os.WriteFile(filepath.Join(w.repo, "slow.sh"), []byte(slow), 0o644))
	ok(t, os.WriteFile(filepath.Join(w.repo, "slow.ml.hcl"), fmt.Appendf(nil, "training \"slow\" {\n  command = [\"sh\", \"slow.sh\"]\n  env     = { GATE = %q }\n}\n", gate), 0o644))
	commit := w.push("Something slow")
	w.reconcile()
	w.until("it runs", at("", "applying"))
	b.as(look{400, "dark"})
	b.open("/r/models/b/training.slow")
	b.until("the block's page leads to the run", `!!document.querySelector('a[href*="/runs/"]')`)
	eval[bool](b, `document.querySelector('main p a[href*="/runs/"]').click(), true`)
	b.until("the run's page", `location.pathname.includes("/runs/")`)
	lines := `(document.getElementById("lines")?.textContent.match(/line \d+ <b>of<\/b> the log/g) || []).length`
	b.until("there are lines", lines+" > 3")
	seen := eval[int](b, lines)
	b.until("there are more", fmt.Sprintf("%s > %d", lines, seen+5))
	b.until("the bar moves", `document.getElementById("bar").value > 5`)
	b.until("the loss is drawn", `document.querySelectorAll(".uplot canvas").length > 0`)
	if text := eval[string](b, `document.getElementById("lines").textContent`); strings.Contains(text, "\x1b") {
		t.Errorf("the log has colours in it: %q", text)
	}
	if eval[bool](b, wide) {
		t.Error("the page is wider than a phone")
	}
	first := eval[string](b, `document.getElementById("lines").textContent.split("\n")[0]`)
	if first != "line 1 <b>of</b> the log" {
		t.Errorf("the log begins with %q", first)
	}
	// Without JavaScript, a reload shows the same.
	b.scripts(false)
	b.do(chromedp.Reload())
	if text := eval[string](b, "document.body.innerText"); !strings.Contains(text, "Reload to see what is new") || !strings.Contains(text, "line 5 <b>of</b> the log") {
		t.Errorf("without JavaScript:\n%s", text)
	}
	b.scripts(true)
	b.do(chromedp.Reload())
	b.until("it is followed again", lines+" > 3")
	ok(t, os.WriteFile(gate, nil, 0o644))
	b.until("the page says that it is over", `document.querySelector("h1").textContent.includes("done")`)
	w.until("it is applied", at(commit, "synced"))
	b.clean("a log as it grows")
}
