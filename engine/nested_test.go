package engine

import (
	"context"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
)

// nestedRun is what the fake provider alone understands of a training.
func nestedRun(t *testing.T) *resource.Schema {
	t.Helper()
	s, err := resource.SchemaOf(struct {
		Runtime string `ml:"runtime,input" doc:"What a run depends on."`
		Queue   string `ml:"queue,policy" doc:"Where it waits."`
	}{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// runtimeOf is what the driver was last given for a block.
func (b *bench) runtimeOf(addr string) string {
	b.t.Helper()
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	v := b.w.specs[addr]
	if v == cty.NilVal || !v.Type().HasAttribute("local") || v.GetAttr("local").IsNull() {
		return ""
	}
	return v.GetAttr("local").GetAttr("runtime").AsString()
}

const withNested = `
training "m" {
  command = ["train"]
  local {
    runtime = "torch"
    queue   = "slow"
  }
}
`

func TestANestedProviderBlockReachesItsDriverAndTheRecord(t *testing.T) {
	b := newBench(t, withNested)
	b.apply()
	if got := b.runtimeOf("training.m"); got != "torch" {
		t.Fatalf("the driver got runtime %q", got)
	}
	rec := b.record("training.m")
	if rec.Parts["local.runtime"] != `"torch"` || rec.Policy["local.queue"] != `"slow"` || !strings.Contains(string(rec.Spec), `"runtime":"torch"`) {
		t.Fatalf("recorded: %v %v %s", rec.Parts, rec.Policy, rec.Spec)
	}
	b.wantPlan()
	b.write(strings.Replace(withNested, "slow", "fast", 1))
	b.wantPlan("update training.m config_changed")
	b.w.took()
	b.apply()
	b.wantCalls()
	b.write(strings.Replace(withNested, "torch", "jax", 1))
	b.wantPlan("run training.m config_changed")
}

func TestANestedProviderBlockOutlivesACrash(t *testing.T) {
	b := newBench(t, withNested)
	b.w.holds["training.m"] = make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	b.w.onApply = func(string) { cancel() }
	if _, err := applyWith(ctx, b.engine(), PlanOptions{}); err != nil {
		t.Fatal(err)
	}
	b.w.onApply = nil
	close(b.w.holds["training.m"])
	b.w.specs["training.m"] = cty.NilVal
	b.write(strings.Replace(withNested, "torch", "jax", 1))
	s, err := b.engine().Begin(context.Background(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := b.runtimeOf("training.m"); got != "torch" {
		t.Fatalf("what was started is settled with what it was started with, not %q", got)
	}
}

func TestARunThatOnlyMovedKeepsTheProviderThatRanIt(t *testing.T) {
	const files = "provider \"local\" {\n alias = \"eu\"\n}\ncheck \"c\" {\n command = [\"true\"]\n}\n"
	b := newBench(t, files)
	b.apply()
	b.write(strings.Replace(files, "command", "provider = \"local.eu\"\n timeout = \"1m\"\n command", 1))
	b.w.took()
	b.apply()
	b.wantCalls()
	if rec := b.record("check.c"); rec.Provider != "local" || rec.Policy["timeout"] != `"1m"` {
		t.Fatalf("after its policy moved: provider %q, policy %v", rec.Provider, rec.Policy)
	}
	b.w.sources["code of check.c"] = "new"
	b.apply()
	if rec := b.record("check.c"); rec.Provider != "local.eu" {
		t.Fatalf("after it ran at the other provider: %q", rec.Provider)
	}
}
