package planner_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// outputsOf are the recorded outputs of an address, with text replaced.
func (w *world) outputsOf(addr, old, now string) []byte {
	w.t.Helper()
	raw := string(w.snap.Records[address(addr)].Outputs)
	if !strings.Contains(raw, old) {
		w.t.Fatalf("outputs of %s do not hold %q: %s", addr, old, raw)
	}
	return []byte(strings.ReplaceAll(raw, old, now))
}

func stepOf(t *testing.T, p *planner.Plan, addr string) *planner.Step {
	t.Helper()
	for _, st := range p.Steps {
		if st.Address == address(addr) {
			return st
		}
	}
	t.Fatalf("no step for %s in %v", addr, lines(p))
	return nil
}

// planned is a world whose training has new data, with the plan for it.
func planned(t *testing.T) (*world, planner.Input, *planner.Plan) {
	t.Helper()
	w := newWorld(t, project)
	w.apply()
	w.sources["dataset.d"] = "two"
	in := w.input(planner.Options{})
	return w, in, planner.Build(in)
}

func TestConfirmCompletesWhatWasPlanned(t *testing.T) {
	w, in, p := planned(t)
	old := string(resource.DigestOf(nil))
	c := planner.NewConfirmer(in, p)
	c.Done(address("dataset.d"), planner.Outcome{Outputs: w.outputsOf("dataset.d", old, string(resource.DigestOf([]byte("two")))), Changed: true, Verdict: &resource.Verdict{Passed: true}})
	f, err := c.Confirm(stepOf(t, p, "training.m"), in.Live.Probes[address("training.m")])
	if err != nil || f.Action != resource.RunIt || !f.Value.IsWhollyKnown() || f.Inputs == "" {
		t.Fatalf("final: %+v, %v", f, err)
	}
}

func TestConfirmRefusesAnythingElse(t *testing.T) {
	third := string(resource.DigestOf([]byte("three")))
	for name, do := range map[string]func(w *world, in planner.Input, p *planner.Plan) (*planner.Final, error){
		"an input that is not the planned one": func(w *world, in planner.Input, p *planner.Plan) (*planner.Final, error) {
			c := planner.NewConfirmer(in, p)
			c.Done(address("dataset.d"), planner.Outcome{Outputs: w.outputsOf("dataset.d", string(resource.DigestOf(nil)), third), Changed: true, Verdict: &resource.Verdict{Passed: true}})
			return c.Confirm(stepOf(w.t.(*testing.T), p, "training.m"), in.Live.Probes[address("training.m")])
		},
		"an input that the plan did not have": func(w *world, in planner.Input, p *planner.Plan) (*planner.Final, error) {
			st := *stepOf(w.t.(*testing.T), p, "dataset.d")
			st.Exec.Parts = map[string]string{"content": st.Exec.Parts["content"]}
			return planner.NewConfirmer(in, p).Confirm(&st, in.Live.Probes[st.Address])
		},
		"code that moved since": func(w *world, in planner.Input, p *planner.Plan) (*planner.Final, error) {
			st := *stepOf(w.t.(*testing.T), p, "dataset.d")
			probe := in.Live.Probes[st.Address]
			probe.Values = map[string]string{"content": third}
			in.Live.Probes[st.Address] = probe
			return planner.NewConfirmer(in, p).Confirm(&st, probe)
		},
		"a replacement where an update was planned": func(w *world, in planner.Input, p *planner.Plan) (*planner.Final, error) {
			in.Options.Replace = as("dataset.d")
			return planner.NewConfirmer(in, p).Confirm(stepOf(w.t.(*testing.T), p, "dataset.d"), in.Live.Probes[address("dataset.d")])
		},
		"an update where something was to be recorded only": func(w *world, in planner.Input, p *planner.Plan) (*planner.Final, error) {
			st := *stepOf(w.t.(*testing.T), p, "dataset.d")
			st.Exec.RecordOnly = true
			return planner.NewConfirmer(in, p).Confirm(&st, in.Live.Probes[st.Address])
		},
		"a run where an earlier one was to be taken over": func(w *world, in planner.Input, p *planner.Plan) (*planner.Final, error) {
			st := *stepOf(w.t.(*testing.T), p, "training.m")
			st.Action, st.Exec.RecordOnly, st.Exec.AdoptRun = resource.Update, true, "run-1"
			c := planner.NewConfirmer(in, p)
			c.Done(address("dataset.d"), planner.Outcome{Outputs: w.outputsOf("dataset.d", string(resource.DigestOf(nil)), string(resource.DigestOf([]byte("two")))), Changed: true, Verdict: &resource.Verdict{Passed: true}})
			return c.Confirm(&st, in.Live.Probes[st.Address])
		},
		"what is unknown although all that it needs has run": func(w *world, in planner.Input, p *planner.Plan) (*planner.Final, error) {
			c := planner.NewConfirmer(in, p)
			c.Done(address("training.m"), planner.Outcome{Changed: true})
			return c.Confirm(stepOf(w.t.(*testing.T), p, "validation.m"), planner.Probe{})
		},
		"sources that nobody looked at": func(w *world, in planner.Input, p *planner.Plan) (*planner.Final, error) {
			delete(in.Live.Probes, address("dataset.d"))
			return planner.NewConfirmer(in, p).Confirm(stepOf(w.t.(*testing.T), p, "dataset.d"), planner.Probe{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, in, p := planned(t)
			w.t = t
			f, err := do(w, in, p)
			if !errors.Is(err, planner.ErrMismatch) {
				t.Fatalf("it must not run: %+v, %v", f, err)
			}
		})
	}
}

func TestConfirmStopsBehindABadVerdictOrAFailure(t *testing.T) {
	for why, o := range map[string]planner.Outcome{
		"check.unit did not pass: 2 rows": {Verdict: &resource.Verdict{Message: "2 rows"}, Changed: true},
		"check.unit failed: disk full":    {Failed: "disk full"},
		"dataset.e failed: gone":          {Blocked: "dataset.e failed: gone"}, // the root of it
	} {
		t.Run(why, func(t *testing.T) {
			w := newWorld(t, project)
			in := w.input(planner.Options{})
			p := planner.Build(in)
			c := planner.NewConfirmer(in, p)
			c.Done(address("dataset.d"), planner.Outcome{Verdict: &resource.Verdict{Passed: true}})
			c.Done(address("check.unit"), o)
			f, err := c.Confirm(stepOf(t, p, "training.m"), in.Live.Probes[address("training.m")])
			if err != nil || f.Action != resource.Blocked || f.Why != why {
				t.Fatalf("final: %s, %q, %v", f.Action, f.Why, err)
			}
		})
	}
}

func TestConfirmStopsBehindAFailureOfWhatHadPassed(t *testing.T) {
	w := newWorld(t, project)
	w.apply()
	w.sources["check.unit"], w.sources["training.m"] = "x", "x"
	in := w.input(planner.Options{})
	p := planner.Build(in)
	c := planner.NewConfirmer(in, p)
	c.Done(address("check.unit"), planner.Outcome{Failed: "disk full"})
	f, err := c.Confirm(stepOf(t, p, "training.m"), in.Live.Probes[address("training.m")])
	if err != nil || f.Action != resource.Blocked || !strings.Contains(f.Why, "disk full") {
		t.Fatalf("final: %+v, %v", f, err)
	}
}

func TestTooFewNewRowsDeferTheRun(t *testing.T) {
	w := newWorld(t, with(retrain, "retrain { min_new_rows = 100 }"))
	w.rows["dataset.d"] = 1000
	w.apply()
	for rows, want := range map[int64]bool{1099: false, 1100: true} {
		w.sources["dataset.d"], w.rows["dataset.d"] = "more", rows
		saved := *w
		w.apply()
		ran := false
		for _, r := range w.ran {
			ran = ran || r == "run training.m"
		}
		if ran != want {
			t.Errorf("%d rows after 1000: ran %v (%v)", rows, ran, w.ran)
		}
		*w = saved
	}
	// What apply counted, the next plan knows: it promises no run that apply would hold back.
	w.sources["dataset.d"], w.rows["dataset.d"] = "more", 1099
	w.apply()
	if diff := cmp.Diff([]string{"noop training.m deferred,data_changed"}, lines(w.build())); diff != "" {
		t.Errorf("the plan after (-want +got):\n%s", diff)
	}
	// Rows of several small changes add up.
	w.sources["dataset.d"], w.rows["dataset.d"] = "more still", 1100
	w.apply()
	if !slices.Contains(w.ran, "run training.m") || len(lines(w.build())) > 0 {
		t.Errorf("ran %v; planned again: %v", w.ran, lines(w.build()))
	}
	w.rows["dataset.d"], w.sources["dataset.d"], w.sources["training.m"] = 1101, "and more", "code"
	w.apply()
	if !strings.Contains(strings.Join(w.ran, " "), "run training.m") {
		t.Errorf("new code waits for no rows: %v", w.ran)
	}
}

func TestDataWithoutRowsWaitsForNone(t *testing.T) {
	w := newWorld(t, with(retrain, "retrain { min_new_rows = 100 }"))
	w.rows["dataset.d"] = 0 // a folder of images
	w.apply()
	w.sources["dataset.d"] = "more"
	w.apply()
	if !slices.Contains(w.ran, "run training.m") {
		t.Errorf("ran %v", w.ran)
	}
}

func TestSensitiveValuesStandNowhereInAPlan(t *testing.T) {
	files := func(word string) string {
		return `
variable "token" {
  sensitive = true
  default   = "` + word + `"
}
check "c" {
  command = ["true"]
  env     = { TOKEN = var.token, PLAIN = "seen" }
}
variable "secrets" {
  sensitive = true
  default   = { SECRET = "` + word + `", N = 4711471147114711 }
}
check "d" {
  command = ["true", var.token, "${var.token}-x"]
  env     = { for k, v in var.secrets : k => tostring(v) }
}
training "t" {
  command = ["true"]
  params  = { plain = 1, list = ["shown", var.token], all = var.secrets }
}
notifier "n" {
  type   = "webhook"
  url    = "https://` + word + `.example.com"
  secret = "` + word + `"
}
`
	}
	w := newWorld(t, files("hunter2swordfish"))
	first := mustJSON(t, w.build())
	w.apply()
	w.files(files("correcthorsebattery"))
	p := w.build()
	second := mustJSON(t, p)
	for _, text := range []string{first, second, mustJSON(t, w.snap.Records)} {
		for _, word := range []string{"hunter2swordfish", "correcthorsebattery", "4711471147114711"} {
			if strings.Contains(text, word) {
				t.Errorf("%s stands in:\n%s", word, text)
			}
		}
	}
	if !strings.Contains(second, planner.MaskText) || !strings.Contains(second, "seen") {
		t.Errorf("masks and plain values must show:\n%s", second)
	}
	if got := strings.Join(lines(p), "\n"); got != "run check.c config_changed\nrun check.d config_changed,config_changed\nupdate notifier.n config_changed,config_changed\nrun training.t params_changed,params_changed" {
		t.Errorf("the change of a sensitive value must be seen:\n%s", got)
	}
	for _, st := range p.Steps {
		for _, c := range st.Changes {
			if !c.Sensitive || string(c.Old) != `"(sensitive)"` || string(c.New) != `"(sensitive)"` {
				t.Errorf("%s %s: %s → %s", st.Address, c.Path, c.Old, c.New)
			}
		}
	}
	// Where the key is not, they count as unchanged, and the plan names them; what is plain is compared all the same.
	w.files(strings.Replace(files("correcthorsebattery"), `"seen"`, `"other"`, 1))
	p = w.build(planner.Options{Hash: planner.Keyless})
	if got := strings.Join(lines(p), "\n"); got != "warning: : Sensitive values were not compared\nrun check.c config_changed" || len(p.Steps[0].Changes) != 1 || p.Steps[0].Changes[0].Path != "env.PLAIN" {
		t.Errorf("without the key:\n%s %+v", got, p.Steps)
	}
	if len(p.Diagnostics) != 1 || p.Diagnostics[0].Severity != "warning" || !strings.Contains(p.Diagnostics[0].Detail, "check.c env.TOKEN, check.d command, ") {
		t.Errorf("without the key: %+v", p.Diagnostics)
	}
}
