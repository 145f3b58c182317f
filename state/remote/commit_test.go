package remote_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/remote"
	"github.com/continuo-ml/continuo/state/remote/remotetest"
)

// once breaks the nth request of a kind, from 1.
func once(f *remotetest.Fake, op, name string, nth int32, what remotetest.Fault) *atomic.Int32 {
	var n atomic.Int32
	f.Break(func(o, obj string) remotetest.Fault {
		if o == op && obj == name && n.Add(1) == nth {
			return what
		}
		return remotetest.Fault{}
	})
	return &n
}

// started is a place with a record, and a store that has looked at it.
func started(t *testing.T) (*remotetest.Fake, *remote.Store) {
	t.Helper()
	f := remotetest.NewFake()
	s := newStore(t, f)
	commit(t, s, put(small(0))...)
	return f, s
}

func version(i int) *state.Version {
	return &state.Version{Address: resource.Address{Kind: "training", Name: "t"}, Digest: resource.Digest(fmt.Sprint(i)), Run: "r"}
}

func TestACommitWhoseAnswerIsLostIsFoundOutAndMadeOnce(t *testing.T) {
	f, s := started(t)
	asked := once(f, "put", "head", 1, remotetest.Fault{Lost: true})
	v := version(1)
	if _, err := s.Commit(t.Context(), 1, state.Op{PutVersion: v}); err != nil {
		t.Fatal(err)
	}
	f.Break(nil)
	if asked.Load() < 2 {
		t.Error("it was not asked again, so nothing was lost")
	}
	snap := snapshot(t, s)
	if v.Number != 1 || snap.Serial != 2 || len(snap.Versions[v.Address]) != 1 {
		t.Errorf("number %d, serial %d, versions %v", v.Number, snap.Serial, snap.Versions)
	}
}

func TestACommitWhoseAnswerIsLostIsFoundUnderThoseOfOthers(t *testing.T) {
	f, s := started(t)
	other := newStore(t, f)
	var first atomic.Bool
	f.Break(func(op, name string) remotetest.Fault {
		if op != "put" || name != "head" || !first.CompareAndSwap(false, true) {
			return remotetest.Fault{}
		}
		return remotetest.Fault{Lost: true}
	})
	// The other one writes as soon as ours is there.
	var wg sync.WaitGroup
	wg.Go(func() {
		eventually(t, "ours is there", func() bool {
			snap, err := other.Snapshot(t.Context())
			return err == nil && snap.Serial == 2
		})
		if _, err := other.Commit(t.Context(), 2, put(small(2))...); err != nil {
			t.Error(err)
		}
	})
	_, err := s.Commit(t.Context(), 1, put(small(1))...)
	wg.Wait()
	f.Break(nil)
	if err != nil {
		t.Error(err)
	}
	if snap := snapshot(t, s); snap.Serial != 3 || len(snap.Records) != 3 {
		t.Errorf("serial %d with %d records", snap.Serial, len(snap.Records))
	}
	// What it remembers is not what is there: the next commit must notice.
	commit(t, s, put(small(3))...)
}

func TestWithoutAnyAnswerACommitSaysThatItIsNotKnown(t *testing.T) {
	f, s := started(t)
	f.Break(func(op, name string) remotetest.Fault {
		if op == "put" && name == "head" {
			return remotetest.Fault{Err: fmt.Errorf("%w: reset", remote.ErrBusy)}
		}
		return remotetest.Fault{}
	})
	_, err := s.Commit(t.Context(), 1, put(small(1))...)
	wantError(t, err, remote.ErrBusy, "it is not written, unless it comes late")
	f.Break(func(op, _ string) remotetest.Fault {
		return remotetest.Fault{Err: fmt.Errorf("%w: down", remote.ErrBusy)}
	})
	_, err = s.Commit(t.Context(), 1, put(small(1))...)
	wantError(t, err, remote.ErrBusy, "is not known")
	_, err = s.Snapshot(t.Context())
	wantError(t, err, remote.ErrBusy, "fake://memory")
	f.Break(nil)
	if snap := snapshot(t, s); snap.Serial != 1 {
		t.Errorf("serial %d", snap.Serial)
	}
	commit(t, s, put(small(1))...)
}

func TestARefusedWriteChangesNothing(t *testing.T) {
	f, s := started(t)
	refused := errors.New("403: not yours")
	f.Break(func(op, _ string) remotetest.Fault {
		if op == "put" {
			return remotetest.Fault{Err: refused}
		}
		return remotetest.Fault{}
	})
	for _, ops := range [][]state.Op{put(small(1)), put(many(400, big)...)} {
		_, err := s.Commit(t.Context(), 1, ops...)
		wantError(t, err, refused)
	}
	f.Break(nil)
	if snap := snapshot(t, s); snap.Serial != 1 || len(snap.Records) != 1 {
		t.Errorf("serial %d with %d records", snap.Serial, len(snap.Records))
	}
}

func TestOfManyWritersNoneLosesACommit(t *testing.T) {
	f := remotetest.NewFake()
	const writers, each = 6, 15
	var wg sync.WaitGroup
	numbers := make(chan int, writers*each)
	for w := range writers {
		s := newStore(t, f)
		wg.Go(func() {
			for i := range each {
				for {
					snap, err := s.Snapshot(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					v := version(w*100 + i)
					_, err = s.Commit(t.Context(), snap.Serial, state.Op{PutVersion: v})
					if errors.Is(err, state.ErrConflict) || err != nil && snap.Serial == 0 {
						continue
					}
					if err != nil {
						t.Error(err)
						return
					}
					numbers <- v.Number
					break
				}
			}
		})
	}
	wg.Wait()
	close(numbers)
	seen := map[int]bool{}
	for n := range numbers {
		if seen[n] {
			t.Errorf("number %d was given twice", n)
		}
		seen[n] = true
	}
	snap := snapshot(t, newStore(t, f))
	if len(seen) != writers*each || len(snap.Versions[version(0).Address]) != writers*each {
		t.Errorf("%d numbers told, %d versions kept", len(seen), len(snap.Versions[version(0).Address]))
	}
}

func TestCommitsThatComeAtOnceShareAWrite(t *testing.T) {
	f := remotetest.NewFake()
	s := newStore(t, f)
	_, release := acquire(t, s)
	_, before := f.Requests()
	hold := make(chan struct{})
	var first atomic.Bool
	f.Break(func(op, name string) remotetest.Fault {
		if op == "put" && first.CompareAndSwap(false, true) {
			<-hold
		}
		return remotetest.Fault{}
	})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if _, err := s.Commit(t.Context(), 0, put(small(i))...); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all wait", func() bool { return s.Waiting() >= 49 })
	close(hold)
	wg.Wait()
	f.Break(nil)
	if _, after := f.Requests(); after-before > 4 {
		t.Errorf("50 commits took %d writes", after-before)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if n := len(snapshot(t, s).Records); n != 50 {
		t.Errorf("%d records", n)
	}
}

func TestACommitOfOneRecordDoesNotWriteTheOthersAgain(t *testing.T) {
	f := remotetest.NewFake()
	s := newStore(t, f)
	serial := commit(t, s, put(many(1500, big)...)...)
	parts := len(f.Names("parts/"))
	if parts < 5 {
		t.Fatalf("1,500 records stand in %d parts", parts)
	}
	for i := range 100 {
		_, before := f.Requests()
		var err error
		if serial, err = s.Commit(t.Context(), serial, put(big(1500+i))...); err != nil {
			t.Fatal(err)
		}
		if _, after := f.Requests(); i < 10 && after-before != 1 {
			t.Errorf("commit %d took %d writes", i, after-before)
		}
	}
	if n := len(f.Names("parts/")) - parts; n == 0 || n > 12 {
		t.Errorf("100 commits left %d new parts", n)
	}
	if n := len(snapshot(t, newStore(t, f)).Records); n != 1600 {
		t.Errorf("%d records", n)
	}
}

// TestWhateverIsWrittenIsReadBack compares with the store in memory, over parts
// that are cut, joined, and cut into pieces.
func TestWhateverIsWrittenIsReadBack(t *testing.T) {
	f := remotetest.NewFake()
	f.Max = 150_000
	s, want := newStore(t, f), state.NewMemory()
	rnd := rand.New(rand.NewPCG(1, 2))
	serial := uint64(0)
	both := func(ops ...state.Op) {
		t.Helper()
		one, err := s.Commit(t.Context(), serial, ops...)
		two, err2 := want.Commit(t.Context(), serial, ops...)
		if serial = one; err != nil || err2 != nil || one != two {
			t.Fatal(one, err, two, err2)
		}
	}
	live := map[int]bool{}
	for round := range 20 {
		var ops []state.Op
		for range 80 {
			i := rnd.IntN(1500)
			switch {
			case rnd.IntN(3) == 0 || round > 14:
				a := big(i).Address
				ops = append(ops, state.Op{DeleteRecord: &a})
				delete(live, i)
			default:
				ops = append(ops, state.Op{PutRecord: big(i)})
				live[i] = true
			}
			if rnd.IntN(4) == 0 {
				ops = append(ops, state.Op{PutRun: &state.Run{ID: fmt.Sprintf("%05d", rnd.IntN(400)), Address: small(i % 10).Address, Phase: resource.PhaseReady, Detail: big(i).Spec}})
			}
		}
		both(ops...)
	}
	fresh := newStore(t, f)
	got, ref := snapshot(t, fresh), snapshot(t, want)
	if len(got.Records) != len(live) {
		t.Errorf("%d records, want %d", len(got.Records), len(live))
	}
	got.Lineage, got.Root, ref.Lineage = "", "", ""
	if diff := cmp.Diff(ref, got); diff != "" {
		t.Error(diff)
	}
	for _, a := range []resource.Address{{}, small(3).Address} {
		x, err := fresh.Runs(t.Context(), a)
		y, err2 := want.Runs(t.Context(), a)
		if diff := cmp.Diff(y, x); diff != "" || err != nil || err2 != nil || len(x) == 0 {
			t.Error(diff, err, err2, len(x))
		}
	}
	if _, err := fresh.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAPlaceThatIgnoresConditionsIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	f := remotetest.NewFake()
	f.Careless = true
	s := newStore(t, f)
	_, err := s.Commit(t.Context(), 0, put(small(1))...)
	wantError(t, err, nil, "two applies could both win", "fake://memory")
	_, _, err = s.Acquire(t.Context(), "apply")
	wantError(t, err, nil, "two applies could both win")
	if f.Raw("head") != nil {
		t.Error("a head was written all the same")
	}
}
