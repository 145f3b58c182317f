package daemon

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"

	gitconfig "github.com/go-git/go-git/v5/config"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/daemonclient"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
)

// checkout is what a job of a CI has: the commit in a folder of its own.
func (tm *team) checkout(commit string) string {
	tm.t.Helper()
	dir := tm.t.TempDir()
	repo, err := git.PlainClone(dir, false, &git.CloneOptions{URL: tm.dir})
	if err == nil {
		err = repo.Fetch(&git.FetchOptions{RefSpecs: []gitconfig.RefSpec{"+refs/pull/*/head:refs/pull/*/head"}})
	}
	if err != nil {
		tm.t.Fatal(err)
	}
	wt, err := repo.Worktree()
	if err == nil {
		err = wt.Checkout(&git.CheckoutOptions{Hash: plumbing.NewHash(commit)})
	}
	if err != nil {
		tm.t.Fatal(err)
	}
	return dir
}

func client(t *testing.T, url, token string) *daemonclient.Client {
	t.Helper()
	c, err := daemonclient.New(daemonclient.Options{URL: url, Version: "test", Getenv: func(name string) string {
		if name == daemonclient.TokenVar {
			return token
		}
		return ""
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// planElsewhere plans a folder on the daemon's state, as `ml plan -daemon` does.
func planElsewhere(t *testing.T, c *daemonclient.Client, dir string) *planner.Plan {
	t.Helper()
	st, err := c.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	snap, err := st.Read()
	if err != nil {
		t.Fatal(err)
	}
	vars, err := workspace.Vars(st.Vars)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w, err := workspace.OpenRecorded(t.Context(), workspace.Options{Root: dir, Dir: t.TempDir(), Vars: vars, Version: "test", Exe: []string{exe}}, snap)
	if err != nil {
		t.Fatal(err)
	}
	planned, err := w.Engine.Plan(t.Context(), engine.PlanOptions{Pure: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return planned.Plan
}

func document(t *testing.T, p *planner.Plan) string {
	t.Helper()
	c := *p
	c.Created, c.Serial = time.Time{}, 0 // each cycle of the daemon between the two takes the lease, which counts
	var b bytes.Buffer
	if err := report.PlanJSON(&b, &c); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAPlanElsewhereIsTheOneOnThePullRequest(t *testing.T) {
	files := "variable \"n\" { type = number }\nvariable \"flag\" { default = \"<&>\" }\n" + strings.Replace(project, "inputs  = { data = dataset.d }", "inputs  = { data = dataset.d }\n  params  = { n = var.n, flag = var.flag }", 1) +
		"\ncheck \"c\" {\n command = [\"true\"]\n sources = [\"*.sh\"]\n}\n"
	tm, f := newTeam(t, map[string]string{"p.ml.hcl": files, "train.sh": train, "data.csv": data}), newFakeForge()
	first := tm.push("again", nil)
	w := startWith(t, t.TempDir(), hourly(tm, withForge+"variables = { n = 7 }\n"), func(*ForgeConfig) (Forge, error) { return f, nil })
	// Both plans must be of one state: the cycle after the data is watched is the last one for an hour.
	w.until("the first commit is applied", syncedAt(first))
	w.eventually("it was looked at again", func() bool {
		_, body := w.get("/metrics")
		return strings.Contains(body, `ml_reconcile_duration_seconds_count{repository="r",result="done"} 2`)
	})
	c := client(t, w.srv.URL, "")
	sameRecords(t, w.d.repos[0], c)
	for name, change := range map[string]map[string]string{
		"nothing":    {"readme": "x"},
		"code":       {"train.sh": train + "# better\n"},
		"data":       {"data.csv": data + "9,9\n"},
		"a block":    {"p.ml.hcl": files + "\ndataset \"e\" { source = \"data.csv\" }\n"},
		"a deletion": {"p.ml.hcl": strings.Replace(files, "check \"c\"", "check \"z\"", 1)},
		"a gate":     {"p.ml.hcl": strings.Replace(files, "min = 3", "min = 99", 1)},
		"a variable": {"p.ml.hcl": strings.Replace(files, "<&>", ">&<", 1)},
		"no error":   {"p.ml.hcl": files + "\ndataset \"f\" { source = \"missing.csv\" }\n"},
	} {
		p := tm.propose(1, change)
		theirs, _, err := w.d.repos[0].planPull(t.Context(), p)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		mine := planElsewhere(t, c, tm.checkout(p.Head))
		if a, b := document(t, theirs.Plan), document(t, mine); a != b {
			t.Errorf("%s:\n%s\n%s", name, a, b)
		}
		if name != "nothing" && len(mine.Steps)+len(mine.Diagnostics) == 0 {
			t.Errorf("%s: no step", name)
		}
	}
}

// sameRecords wants every record to come over as it is stored, to the byte.
func sameRecords(t *testing.T, r *repo, c *daemonclient.Client) {
	t.Helper()
	here, _, err := r.snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there, err := st.Read()
	if err != nil {
		t.Fatal(err)
	}
	if here.Lineage != there.Lineage || here.Serial != there.Serial || len(here.Records) != len(there.Records) || len(here.Records) == 0 {
		t.Errorf("%s %d with %d records came as %s %d with %d", here.Lineage, here.Serial, len(here.Records), there.Lineage, there.Serial, len(there.Records))
	}
	for a := range here.Records {
		if x, y := planner.RecordDigest(here, a), planner.RecordDigest(there, a); x != y || x == "" {
			t.Errorf("%s came as another record", a)
		}
	}
}

// What leaves the daemon for a reader holds neither the key nor what the branch calls sensitive, and what is changed on the way is refused.
func TestAStateThatIsHandedOutHoldsNoSecretAndIsChecked(t *testing.T) {
	secret := "hunter2swordfish"
	files := "variable \"token\" {\n sensitive = true\n}\n" + strings.Replace(project, "inputs  =", "env = { TOKEN = var.token }\n  inputs  =", 1)
	tm := newTeam(t, map[string]string{"p.ml.hcl": files, "train.sh": train, "data.csv": data})
	first := tm.push("again", nil)
	w := start(t, t.TempDir(), repository(tm, "variables = { token = \""+secret+"\" }\n"))
	w.until("the first commit is applied", syncedAt(first))
	code, body := w.get("/api/v1/repositories/r/state")
	key, err := os.ReadFile(w.d.repos[0].work + "/.ml/key")
	if err != nil {
		t.Fatal(err)
	}
	if code != 200 || strings.Contains(body, secret) || strings.Contains(body, strings.TrimSpace(string(key))) || !strings.Contains(body, "hash:") {
		t.Errorf("%d: a secret, or no hash:\n%s", code, body)
	}
	changed := strings.Replace(body, `"serial"`, `"sreial"`, 1)
	if changed == body {
		changed = strings.Replace(body, "training", "trainign", 1)
	}
	for name, answer := range map[string]struct{ body, want string }{
		"another byte":  {changed, "damaged"},
		"a newer form":  {strings.Replace(body, `{"format":1`, `{"format":99`, 1), "newer version"},
		"half of it":    {body[:len(body)/2], "cannot be read"},
		"something":     {"{}", "damaged"},
		"as it is sent": {body, ""},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set(daemonclient.Header, "test")
			rw.Write([]byte(answer.body)) //nolint:errcheck // the client says what it got
		}))
		st, err := client(t, srv.URL+"/r/r", "").State(t.Context())
		if err == nil {
			_, err = st.Read()
		}
		srv.Close()
		if (err == nil) != (answer.want == "") || err != nil && !strings.Contains(err.Error(), answer.want) {
			t.Errorf("%s: %v, want %q", name, err, answer.want)
		}
	}
}

func TestALogIsFollowedWhileItsRunWrites(t *testing.T) {
	dir := t.TempDir()
	slow := "echo begun\nwhile ! test -e " + dir + "/go; do sleep 0.05; done\necho ended\n" + train
	tm := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": slow, "data.csv": data})
	w := start(t, t.TempDir(), repository(tm, ""))
	c := client(t, w.srv.URL, "")
	r, to := io.Pipe()
	done := make(chan error, 1)
	w.eventually("the training's log begins, in the first cycle", func() bool {
		var b strings.Builder
		err := c.Logs(t.Context(), resource.Address{Kind: "training", Name: "t"}, daemonclient.LogOptions{}, &b)
		return err == nil && strings.Contains(b.String(), "begun")
	})
	go func() {
		err := c.Logs(t.Context(), resource.Address{Kind: "training", Name: "t"}, daemonclient.LogOptions{Follow: true}, to)
		done <- errors.Join(err, to.Close())
	}()
	lines := bufio.NewScanner(r)
	if !lines.Scan() || lines.Text() != "begun" {
		t.Fatalf("%q, %v", lines.Text(), lines.Err())
	}
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !lines.Scan() || lines.Text() != "ended" {
		t.Errorf("%q, %v", lines.Text(), lines.Err())
	}
	for lines.Scan() {
		t.Errorf("and %q", lines.Text())
	}
	if err := <-done; err != nil { // it ends with its run
		t.Error(err)
	}
}
