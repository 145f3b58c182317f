package engine

import (
	"testing"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func TestAStatusNotesWhatALiveObjectSaysThoughItIsReady(t *testing.T) {
	addr := resource.Address{Kind: "deployment", Name: "m"}
	bad := &resource.Verdict{Message: "version 2 was taken back"}
	for name, c := range map[string]struct {
		rec  state.Record
		live planner.Object
		want string
	}{
		"what was said when it was applied": {rec: state.Record{Message: "version 1 serves"}, want: ""},
		"what is so now":                    {state.Record{Message: "version 1 serves"}, planner.Object{Phase: resource.PhaseReady, Message: "3 answers wait"}, "3 answers wait"},
		"beside a bad verdict":              {state.Record{Message: "taken back", Verdict: bad}, planner.Object{Phase: resource.PhaseReady, Message: "3 answers wait"}, "version 2 was taken back; 3 answers wait"},
	} {
		c.rec.Address, c.rec.Phase = addr, resource.PhaseReady
		live := planner.Live{Objects: map[resource.Address]planner.Object{addr: c.live}}
		if got := (&Engine{Project: &config.Project{}}).statusRow(&state.Snapshot{}, &c.rec, live).Note(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
