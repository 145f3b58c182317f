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

func (s *suite) pins() {
	p := &state.Pin{Address: s.addr("deployment.d"), Version: 1, Model: json.RawMessage(`{"version":1}`), Who: "me", When: Time}
	q := &state.Quarantine{Address: p.Address, Version: 2, Digest: "sha256:2", Reason: "slow", When: Time}
	s.commit(state.Op{PutPin: p}, state.Op{PutQuarantine: q})
	snap := s.snapshot()
	if diff := cmp.Diff(p, snap.Pins[p.Address]); diff != "" {
		s.Error(diff)
	}
	if snap.Quarantined(p.Address, "sha256:2") == nil || snap.Quarantined(p.Address, "sha256:3") != nil {
		s.Errorf("quarantines %v", snap.Quarantines)
	}
	s.commit(state.Op{DeletePin: &p.Address}, state.Op{LiftQuarantine: q})
	if snap = s.snapshot(); len(snap.Pins)+len(snap.Quarantines) != 0 {
		s.Errorf("pins %v, quarantines %v", snap.Pins, snap.Quarantines)
	}
}

func (s *suite) approvals() {
	a := &state.Approval{Plan: "sha256:1", Commit: "abc", Who: "ada", When: Time, Expires: Time.Add(time.Hour)}
	later := &state.Approval{Plan: "sha256:0", Who: "ada", When: Time.Add(time.Second), Expires: Time.Add(time.Hour)}
	s.commit(state.Op{PutApproval: later}, state.Op{PutApproval: a})
	snap := s.snapshot()
	if diff := cmp.Diff([]*state.Approval{a, later}, snap.Approvals); diff != "" {
		s.Error(diff)
	}
	if snap.Approval("sha256:1") == nil || snap.Approval("sha256:2") != nil {
		s.Errorf("approvals %v", snap.Approvals)
	}
	used := *a
	used.Used = &later.When
	s.commit(state.Op{PutApproval: &used}, state.Op{DeleteApproval: later.Plan})
	if snap = s.snapshot(); len(snap.Approvals) != 1 || snap.Approvals[0].Used == nil {
		s.Errorf("approvals %v", snap.Approvals)
	}
	s.refused("was used already", state.Op{PutApproval: a})
	s.refused("names a plan", state.Op{PutApproval: &state.Approval{Who: "ada"}})
}

func (s *suite) lease() {
	epoch, release, err := s.s.Acquire(s.Context(), "apply")
	if err != nil || epoch < 1 {
		s.Fatal(epoch, err)
	}
	if l := s.snapshot().Lease; l == nil || l.Epoch != epoch || l.Doing != "apply" || l.PID == 0 || l.Since.IsZero() {
		s.Errorf("lease %+v", l)
	}
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Millisecond)
	defer cancel()
	_, _, err = s.s.Acquire(ctx, "rollback")
	if !errors.Is(err, state.ErrLocked) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "for apply since") {
		s.Errorf("the second got %v", err)
	}
	got := make(chan error, 1)
	go func() {
		next, release, err := s.s.Acquire(s.Context(), "second")
		if err == nil && next <= epoch {
			err = errors.New("the epoch did not rise")
		}
		if err == nil {
			err = release()
		}
		got <- err
	}()
	if err := release(); err != nil {
		s.Error(err)
	}
	if err := <-got; err != nil {
		s.Error("the one who waited:", err)
	}
	if l := s.snapshot().Lease; l != nil {
		s.Errorf("a released lease is still there: %+v", l)
	}
}

func (s *suite) leaseOps() {
	s.commit(state.Op{PutRecord: s.record("check.a")})
	s.refused("taken with Acquire", state.Op{PutLease: &state.Lease{Epoch: 7}})
	s.refused("by its holder only", state.Op{DropLease: true})
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
