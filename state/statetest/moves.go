package statetest

import (
	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func (s *suite) everything(a string) []state.Op {
	addr := s.addr(a)
	return []state.Op{
		{PutRecord: s.record(a)},
		{PutRun: &state.Run{ID: "01A", Address: addr, Inputs: "i", Phase: resource.PhaseReady, Version: 1, Started: Time, Finished: Time}},
		{PutVersion: s.version(a, "1")},
		{PutVersion: s.version(a, "2")},
		{PutSignal: &state.Signal{Address: addr, Name: "drift", State: resource.SignalBad, Epoch: 3, Time: Time}},
		{PutPin: &state.Pin{Address: addr, Version: 1, Who: "me", When: Time}},
		{PutQuarantine: &state.Quarantine{Address: addr, Version: 2, Digest: "2", Reason: "slow", When: Time}},
		{PutIntent: &state.Intent{OpID: "01B", Address: addr, Action: resource.RunIt, Started: Time}},
	}
}

func (s *suite) move() {
	from, to := s.addr("training.a"), s.addr(`module.m.training.b["k"]`)
	neighbour := s.record("training.ab")
	s.commit(append(s.everything("training.a"), state.Op{PutRecord: neighbour})...)
	s.commit(state.Op{MoveRecord: &[2]resource.Address{from, to}})
	snap := s.snapshot()
	if snap.Record(from) != nil || len(snap.Versions[from])+len(snap.Runs[from])+len(snap.Signals[from])+len(snap.Quarantines[from]) != 0 || snap.Pins[from] != nil {
		s.Errorf("something stayed behind: %+v", snap)
	}
	if snap.Record(neighbour.Address) == nil {
		s.Error("a neighbour whose name begins alike was moved")
	}
	if r := snap.Record(to); r == nil || r.Address != to {
		s.Errorf("record %v", r)
	}
	if v := snap.LatestVersion(to); v == nil || v.Number != 2 || v.Address != to {
		s.Errorf("version %v", v)
	}
	if k, ok := snap.RunFor(to, "i"); !ok || k.ID != "01A" {
		s.Errorf("run %v", k)
	}
	if g := snap.Signal(to, "drift"); g == nil || g.Epoch != 3 || g.Address != to {
		s.Errorf("signal %v", g)
	}
	if snap.Pins[to] == nil || snap.Quarantined(to, "2") == nil || snap.Intents[0].Address != to {
		s.Errorf("pin %v, quarantines %v, intents %v", snap.Pins, snap.Quarantines, snap.Intents)
	}
	if runs, err := s.s.Runs(s.Context(), to); err != nil || len(runs) != 1 || runs[0].Address != to {
		s.Errorf("runs %v, error %v", runs, err)
	}
	for _, a := range []resource.Address{from, to} {
		if n := snap.NextVersion(a); n != 3 {
			s.Errorf("the next version of %s is %d, want 3", a, n)
		}
	}
}

func (s *suite) moveReferences() {
	t := s.record("training.t")
	t.Deps = []resource.Address{s.addr("monitor.m"), s.addr("check.c")}
	t.Seen = map[string]int64{"monitor.m.drift": 4, "monitor.mm.drift": 1}
	v := s.version("training.t", "1")
	v.Verdicts = map[string]*resource.Verdict{"validation.v": {Passed: true, Message: "ok", Time: Time}}
	s.commit(state.Op{PutRecord: t}, state.Op{PutVersion: v}, state.Op{PutRecord: s.record("monitor.m")}, state.Op{PutRecord: s.record("validation.v")})
	s.commit(state.Op{MoveRecord: &[2]resource.Address{s.addr("monitor.m"), s.addr("monitor.n")}},
		state.Op{MoveRecord: &[2]resource.Address{s.addr("validation.v"), s.addr("validation.w")}})
	snap := s.snapshot()
	got := snap.Record(t.Address)
	if diff := cmp.Diff([]resource.Address{s.addr("monitor.n"), s.addr("check.c")}, got.Deps); diff != "" {
		s.Error(diff)
	}
	if diff := cmp.Diff(map[string]int64{"monitor.n.drift": 4, "monitor.mm.drift": 1}, got.Seen); diff != "" {
		s.Error(diff)
	}
	if w := snap.Version(t.Address, 1).Verdicts; len(w) != 1 || w["validation.w"] == nil {
		s.Errorf("verdicts %v", w)
	}
}

func (s *suite) moveChain() {
	t := s.record("training.t")
	t.Deps = []resource.Address{s.addr("check.a"), s.addr("check.b")}
	s.commit(state.Op{PutRecord: t}, state.Op{PutRecord: s.record("check.a")}, state.Op{PutRecord: s.record("check.b")})
	mv := func(from, to string) state.Op {
		return state.Op{MoveRecord: &[2]resource.Address{s.addr(from), s.addr(to)}}
	}
	s.commit(mv("check.a", "check.tmp"), mv("check.b", "check.a"), mv("check.tmp", "check.b"))
	if diff := cmp.Diff([]resource.Address{s.addr("check.b"), s.addr("check.a")}, s.snapshot().Record(t.Address).Deps); diff != "" {
		s.Error(diff)
	}
}

func (s *suite) moveOnto() {
	s.commit(state.Op{PutRecord: s.record("check.a")}, state.Op{PutRecord: s.record("check.b")},
		state.Op{PutVersion: s.version("check.c", "1")})
	for to, text := range map[string]string{"check.b": "a record of check.b already", "check.c": "prune them first", "check.a": "to itself"} {
		s.refused(text, state.Op{MoveRecord: &[2]resource.Address{s.addr("check.a"), s.addr(to)}})
	}
	s.refused("there is no record of check.x", state.Op{MoveRecord: &[2]resource.Address{s.addr("check.x"), s.addr("check.y")}})
}
