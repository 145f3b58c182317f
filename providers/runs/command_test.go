package runs

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func (p *project) logs(kind string, req providers.LogRequest) string {
	p.T.Helper()
	l, ok := providers.As[providers.Logger](p.Drivers[kind])
	if !ok {
		p.T.Fatalf("%s keeps no logs", kind)
	}
	var b bytes.Buffer
	if err := l.Logs(providertest.Within(p.T), req, &b); err != nil {
		p.T.Fatal(err)
	}
	return b.String()
}

func TestLogsAreThoseOfAllStagesInTheirOrder(t *testing.T) {
	p := newProject(t, nil)
	spec := config.Training{Exec: sh(`echo a $ML_RUN_ID; echo b; echo m > $ML_MODEL_DIR/m`), Smoke: &config.Smoke{Rows: 1}}
	p.MustApply("training", "op1", spec)
	all := "==> smoke <==\na op1.smoke\nb\n==> run <==\na op1\nb\n"
	cases := map[string]struct {
		req  providers.LogRequest
		want string
	}{
		"of an operation":     {providers.LogRequest{OpID: "op1"}, all},
		"of a run":            {providers.LogRequest{Run: &state.Run{ID: "op1"}}, all},
		"of a record":         {providers.LogRequest{Record: &state.Record{Run: "op1"}}, all},
		"the last lines":      {providers.LogRequest{OpID: "op1", Lines: 3}, "==> smoke <==\nb\n==> run <==\na op1\nb\n"},
		"followed to the end": {providers.LogRequest{OpID: "op1", Follow: true}, all},
	}
	for name, c := range cases {
		if d := cmp.Diff(c.want, p.logs("training", c.req)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	l, _ := providers.As[providers.Logger](p.Drivers["training"])
	providertest.WantError(t, l.Logs(providertest.Within(t), providers.LogRequest{OpID: "gone"}, &bytes.Buffer{}), "the log of gone is gone")
	providertest.WantError(t, l.Logs(providertest.Within(t), providers.LogRequest{OpID: "../x"}, &bytes.Buffer{}), "cannot name a folder")
}

func TestTheCommitOfTheCodeIsRecorded(t *testing.T) {
	p := newProject(t, map[string]string{"train.sh": "echo m > $ML_MODEL_DIR/m\n", "note.txt": "1"})
	spec := config.Training{Exec: config.Exec{Command: []string{"sh", "train.sh"}}}
	if c := p.MustApply("training", "op0", spec).Version.Commit; c != "" {
		t.Errorf("commit %q outside of a repository", c)
	}
	repo, err := git.PlainInit(p.Root, false)
	if err != nil {
		t.Fatal(err)
	}
	wt, err := repo.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wt.Add("train.sh"); err != nil {
		t.Fatal(err)
	}
	hash, err := wt.Commit("first", &git.CommitOptions{Author: &object.Signature{Name: "a", Email: "a@example.com", When: providertest.Now}})
	if err != nil {
		t.Fatal(err)
	}
	p.Write("note.txt", "2")
	if c := p.MustApply("training", "op1", spec).Version.Commit; c != hash.String() {
		t.Errorf("commit %q, want %s: a file that is no source does not make it dirty", c, hash)
	}
	p.Write("train.sh", "echo n > $ML_MODEL_DIR/m\n")
	p.connect()
	if c := p.MustApply("training", "op2", spec).Version.Commit; c != hash.String()+"+dirty" {
		t.Errorf("commit %q, want it dirty", c)
	}
}

func TestAnAdoptedOperationDoesNotRunWithHashesInPlaceOfSecrets(t *testing.T) {
	p := newProject(t, nil)
	x := sh(`echo $TOKEN >> runs.log; echo m > $ML_MODEL_DIR/m`)
	spec := config.Training{Exec: x, Smoke: &config.Smoke{Rows: 1}}
	req := p.Request("training", "op1", spec)
	o := &op{env: p.env(), exec: Processes{p.env()}, req: req, dir: p.Path(".ml/runs/op1")}
	s := (&training{command{Workspace: o.env, exec: o.exec}}).call(o, smokeStage, spec, map[string]any{})
	if _, err := o.run(providertest.Within(t), smokeStage, s, nil); err != nil {
		t.Fatal(err)
	}
	spec.Env = map[string]string{"TOKEN": "hash:0123"}
	req = p.Request("training", "op1", spec)
	req.Adopt = true
	_, err := p.Drivers["training"].Apply(providertest.Within(t), req)
	providertest.WantRunError(t, err, "needs sensitive values")
	if n := lineCount(p.Read("runs.log")); n != 1 {
		t.Errorf("%d runs", n)
	}
}

func TestPruneRemovesWhatNobodyRefersTo(t *testing.T) {
	p := newProject(t, map[string]string{"a.csv": table, "b.csv": "id\n1\n"})
	keep := p.MustApply("dataset", "d1", config.Dataset{Source: "a.csv"}).Outputs.(config.DatasetOutputs)
	drop := p.MustApply("dataset", "d2", config.Dataset{Source: "b.csv"}).Outputs.(config.DatasetOutputs)
	good := p.MustApply("training", "op1", config.Training{Exec: sh("echo 1 > $ML_MODEL_DIR/m")}).Version
	bad := p.MustApply("training", "op2", config.Training{Exec: sh("echo 2 > $ML_MODEL_DIR/m")}).Version
	req := providers.PruneRequest{
		KeepDigests: map[string]bool{resource.Digest(keep.Digest).Hex(): true, good.Digest.Hex(): true},
		KeepRuns:    map[string]bool{"op1": true}, DryRun: true,
	}
	want := []string{"data " + drop.Digest, "run op2", "model " + string(bad.Digest)}
	for _, dry := range []bool{true, false} {
		req.DryRun = dry
		res, err := p.provider.Prune(providertest.Within(t), req)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, res.Removed); d != "" || res.Bytes == 0 {
			t.Errorf("dry %v: %d bytes, %s", dry, res.Bytes, d)
		}
		for path, stays := range map[string]bool{keep.Path: true, drop.Path: dry, ".ml/runs/op1": true, ".ml/runs/op2": dry, good.URI: true, bad.URI: dry} {
			if ok, err := exists(p.Path(path)); err != nil || ok != stays {
				t.Errorf("dry %v: %s is there: %v, want %v (%v)", dry, path, ok, stays, err)
			}
		}
	}
}

func (p *project) env() *Workspace {
	p.T.Helper()
	d, ok := p.Drivers["check"].(*providers.TypedDriver[config.Check])
	if !ok {
		p.T.Fatal("the check driver is of another type")
	}
	return d.Inner.(*check).Workspace
}

func TestInputsThatAreNoDataAreRefused(t *testing.T) {
	p := newProject(t, map[string]string{"x.csv": table})
	for _, in := range []any{"x.csv", 3, map[string]any{"rows": 3}} {
		_, err := p.Apply("check", "op1", config.Check{Exec: sh("true"), Inputs: map[string]any{"d": in}})
		providertest.WantError(t, err, "check.x: inputs.d: is neither a dataset, a split nor a model")
	}
	gone := map[string]any{"path": ".ml/data/x/x.csv"}
	_, err := p.Apply("check", "op1", config.Check{Exec: sh("true"), Inputs: map[string]any{"d": gone}})
	providertest.WantError(t, err, "is gone; apply its dataset again")
	if strings.Contains(err.Error(), p.Root) {
		t.Errorf("the message names an absolute path: %v", err)
	}
}
