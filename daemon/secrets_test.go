package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/internal/forge"
)

// planted are secrets, each by the place that it was put into.
type planted struct {
	t  *testing.T
	by map[string]string
}

// put makes a secret for a place.
func (p *planted) put(where string) string {
	p.t.Helper()
	if p.by[where] != "" {
		p.t.Fatalf("%s has one already", where)
	}
	s := fmt.Sprintf("planted-%02d-Qx7/zR+%02d", len(p.by)+1, 97-len(p.by))
	p.by[where] = s
	return s
}

// look wants none of them in a text, in no form that a reader would turn back.
func (p *planted) look(what string, text []byte) {
	p.t.Helper()
	for where, s := range p.by {
		for form, x := range map[string]string{
			"plain": s, "base64": base64.StdEncoding.EncodeToString([]byte(s)), "base64 of a URL": base64.RawURLEncoding.EncodeToString([]byte(s)),
			"hex": hex.EncodeToString([]byte(s)), "URL": url.QueryEscape(s), "path": url.PathEscape(s), "HTML": strings.ReplaceAll(s, "+", "&#43;"), "JSON": strings.ReplaceAll(s, "+", `\u002b`),
		} {
			if i := bytes.Index(text, []byte(x)); i >= 0 {
				p.t.Errorf("%s is in %s (%s): …%s…", where, what, form, text[max(0, i-80):min(len(text), i+len(x)+40)])
				break
			}
		}
	}
}

// leaky is the forge of a daemon that answers over HTTP, and tells in its errors whatever it was sent.
func leakyForge(t *testing.T) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"message": "%s may not, nor may %s"}`, r.Header.Get("Authorization"), r.URL.Query().Get("token"))
	}))
	t.Cleanup(srv.Close)
	return srv
}

// secretProject puts a sensitive variable wherever one can stand.
func secretProject(vars []string) string {
	var b strings.Builder
	for _, v := range vars {
		fmt.Fprintf(&b, "variable %q {\n  sensitive = true\n  default = \"none\"\n}\n", v)
	}
	b.WriteString(`
locals { joined = "${var.joined}-and-more" }
dataset "d" {
  source   = "data.csv"
  pass_env = ["T_PASS_DATA"]
}
check "c" {
  command  = ["sh", "-c", "test -n \"$KEY\""]
  inputs   = { data = dataset.d }
  env      = { KEY = var.check_env }
  pass_env = ["T_PASS_CHECK"]
}
training "t" {
  depends_on = [check.c]
  command    = ["sh", "train.sh", var.argument]
  inputs     = { data = dataset.d }
  params     = { plain = var.param, list = [var.listed], deep = { er = var.nested }, joined = local.joined, upper = upper(var.upper) }
  env        = { KEY = var.train_env }
  pass_env   = ["T_PASS_TRAIN"]
}
validation "v" {
  model    = training.t.model
  command  = ["sh", "validate.sh"]
  sources  = ["validate.sh"]
  env      = { KEY = var.validate_env }
  pass_env = ["T_PASS_VALIDATE"]
  threshold "rows" { min = 1 }
}
training "fails" {
  command  = ["sh", "fail.sh", var.failing_argument]
  sources  = ["fail.sh"]
  inputs   = { data = dataset.d }
  env      = { KEY = var.failing_env }
  params   = { p = var.failing_param }
}
output "o" {
  value     = var.output
  sensitive = true
}
`)
	return b.String()
}

var secretVars = []string{
	"joined", "check_env", "argument", "param", "listed", "nested", "upper", "train_env", "validate_env", "failing_argument", "failing_env", "failing_param", "output", "unused", "named", "keyed", "number",
}

// TestFiftyPlantedSecretsAreFoundNowhere plants secrets in every place that may hold one, has the daemon apply, fail, plan pull requests and be
// asked for everything, and then looks for them in all that it wrote and said.
func TestFiftyPlantedSecretsAreFoundNowhere(t *testing.T) {
	p := &planted{t: t, by: map[string]string{}}
	env := func(name, where string) { t.Setenv(name, p.put(where)) }
	dir := t.TempDir()
	file := func(name, where string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(p.put(where)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	env("T_READ", "the read token")
	writeFile := file("write", "the write token, in a file")
	hookFile := file("hook", "the webhook's secret, in a file")
	env("T_GIT", "the password of git, in the environment")
	gitFile := file("git", "the password of git, in a file")
	env("T_FORGE", "the token of the forge, in the environment")
	forgeFile := file("forge", "the token of the forge, in a file")
	for _, name := range []string{"T_PASS_DATA", "T_PASS_CHECK", "T_PASS_TRAIN", "T_PASS_VALIDATE"} {
		env(name, "pass_env "+name)
	}
	for _, name := range []string{"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GITHUB_TOKEN", "GITLAB_TOKEN", "KUBECONFIG_DATA", "T_OWN", "DATABASE_URL", "ML_VAR_unused"} {
		env(name, "the daemon's own "+name)
	}
	var vars strings.Builder
	for _, v := range secretVars {
		fmt.Fprintf(&vars, "  %s = %q\n", v, p.put("the sensitive variable "+v))
	}
	var more strings.Builder
	for i := range 14 {
		name := fmt.Sprintf("spare%d", i)
		fmt.Fprintf(&vars, "  %s = %q\n", name, p.put("the sensitive variable "+name))
		fmt.Fprintf(&more, "variable %q {\n  sensitive = true\n  default = \"none\"\n}\ntraining %q {\n  command = [\"sh\", \"train.sh\"]\n  sources = [\"train.sh\"]\n  inputs = { data = dataset.d }\n  params = { p = \"${var.%s}\", n = length(var.%s) }\n}\n", name, name, name, name)
	}
	files := map[string]string{
		"p.ml.hcl": secretProject(secretVars) + more.String(), "data.csv": data, "train.sh": train,
		"validate.sh": "echo '{\"rows\": 3}' > \"$ML_METRICS\"\n",
		"fail.sh":     "echo \"args $1 env $KEY params $ML_PARAMS\" >&2\ncat \"$ML_PARAMS\" >&2 2>/dev/null\necho \"$ML_PARAM_P\" >&2\nexit 3\n",
	}
	tm, f := newTeam(t, files), newFakeForge()
	tm.push("again", nil)
	said := &syncBuffer{}
	leaky := leakyForge(t)
	gits := serveGit(t, tm.dir)
	config := fmt.Sprintf("data = \"data\"\ntokens {\n read_env = \"T_READ\"\n write_file = %q\n}\n", writeFile)
	block := func(name, address, credentials, more string) {
		config += fmt.Sprintf("repository %q {\n url = %q\n branch = \"master\"\n interval = \"5s\"\n mode = \"apply\"\n credentials { %s }\n notify {\n  to = [\"team\"]\n  after = 1\n }\n%s}\n", name, address, credentials, more)
	}
	forgeOf := func(address, token string) string {
		return fmt.Sprintf(" forge {\n  kind = \"gitea\"\n  url = %q\n  repo = \"team/models\"\n  %s\n  webhook_secret_file = %q\n }\n", address, token, hookFile)
	}
	block("r", gits.URL+"/"+filepath.Base(tm.dir)+"/.git", "password_env = \"T_GIT\"", "variables = {\n"+vars.String()+" }\n"+forgeOf("http://127.0.0.1:1", fmt.Sprintf("token_file = %q", forgeFile)))
	// A server and a forge that say back what they were told in confidence.
	block("told", leaky.URL+"/x.git", fmt.Sprintf("password_file = %q", gitFile), forgeOf(leaky.URL, "token_env = \"T_FORGE\""))
	// A place where people are told, whose address is a secret, and which says back what it was told.
	t.Setenv("T_NOTIFY", leaky.URL+"/"+url.PathEscape(p.put("the address of a notifier")))
	env("T_NOTIFY_KEY", "the key of a notifier")
	config += "notifier \"team\" {\n type = \"webhook\"\n url_env = \"T_NOTIFY\"\n secret_env = \"T_NOTIFY_KEY\"\n}\n"
	w := begin(t, dir, config, Options{
		Log: slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Forges: func(c *ForgeConfig) (Forge, error) {
			if c.URL == leaky.URL {
				return NewForge(c)
			}
			return f, nil
		},
	})
	d, conf := w.d, w.d.conf
	readToken, _ := conf.Tokens.Read.Read()
	writeToken, _ := conf.Tokens.Write.Read()
	var events sync.WaitGroup
	streamed := &syncBuffer{}
	ctx, cancel := context.WithCancel(t.Context())
	events.Go(func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.srv.URL+"/api/v1/repositories/r/events", nil)
		if err != nil {
			return
		}
		req.Header.Set("Last-Event-ID", "0")
		bearer(readToken)(req)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			_, _ = streamed.Write(append(lines.Bytes(), '\n')) // a buffer takes all
		}
	})
	w.until("it fails where it must", func(s status.Repository) bool {
		// The cycle after the failure says bad: it runs nothing again.
		return (s.Phase == status.Failing || s.Phase == status.Bad) && strings.Contains(s.Message, "training.fails")
	})
	w.eventually("the other has been told off", func() bool {
		s := d.repos[1].look()
		return s.Phase == status.Failing && s.ForgeError != ""
	})
	// Pull requests, of the team and of a fork, whose files take the word sensitive away and name what they cannot know.
	loud := strings.ReplaceAll(files["p.ml.hcl"], "sensitive = true\n", "")
	own := p.put("a literal in a fork's files")
	for n, text := range []string{loud, loud + "training \"more\" {\n  command = [\"sh\", \"train.sh\", tonumber(var.param)]\n  inputs = { data = dataset.d }\n}\n", strings.ReplaceAll(loud, `"none"`, fmt.Sprintf("%q", own))} {
		pr := tm.propose(n+1, map[string]string{"p.ml.hcl": text, "train.sh": train + fmt.Sprintf("# %d\n", n)})
		pr.Number, pr.Fork = n+1, n == 2
		f.mu.Lock()
		f.pulls = append(f.pulls, pr)
		f.may["ada"] = forge.Write
		f.mu.Unlock()
		for _, ask := range []string{"ml explain training.t", "ml explain output.o", "ml plan", "ml approve"} {
			f.write(n+1, "ada", ask)
		}
		d.repos[0].nudgePulls()
		w.eventually("it is planned and answered", func() bool { return f.status(pr.Head).State != "" && strings.Count(f.bot(n+1), "=====") >= 5 })
	}
	p.everywhere(w, f, readToken, writeToken)
	cancel()
	events.Wait()
	p.look("the events", []byte(streamed.String()))
	w.end()
	p.look("the log", []byte(said.String()))
	p.disk(conf.Data)
	if len(p.by) < 50 {
		t.Errorf("only %d secrets were planted", len(p.by))
	}
	if streamed.String() == "" || said.String() == "" || !strings.Contains(said.String(), "***") {
		t.Error("nothing was said: the test would find nothing in it")
	}
	t.Logf("%d secrets", len(p.by))
}

// everywhere asks the daemon for all that it answers.
func (p *planted) everywhere(w *works, f *fakeForge, readToken, writeToken string) {
	p.t.Helper()
	f.mu.Lock()
	pulls, statuses := len(f.pulls), maps.Clone(f.statuses)
	f.mu.Unlock()
	for n := range pulls {
		p.look(fmt.Sprintf("the comments of pull request %d", n+1), []byte(f.bot(n+1)))
	}
	for commit, s := range statuses {
		p.look("the status of "+commit, []byte(s.Text+s.URL+s.Context))
	}
	_, runs := w.getAs(readToken, "/api/v1/repositories/r/runs/training.fails")
	_, run, found := strings.Cut(runs, `"id":"`)
	if run, _, _ = strings.Cut(run, `"`); !found {
		p.t.Fatalf("no run: %s", runs)
	}
	for _, route := range slices.Concat(w.d.routes(), w.d.pages()) {
		method, path, _ := strings.Cut(route.pattern, " ")
		if strings.HasSuffix(path, "/events") || strings.Contains(path, "/follow/") {
			continue // streams, of which the first is read all the time
		}
		for _, address := range []string{"training.t", "training.fails", "validation.v", "check.c", "dataset.d"} {
			path := strings.NewReplacer("{$}", "", "{repo}", "r", "{address}", address, "{plan}", "abcd", "{file}", "style.css", "{run}", run, "{version}", "1").Replace(path)
			for _, token := range []string{"", readToken, writeToken} {
				req, err := http.NewRequestWithContext(p.t.Context(), method, w.srv.URL+path, nil)
				if err != nil {
					p.t.Fatal(err)
				}
				if token != "" {
					bearer(token)(req)
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					p.t.Fatal(err)
				}
				raw, err := io.ReadAll(resp.Body)
				if err = errors.Join(err, resp.Body.Close()); err != nil {
					p.t.Fatal(err)
				}
				p.look(path, raw)
				for k, v := range resp.Header {
					p.look(path+", header "+k, []byte(strings.Join(v, " ")))
				}
			}
		}
	}
	for _, path := range []string{"/api/v1/repositories/told", "/r/told"} {
		_, body := w.getAs(readToken, path)
		p.look(path, []byte(body))
	}
}

// disk looks at every file that the daemon keeps, but for the logs of commands, which hold what those print.
func (p *planted) disk(data string) {
	p.t.Helper()
	n := 0
	err := filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if slices.Contains(strings.Split(path, string(filepath.Separator)), "runs") {
			// A command is told its parameters by files, and prints what it likes: they are for the daemon's own account alone.
			if info, err := e.Info(); err != nil || info.Mode().Perm()&0o077 != 0 && othersPass(filepath.Dir(path)) {
				p.t.Errorf("%s is for others to read: %v, %v", path, info.Mode(), err)
			}
			return nil
		}
		if strings.HasPrefix(strings.TrimPrefix(path, data), "/r/pulls/3/") {
			return nil // these are the fork's files
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n++
		p.look(strings.TrimPrefix(path, data), raw)
		return nil
	})
	if err != nil || n < 20 {
		p.t.Errorf("%d files, %v", n, err)
	}
}

// othersPass says whether anybody else can pass through a folder.
func othersPass(dir string) bool {
	info, err := os.Stat(dir)
	return err != nil || info.Mode().Perm()&0o077 != 0
}

func (w *works) getAs(token, path string) (int, string) {
	w.t.Helper()
	resp, body := call(w.t, w.srv, http.MethodGet, path, bearer(token))
	return resp.StatusCode, body
}
