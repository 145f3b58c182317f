package engine

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

var planKey = bytes.Repeat([]byte{7}, 32)

const planTool = "1.2.3"

// savedPlan writes the bench's present plan to a file.
func (b *bench) savedPlan(o ...planner.Options) string {
	b.t.Helper()
	var opts PlanOptions
	if len(o) > 0 {
		opts.Options = o[0]
	}
	e := b.engine()
	p, err := e.Plan(context.Background(), opts)
	if err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(b.t.TempDir(), "plan")
	saved := &SavedPlan{Tool: planTool, Plan: p.Plan, Read: e.Project.Contents, Options: SavedOptions{Targets: opts.Targets, Replace: opts.Replace, Destroy: opts.Destroy}}
	if err := WritePlan(path, planKey, saved); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func (b *bench) read(path string) (*SavedPlan, error) {
	return ReadPlan(path, planKey, planTool, b.now)
}

// resume applies a saved plan, with the engine given or the bench's own.
func (b *bench) resume(path string, e *Engine) (*Applied, error) {
	b.t.Helper()
	saved, err := b.read(path)
	if err != nil {
		return nil, err
	}
	if e == nil {
		e = b.engine()
	}
	s, err := e.Begin(context.Background(), "apply")
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.t.Error(err)
		}
	}()
	p, err := s.Resume(context.Background(), saved)
	if err != nil {
		return nil, err
	}
	return s.Apply(context.Background(), p)
}

// wantStale applies a saved plan that must be refused, without anything being asked of the world.
func (b *bench) wantStale(path, word string, e *Engine) {
	b.t.Helper()
	b.w.took()
	_, err := b.resume(path, e)
	if !errors.Is(err, ErrStale) || !strings.Contains(err.Error(), word) {
		b.t.Fatalf("want a stale plan that names %q: %v", word, err)
	}
	b.wantCalls()
}

func TestASavedPlanDoesWhatItSaid(t *testing.T) {
	b := loopBench(t)
	path := b.savedPlan()
	out, err := b.resume(path, nil)
	if err != nil || len(out.Done) != 6 || len(out.Failed)+len(out.Blocked) > 0 {
		t.Fatalf("applied: %+v, %v", out, err)
	}
	b.wantPlan()
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("a plan is its owner's only: %v %v", st.Mode(), err)
	}
}

func TestP1EveryChangedByteIsRefused(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.sources["d.csv"] = "two!"
	path := b.savedPlan()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.read(path); err != nil {
		t.Fatalf("unchanged it must be taken: %v", err)
	}
	const flips = 4096
	if len(raw) < flips {
		t.Fatalf("the plan has %d bytes, too few to spread %d flips over", len(raw), flips)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	put := func(at int, c byte) {
		if _, err := f.WriteAt([]byte{c}, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range flips {
		at := i * len(raw) / flips
		bad := raw[at] ^ 1<<(i%8)
		put(at, bad)
		if _, err := b.read(path); err == nil {
			t.Fatalf("byte %d: %q for %q was not noticed", at, bad, raw[at])
		}
		put(at, raw[at])
	}
	if _, err := b.read(path); err != nil {
		t.Fatalf("restored it must be taken: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, raw[:1], raw[:len(planMagic)+64], raw[:len(raw)-1], append(bytes.Clone(raw), '\n'), append([]byte("\n"), raw...)} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := b.read(path); err == nil {
			t.Errorf("%d of %d bytes are no plan", len(bad), len(raw))
		}
	}
}

func TestP2APlanOfAnotherProjectOrVersionIsRefused(t *testing.T) {
	b := loopBench(t)
	path := b.savedPlan()
	for name, c := range map[string]struct {
		key  []byte
		tool string
		want string
	}{
		"another project's key": {bytes.Repeat([]byte{8}, 32), planTool, "another project"},
		"a project without key": {nil, planTool, "no key"},
		"another version":       {planKey, "1.2.4", "was made by ml 1.2.3"},
	} {
		if _, err := ReadPlan(path, c.key, c.tool, b.now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := WritePlan(path, nil, &SavedPlan{}); err == nil {
		t.Error("a plan without a key would be anyone's")
	}
	b.apply() // now there is a state, and with it a lineage
	b.w.sources["d.csv"] = "two!"
	path = b.savedPlan()
	b.store = state.NewMemory()
	b.wantStale(path, "another state", nil)
}

func TestP3AReplayedPlanIsStale(t *testing.T) {
	for name, before := range map[string]bool{"the first": false, "a later": true} {
		t.Run(name, func(t *testing.T) {
			b := loopBench(t)
			if before {
				b.apply()
				b.w.sources["d.csv"] = "two!"
			}
			path := b.savedPlan()
			if _, err := b.resume(path, nil); err != nil {
				t.Fatal(err)
			}
			b.wantStale(path, "the record of", nil)
		})
	}
}

func TestP3AReplayedDestroyIsStale(t *testing.T) {
	b := loopBench(t)
	b.apply()
	path := b.savedPlan(planner.Options{Destroy: true})
	if _, err := b.resume(path, nil); err != nil {
		t.Fatal(err)
	}
	b.apply()
	b.wantStale(path, "the record of", nil)
}

func TestP4APlanIsStaleWhenItsRecordsMoved(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.sources["d.csv"] = "two!"
	path := b.savedPlan()
	b.apply(planner.Options{Replace: []resource.Address{{Kind: "training", Name: "m"}}, Targets: []resource.Address{{Kind: "training", Name: "m"}}})
	b.wantStale(path, "the record of", nil)
}

func TestP4AnUnrelatedRecordMayMove(t *testing.T) {
	b := newBench(t, `
check "a" { command = ["true"] }
check "b" { command = ["true"] }
`)
	b.apply()
	a, other := resource.Address{Kind: "check", Name: "a"}, resource.Address{Kind: "check", Name: "b"}
	path := b.savedPlan(planner.Options{Replace: []resource.Address{a}, Targets: []resource.Address{a}})
	b.apply(planner.Options{Replace: []resource.Address{other}, Targets: []resource.Address{other}})
	b.w.took()
	if _, err := b.resume(path, nil); err != nil {
		t.Fatal(err)
	}
	b.wantCalls("run check.a")
}

func TestP4NewSourcesMakeThePlanStale(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.sources["d.csv"] = "two!"
	path := b.savedPlan()
	b.w.sources["d.csv"] = "three"
	b.wantStale(path, "content of dataset.d", nil)
	delete(b.w.sources, "d.csv")
	b.wantStale(path, "content of dataset.d", nil)
}

func TestP5APlanIsStaleWhenTheFilesOrVariablesMoved(t *testing.T) {
	withVar := "variable \"x\" { default = \"1\" }\n" + loop
	b := newBench(t, withVar)
	b.w.sources["d.csv"] = "one"
	path := b.savedPlan()
	b.write(withVar + "# pulled\n")
	b.wantStale(path, "with another content of main.ml.hcl;", nil)
	b.write(withVar)
	two := "2"
	b.vars = []config.VarInput{{Name: "x", Source: "-var", Text: &two}}
	b.wantStale(path, "with another content of var.x;", nil)
	b.vars = nil
	if _, err := b.resume(path, nil); err != nil {
		t.Fatalf("back where it was, the plan holds again: %v", err)
	}
}

// edited is a driver whose live object somebody edited.
type edited struct {
	*fakeDriver
	drift []providers.Drift
}

func (d *edited) Read(context.Context, providers.ReadRequest) (providers.Object, error) {
	return providers.Object{Phase: resource.PhaseReady, Drift: d.drift}, nil
}

func TestP6APlanIsStaleWhenItsLiveObjectWasEdited(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.sources["d.csv"] = "two!"
	path := b.savedPlan()
	// The edit that does not matter comes last: resuming then applies the plan.
	for _, c := range [][2]string{{"deployment", "deployment.m"}, {"check", ""}} {
		name, drift := c[0], c[1]
		e := b.engine()
		connect := e.Connect
		e.Connect = func(ctx context.Context, p string, c config.ProviderConfig) (*providers.Provider, error) {
			pr, err := connect(ctx, p, c)
			if err == nil {
				pr.Drivers[name] = &edited{pr.Drivers[name].(*fakeDriver), []providers.Drift{{Path: "replicas", Old: "1", New: "5", By: "kubectl"}}}
			}
			return pr, err
		}
		if drift != "" {
			b.wantStale(path, "the live object of "+drift, e)
			continue
		}
		if _, err := b.resume(path, e); err != nil {
			t.Fatalf("what the plan does not touch may be edited: %v", err)
		}
	}
}

func TestP6APlanIsStaleWhenItsObjectIsGone(t *testing.T) {
	b := loopBench(t)
	b.apply()
	b.w.sources["d.csv"] = "two!"
	path := b.savedPlan()
	b.w.mu.Lock()
	delete(b.w.objects, "deployment.m")
	b.w.mu.Unlock()
	b.wantStale(path, "the live object of deployment.m", nil)
}

func TestP7HugeFilesAndArchivesAreRefusedUnread(t *testing.T) {
	b := loopBench(t)
	dir := t.TempDir()
	huge := filepath.Join(dir, "huge")
	f, err := os.Create(huge)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<40), f.Close()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := b.read(huge); err == nil || !strings.Contains(err.Error(), "larger than 256 MiB") {
		t.Fatalf("1 TiB: %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("refusing 1 TiB took %s: it was read", took)
	}

	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, name := range []string{"../escaped", "plan", "plan"} {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "sub", "archive")
	if err := os.MkdirAll(filepath.Dir(archive), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.read(archive); err == nil || !strings.Contains(err.Error(), "not a plan file") {
		t.Fatalf("an archive: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "escaped")); err == nil {
		t.Fatal("something was unpacked")
	}
}

func TestP8ADirectoryIsNoPlan(t *testing.T) {
	b := loopBench(t)
	if _, err := b.read(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Fatal(err)
	}
	if _, err := b.read(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestP9AnExpiredOrFuturePlanIsRefused(t *testing.T) {
	b := loopBench(t)
	path := b.savedPlan()
	made := b.now
	for name, c := range map[string]struct {
		after time.Duration
		want  string // "" = taken
	}{
		"a moment later":                              {time.Second, ""},
		"at the end of its day":                       {PlanLifetime, ""},
		"a second after its day":                      {PlanLifetime + time.Second, "plans expire"},
		"ten years later":                             {87600 * time.Hour, "plans expire"},
		"the clock half a minute back, as clocks are": {-30 * time.Second, ""},
		"the clock a day back":                        {-24 * time.Hour, "in the future"},
	} {
		b.now = made.Add(c.after)
		_, err := b.read(path)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadPlan(f *testing.F) {
	created := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	good, err := json.Marshal(&SavedPlan{Tool: planTool, Plan: &planner.Plan{Created: created, Steps: []*planner.Step{{Address: resource.Address{Kind: "check", Name: "c"}}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, true)
	f.Add(good, false)
	f.Add([]byte(`{"plan":null}`), true)
	f.Add([]byte(`{"tool":"1.2.3","plan":{"created":"9999-12-31T23:59:59Z","steps":[null]}}`), true)
	f.Add([]byte(strings.Repeat("[", 20000)), true)
	f.Add([]byte(planMagic), false)
	f.Fuzz(func(t *testing.T, body []byte, signed bool) {
		raw := body
		if signed {
			raw = append([]byte(planMagic+mac(planKey, body)+"\n"), body...)
		}
		p, err := parsePlan("plan", raw, planKey, planTool, created)
		switch {
		case err == nil && !signed:
			t.Fatalf("taken without a signature: %q", raw)
		case err == nil && (p.Plan == nil || p.Tool != planTool):
			t.Fatalf("taken, but no plan of this version: %q", raw)
		}
	})
}
