//go:build e2e && linux

package gitops

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/e2e/gitops/gitea"
)

// TestManyRepositoriesAtOnce has one daemon look after many, one of which is broken and one of which hangs: all the others are applied.
func TestManyRepositoriesAtOnce(t *testing.T) {
	good := 5
	if full {
		good = 20
	}
	p := newPlain(t, "")
	hangs := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer hangs.Close() // whoever connects waits
	var config strings.Builder
	fmt.Fprintf(&config, "listen = %q\ndata = \"data\"\n", p.at)
	commits := map[string]string{}
	add := func(name, url string) {
		fmt.Fprintf(&config, "repository %q {\n  url = %q\n  branch = \"main\"\n  mode = \"apply\"\n  interval = \"10s\"\n}\n", name, url)
	}
	add("hangs", "http://"+hangs.Addr().String()+"/x.git")
	team := func(name, main string) {
		one := p
		one.repo = filepath.Join(p.dir, "repos", name)
		ok(t, os.MkdirAll(one.repo, 0o755))
		one.git("init", "--quiet", "--initial-branch=main")
		commits[name] = one.push(map[string]string{
			"main.ml.hcl": main, "data.csv": "a,b\n1," + name + "\n2,x\n",
			"train.sh": "cp \"$ML_INPUT_DATA\" \"$ML_MODEL_DIR/m\"\necho '{\"score\": 0.9}' > \"$ML_METRICS\"\n",
		})
		add(name, one.repo)
	}
	team("broken", "dataset \"d\" { source = }\n")
	for i := range good {
		team(fmt.Sprintf("good-%d", i), "dataset \"d\" { source = \"data.csv\" }\ntraining \"t\" {\n  command = [\"sh\", \"train.sh\"]\n  inputs = { data = dataset.d }\n}\nvalidation \"v\" {\n  model = training.t.model\n  threshold \"score\" { min = 0.5 }\n}\n")
	}
	ok(t, os.WriteFile(filepath.Join(p.dir, "daemon.hcl"), []byte(config.String()), 0o600))
	began := time.Now()
	p.start("")
	phases := func() map[string]status {
		var list []struct {
			Name string
			status
		}
		out := map[string]status{}
		if text := p.get("/api/v1/repositories"); text != "" {
			ok(t, json.Unmarshal([]byte(text), &list))
		}
		for _, s := range list {
			out[s.Name] = s.status
		}
		return out
	}
	applied := func() bool {
		n, now := 0, phases()
		for name, commit := range commits {
			if s := now[name]; s.Phase == "synced" && s.Applied.Commit == commit {
				n++
			}
		}
		return n == good
	}
	p.until("all that can be are applied", applied)
	took := time.Since(began)
	now := phases()
	if s := now["broken"]; s.Phase != "failing" || !strings.Contains(s.Message, "main.ml.hcl") {
		t.Errorf("the broken one: %+v", s)
	}
	if s := now["hangs"]; s.Phase == "synced" {
		t.Errorf("the one that hangs: %+v", s)
	}
	pid := p.cmd.Process.Pid
	t.Logf("%d repositories applied in %s beside one that is broken and one that hangs (load %s); resident memory %d MiB, at most %d MiB", good, took.Round(time.Millisecond), load(), kib(t, pid, "VmRSS")>>10, kib(t, pid, "VmHWM")>>10)
	p.stop()
	p.noOrphans()
}

// TestPushToComment measures how long it takes from a push to a pull request until its comment is about that push: of a project of a hundred blocks,
// on a real forge on the same machine, by webhook.
func TestPushToComment(t *testing.T) {
	pushes := 3
	if full {
		pushes = 40
	}
	var main strings.Builder
	for i := range 34 {
		fmt.Fprintf(&main, "dataset \"d%d\" { source = \"data.csv\" }\ntraining \"t%d\" {\n  command = [\"sh\", \"train.sh\"]\n  sources = [\"train.sh\"]\n  inputs = { data = dataset.d%d }\n}\nvalidation \"v%d\" {\n  model = training.t%d.model\n  threshold \"score\" { min = 0.5 }\n}\n", i, i, i, i, i)
	}
	files := map[string]string{"main.ml.hcl": main.String(), "data.csv": "a,b\n1,2\n", "train.sh": "cp \"$ML_INPUT_DATA\" \"$ML_MODEL_DIR/m\"\necho '{\"score\": 0.9}' > \"$ML_METRICS\"\n"}
	w := newWorks(t, files, "interval = \"10m\"\n  mode = \"plan\"") // webhooks alone wake it in time
	w.until("the branch is looked at", func() bool { return w.status().Observed.Commit == w.first && w.status().Phase != "starting" })
	head := must[string](t)(w.checkout.Push(t.Context(), "change", map[string]string{"train.sh": files["train.sh"] + "# 0\n"}, "change"))
	n := must[int](t)(w.owner.Pull(t.Context(), w.repo, "change", "main", "A change"))
	w.until("it has its comment", func() bool { return strings.Contains(w.comment(n), head[:12]) })
	var times, pushed []time.Duration
	before := load()
	for i := range pushes {
		_ = must[string](t)(w.checkout.Git(t.Context(), "checkout", "--quiet", "change"))
		ok(t, os.WriteFile(filepath.Join(w.checkout.Dir, "train.sh"), []byte(files["train.sh"]+fmt.Sprintf("# %d\n", i+1)), 0o644))
		_ = must[string](t)(w.checkout.Git(t.Context(), "commit", "--quiet", "-a", "-m", "again"))
		head := must[string](t)(w.checkout.Git(t.Context(), "rev-parse", "HEAD"))
		began, asked := time.Now(), time.Now()
		_ = must[string](t)(w.checkout.Git(t.Context(), "push", "--quiet", "origin", "change"))
		pushed = append(pushed, time.Since(began))
		w.until("the comment is about this push", func() bool {
			if time.Since(asked) < 100*time.Millisecond { // looking must not be what the forge is busy with
				return false
			}
			asked = time.Now()
			return strings.Contains(w.comment(n), head[:12])
		})
		times = append(times, time.Since(began))
	}
	if comments := must[[]gitea.Said](t)(w.owner.Comments(t.Context(), w.repo, n)); len(comments) != 1 {
		t.Errorf("%d comments", len(comments))
	}
	var own []time.Duration // the daemon's part of it
	for _, m := range regexp.MustCompile(`msg=commented .* took=(\S+)`).FindAllStringSubmatch(w.said.String(), -1) {
		own = append(own, must[time.Duration](t)(time.ParseDuration(m[1])))
	}
	if len(own) < pushes {
		t.Errorf("%d comments in the daemon's log", len(own))
	}
	t.Logf("of which git push itself: p50 %s, p95 %s", percentile(pushed, 0.5), percentile(pushed, 0.95))
	t.Logf("of which planning and writing, by the daemon's log: p50 %s, p95 %s, max %s", percentile(own, 0.5), percentile(own, 0.95), percentile(own, 1))
	t.Logf("from push to comment, %d pushes, 102 blocks (load %s before, %s after): p50 %s, p95 %s, max %s", pushes, before, load(), percentile(times, 0.5), percentile(times, 0.95), percentile(times, 1))
}

// TestAThousandBlocks has the daemon apply a project of 1,000 blocks, look at it again with nothing changed, and apply a change.
func TestAThousandBlocks(t *testing.T) {
	t.Parallel()
	chains := 10
	if full {
		chains = 250
	}
	p := newPlain(t, "")
	files := map[string]string{"train.sh": "cp \"$ML_INPUT_DATA\" \"$ML_MODEL_DIR/m\"\necho '{\"score\": 0.9}' > \"$ML_METRICS\"\n"}
	var text strings.Builder
	for i := range chains {
		fmt.Fprintf(&text, `
dataset "d%[1]d" { source = "%[1]d.csv" }
dataset "e%[1]d" { source = "%[1]d.csv" }
training "t%[1]d" {
  command = ["sh", "train.sh"]
  inputs  = { data = dataset.d%[1]d }
}
validation "v%[1]d" {
  model = training.t%[1]d.model
  threshold "score" { min = 0.5 }
}
`, i)
		files[fmt.Sprintf("%d.csv", i)] = fmt.Sprintf("a,b\n%d,x\n", i)
	}
	files["main.ml.hcl"] = text.String()
	commit := p.push(files)
	began := time.Now()
	p.start("")
	p.until("it is applied", p.applied(commit))
	first := time.Since(began)
	pid := p.cmd.Process.Pid
	highest := kib(t, pid, "VmHWM")
	const looks = 3
	before := ticks(t, pid)
	for range looks {
		last := p.status().Last
		if code, body := p.post("/api/v1/repositories/r/reconcile"); code != http.StatusAccepted {
			t.Fatalf("%d %s", code, body)
		}
		p.until("it was looked at", func() bool { return p.status().Last.After(last) })
	}
	idle, rest := ticks(t, pid)-before, kib(t, pid, "VmRSS")
	commit = p.push(map[string]string{"0.csv": "a,b\n7,y\n"})
	p.until("the change is applied", p.applied(commit))
	t.Logf("%d blocks applied in %s, at most %d MB resident; with nothing changed %d MB and %.2f s of processor time a cycle; %d MB at most at the end (load %s)",
		4*chains, first.Round(time.Millisecond), highest*1024/1e6, rest*1024/1e6, float64(idle)/100/looks, kib(t, pid, "VmHWM")*1024/1e6, load())
	if rest*1024 > 150e6 {
		t.Errorf("%d KiB are resident", rest)
	}
	p.stop()
	p.noOrphans()
}

// ticks is the processor time of a process in hundredths of a second, what it started left out.
func ticks(t *testing.T, pid int) int {
	t.Helper()
	raw := must[[]byte](t)(os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)))
	_, rest, _ := strings.Cut(string(raw), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		t.Fatalf("/proc/%d/stat: %s", pid, raw)
	}
	return must[int](t)(strconv.Atoi(f[11])) + must[int](t)(strconv.Atoi(f[12]))
}
