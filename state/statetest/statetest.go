// Package statetest is the suite that every state.Store passes.
//
// [Run] takes a function that makes an empty store and checks the promises of
// the interface on it: compare and swap, fencing, numbering, immutability,
// moves, the journal, the lease. What only a stored state promises (durability,
// damage, other processes) is tested where it is stored.
package statetest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Time is the time in all records of the suite.
var Time = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Addr parses an address and fails the test when it is none.
func Addr(t testing.TB, s string) resource.Address {
	t.Helper()
	a, err := resource.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Run checks the stores that open makes, each of them empty.
func Run(t *testing.T, open func(t *testing.T) state.Store) {
	for _, tc := range []struct {
		name string
		run  func(*suite)
	}{
		{"an empty state has serial 0 and nothing in it", (*suite).empty},
		{"what was put is read back whole", (*suite).roundTrip},
		{"a commit on an old serial is refused and changes nothing", (*suite).compareAndSwap},
		{"a writer without a lease must name its serial", (*suite).needsBase},
		{"one bad op undoes its whole commit", (*suite).allOrNothing},
		{"an op with no or two fields is refused", (*suite).opShape},
		{"versions are numbered from 1 and numbers are never reused", (*suite).numbers},
		{"a version is immutable but for its verdicts", (*suite).immutable},
		{"the current version cannot be deleted", (*suite).currentVersion},
		{"a move takes everything along", (*suite).move},
		{"a move renames what others say of it", (*suite).moveReferences},
		{"a chain of moves in one commit ends at its last name", (*suite).moveChain},
		{"a move onto something is refused", (*suite).moveOnto},
		{"an intent is closed once", (*suite).intents},
		{"a signal's epoch never falls", (*suite).signals},
		{"runs are indexed and kept whole", (*suite).runs},
		{"pins and quarantines come and go", (*suite).pins},
		{"an approval is kept until it is deleted, and used once", (*suite).approvals},
		{"one of two gets the lease, the other is told who has it", (*suite).lease},
		{"a lease is neither taken nor dropped around Acquire", (*suite).leaseOps},
		{"a done context does nothing", (*suite).done},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.run(&suite{T: t, s: open(t)})
		})
	}
}

type suite struct {
	*testing.T
	s state.Store
}

func (s *suite) snapshot() *state.Snapshot {
	s.Helper()
	snap, err := s.s.Snapshot(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	return snap
}

// commit commits on the present serial and fails the test on error.
func (s *suite) commit(ops ...state.Op) uint64 {
	s.Helper()
	serial, err := s.s.Commit(s.Context(), s.snapshot().Serial, ops...)
	if err != nil {
		s.Fatal(err)
	}
	return serial
}

// refused commits, wants an error with the text, and wants nothing changed.
func (s *suite) refused(text string, ops ...state.Op) {
	s.Helper()
	before := s.snapshot()
	_, err := s.s.Commit(s.Context(), before.Serial, ops...)
	if err == nil || !strings.Contains(err.Error(), text) {
		s.Errorf("got error %v, want one with %q", err, text)
	}
	if diff := cmp.Diff(before, s.snapshot(), cmpopts.IgnoreUnexported(state.Snapshot{})); diff != "" {
		s.Errorf("a refused commit changed the state:\n%s", diff)
	}
}

func (s *suite) addr(a string) resource.Address { return Addr(s, a) }

func (s *suite) record(a string) *state.Record {
	return &state.Record{Address: s.addr(a), Provider: "local", Phase: resource.PhaseReady, Created: Time, Updated: Time}
}

func (s *suite) version(a, digest string) *state.Version {
	return &state.Version{Address: s.addr(a), Digest: resource.Digest(digest), Run: "r1", Created: Time}
}

func (s *suite) empty() {
	snap := s.snapshot()
	if snap.Serial != 0 || len(snap.Records)+len(snap.Runs)+len(snap.Versions)+len(snap.Intents) != 0 || snap.Lease != nil {
		s.Errorf("got %+v", snap)
	}
	if runs, err := s.s.Runs(s.Context(), resource.Address{}); err != nil || len(runs) != 0 {
		s.Errorf("runs %v, error %v", runs, err)
	}
}

func (s *suite) roundTrip() {
	r := s.record(`module.eu["a.b"].training.churn["d\"e/ü"]`)
	r.Parts = resource.Parts{"code": "sha256:1", "params.epochs": "3"}
	r.Inputs = r.Parts.Digest()
	r.Spec = json.RawMessage(`{"a":"<&>","n":12345678901234567890.5}`)
	r.Outputs = json.RawMessage(`[1,null,"x"]`)
	r.Verdict = &resource.Verdict{Passed: true, Message: "fine", Time: Time}
	r.Ref = json.RawMessage(`{"pid":1}`)
	r.Deps = []resource.Address{s.addr("dataset.d"), s.addr("check.unit[0]")}
	r.Seen = map[string]int64{"monitor.x.drift": 2}
	r.Message = "line\nline\x00"
	other := s.record("training.churn[10]")
	if serial := s.commit(state.Op{PutRecord: r}, state.Op{PutRecord: other}); serial != 1 {
		s.Errorf("the first serial is %d", serial)
	}
	snap := s.snapshot()
	want := map[resource.Address]*state.Record{r.Address: r, other.Address: other}
	if diff := cmp.Diff(want, snap.Records); diff != "" {
		s.Error(diff)
	}
	if snap.Lineage == "" || snap.Serial != 1 {
		s.Errorf("lineage %q serial %d", snap.Lineage, snap.Serial)
	}
	s.commit(state.Op{DeleteRecord: &r.Address}, state.Op{DeleteRecord: &r.Address})
	if got := s.snapshot(); got.Record(r.Address) != nil || got.Record(other.Address) == nil || got.Lineage != snap.Lineage {
		s.Errorf("after the deletion: %v", got.Records)
	}
}

func (s *suite) compareAndSwap() {
	s.commit(state.Op{PutRecord: s.record("check.a")})
	s.commit(state.Op{PutRecord: s.record("check.b")})
	_, err := s.s.Commit(s.Context(), 1, state.Op{PutRecord: s.record("check.c")})
	if !errors.Is(err, state.ErrConflict) {
		s.Errorf("got %v", err)
	}
	if snap := s.snapshot(); snap.Serial != 2 || len(snap.Records) != 2 {
		s.Errorf("serial %d with %d records", snap.Serial, len(snap.Records))
	}
}

func (s *suite) needsBase() {
	s.commit(state.Op{PutRecord: s.record("check.a")})
	if _, err := s.s.Commit(s.Context(), 0, state.Op{PutRecord: s.record("check.b")}); err == nil {
		s.Error("a commit without lease and base went through")
	}
	_, release, err := s.s.Acquire(s.Context(), "apply")
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.s.Commit(s.Context(), 0, state.Op{PutRecord: s.record("check.b")}); err != nil {
		s.Error(err)
	}
	if err := release(); err != nil {
		s.Fatal(err)
	}
	if _, err := s.s.Commit(s.Context(), 0, state.Op{PutRecord: s.record("check.c")}); err == nil {
		s.Error("a commit after the release went through")
	}
}

func (s *suite) allOrNothing() {
	s.commit(state.Op{PutRecord: s.record("check.a")})
	v := s.version("training.t", "d")
	s.refused("no open intent", state.Op{PutRecord: s.record("check.b")}, state.Op{PutVersion: v}, state.Op{CloseIntent: "nobody"})
	if v.Number != 0 {
		s.Errorf("a refused commit gave out number %d", v.Number)
	}
	s.refused("needs a kind and a name", state.Op{PutRecord: &state.Record{}})
}

func (s *suite) opShape() {
	s.commit(state.Op{PutRecord: s.record("check.z")})
	s.refused("one field set, not 0", state.Op{})
	s.refused("one field set, not 2", state.Op{PutRecord: s.record("check.a"), CloseIntent: "x"})
}

func (s *suite) numbers() {
	v1, v2 := s.version("training.t", "1"), s.version("training.t", "2")
	s.commit(state.Op{PutVersion: v1}, state.Op{PutVersion: v2})
	if v1.Number != 1 || v2.Number != 2 {
		s.Errorf("numbers %d and %d", v1.Number, v2.Number)
	}
	s.commit(state.Op{DeleteVersion: &state.VersionRef{Address: v2.Address, Number: 2}})
	if n := s.snapshot().NextVersion(v1.Address); n != 3 {
		s.Errorf("the next number is %d", n)
	}
	s.refused("the next version of training.t is 3, not 4", state.Op{PutVersion: &state.Version{Address: v1.Address, Number: 4}})
	s.refused("was pruned", state.Op{PutVersion: v2})
	v3 := s.version("training.t", "3")
	v3.Number = 3
	s.commit(state.Op{PutVersion: v3})
	snap := s.snapshot()
	if snap.LatestVersion(v1.Address).Number != 3 || snap.Version(v1.Address, 1).Digest != "1" || snap.Version(v1.Address, 2) != nil {
		s.Errorf("versions %v", snap.Versions)
	}
}

func (s *suite) immutable() {
	v := s.version("training.t", "1")
	v.Params = map[string]any{"epochs": 3, "rate": 0.5, "name": "a<b"}
	s.commit(state.Op{PutVersion: v})
	judged := *v
	judged.Verdicts = map[string]*resource.Verdict{"validation.a": {Passed: true, Message: "a", Time: Time}}
	s.commit(state.Op{PutVersion: &judged})
	judged.Verdicts = map[string]*resource.Verdict{"validation.b": {Message: "b", Time: Time}}
	s.commit(state.Op{PutVersion: &judged})
	got := s.snapshot().Version(v.Address, 1)
	if len(got.Verdicts) != 2 || !got.Verdicts["validation.a"].Passed || got.Passed() {
		s.Errorf("verdicts %v", got.Verdicts)
	}
	read := *got
	read.Verdicts = map[string]*resource.Verdict{"validation.b": {Passed: true, Message: "again", Time: Time}}
	s.commit(state.Op{PutVersion: &read})
	if got = s.snapshot().Version(v.Address, 1); !got.Passed() || got.Params["name"] != "a<b" {
		s.Errorf("after the second judgement: %+v", got)
	}
	changed := *v
	changed.Digest = "2"
	s.refused("immutable", state.Op{PutVersion: &changed})
}

func (s *suite) currentVersion() {
	r := s.record("training.t")
	r.Version = 1
	s.commit(state.Op{PutVersion: s.version("training.t", "1")}, state.Op{PutRecord: r})
	s.refused("is the current one", state.Op{DeleteVersion: &state.VersionRef{Address: r.Address, Number: 1}})
}

func (s *suite) intents() {
	for _, id := range []string{"01B", "01A"} {
		s.commit(state.Op{PutIntent: &state.Intent{OpID: id, Address: s.addr("check.a"), Started: Time}})
	}
	if in := s.snapshot().Intents; len(in) != 2 || in[0].OpID != "01A" {
		s.Errorf("intents %v", in)
	}
	s.refused("is open for check.a", state.Op{PutIntent: &state.Intent{OpID: "01A", Address: s.addr("check.b")}})
	s.commit(state.Op{CloseIntent: "01A"})
	s.refused("no open intent 01A", state.Op{CloseIntent: "01A"})
	if in := s.snapshot().Intents; len(in) != 1 || in[0].OpID != "01B" {
		s.Errorf("intents %v", in)
	}
}

func (s *suite) signals() {
	g := state.Signal{Address: s.addr("monitor.m"), Name: "drift", State: resource.SignalBad, Epoch: 2, Time: Time}
	s.commit(state.Op{PutSignal: &g})
	s.refused("must not fall", state.Op{PutSignal: &state.Signal{Address: g.Address, Name: "drift", Epoch: 1}})
	s.commit(state.Op{DeleteRecord: &g.Address})
	if got := s.snapshot().Signal(g.Address, "drift"); got == nil || got.Epoch != 2 {
		s.Errorf("signal %v", got)
	}
}

func (s *suite) runs() {
	a, b := s.addr("training.a"), s.addr("training.b")
	put := func(id string, at resource.Address, phase resource.Phase, inputs string) state.Op {
		return state.Op{PutRun: &state.Run{ID: id, Address: at, Phase: phase, Inputs: resource.Digest(inputs), Metrics: map[string]float64{"f1": 0.5}, Started: Time, Finished: Time}}
	}
	s.commit(put("3", a, resource.PhaseFailed, "i"), put("1", a, resource.PhaseReady, "i"), put("2", a, resource.PhaseReady, "j"), put("2b", b, resource.PhaseReady, "i"))
	snap := s.snapshot()
	if k, ok := snap.RunFor(a, "i"); !ok || k.ID != "1" {
		s.Errorf("the run for i is %v", k)
	}
	if k, ok := snap.RunFor(a, "nothing"); ok {
		s.Errorf("the run for nothing is %v", k)
	}
	ids := func(at resource.Address) (ids []string) {
		runs, err := s.s.Runs(s.Context(), at)
		if err != nil {
			s.Fatal(err)
		}
		for _, r := range runs {
			ids = append(ids, r.ID)
			if r.Metrics["f1"] != 0.5 {
				s.Errorf("run %s lost its metrics", r.ID)
			}
		}
		return ids
	}
	if got := ids(a); !slices.Equal(got, []string{"1", "2", "3"}) {
		s.Errorf("runs of a: %v", got)
	}
	if got := ids(resource.Address{}); !slices.Equal(got, []string{"1", "2", "2b", "3"}) {
		s.Errorf("all runs: %v", got)
	}
}

func (s *suite) done() {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.s.Snapshot(ctx); !errors.Is(err, context.Canceled) {
		s.Errorf("snapshot: %v", err)
	}
	if _, err := s.s.Commit(ctx, 0, state.Op{PutRecord: s.record("check.a")}); !errors.Is(err, context.Canceled) {
		s.Errorf("commit: %v", err)
	}
	if _, err := s.s.Runs(ctx, resource.Address{}); !errors.Is(err, context.Canceled) {
		s.Errorf("runs: %v", err)
	}
	if snap := s.snapshot(); snap.Serial != 0 {
		s.Errorf("serial %d", snap.Serial)
	}
}
