package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/statetest"
)

func TestConcurrentCommitsAreGroupedAndEachGetsItsOwnOutcome(t *testing.T) {
	s := newStore(t)
	_, release, err := s.Acquire(t.Context(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	// While the file is held, all others queue up behind the first.
	s.file.RLock()
	const n = 60
	serials, errs := make([]uint64, n), make([]error, n)
	versions := make([]*state.Version, n)
	var wg sync.WaitGroup
	for i := range n {
		ops := []state.Op{{PutRecord: small(i)}}
		versions[i] = &state.Version{Address: resource.Address{Kind: "training", Name: "t"}, Digest: resource.Digest(fmt.Sprint(i))}
		ops = append(ops, state.Op{PutVersion: versions[i]})
		if i%10 == 3 {
			ops = append(ops, state.Op{CloseIntent: "nobody"})
		}
		wg.Go(func() { serials[i], errs[i] = s.Commit(t.Context(), 0, ops...) })
	}
	waitFor(t, func() bool {
		_, waiting := s.queue.Waiting()
		return waiting >= n-1
	})
	s.file.RUnlock()
	wg.Wait()
	var got []uint64
	numbers := map[int]bool{}
	for i := range n {
		if (errs[i] != nil) != (i%10 == 3) {
			t.Errorf("commit %d: %v", i, errs[i])
		}
		if errs[i] == nil {
			got = append(got, serials[i])
			numbers[versions[i].Number] = true
		}
	}
	slices.Sort(got)
	for i, serial := range got {
		if serial != uint64(i)+2 { // 1 took the lease
			t.Fatalf("serials %v", got)
		}
	}
	if len(numbers) != 54 || numbers[0] || !numbers[54] {
		t.Errorf("version numbers %v", numbers)
	}
	snap := readTruth(t, s).snap
	if len(snap.Records) != 54 || len(snap.Versions[versions[0].Address]) != 54 {
		t.Errorf("%d records, %d versions", len(snap.Records), len(snap.Versions[versions[0].Address]))
	}
	for _, v := range versions {
		if v.Number != 0 && snap.Version(v.Address, v.Number).Digest != v.Digest {
			t.Errorf("version %d went to another commit", v.Number)
		}
	}
	if txs := transactions(t, s); txs > 12 {
		t.Errorf("%d transactions for %d commits", txs, n)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

// transactions is how many bbolt has committed to the file.
func transactions(t *testing.T, s *Store) (txid uint64) {
	t.Helper()
	if err := s.read(t.Context(), func(_ *os.File, p *pages) error { txid = p.txid; return nil }); err != nil {
		t.Fatal(err)
	}
	return txid
}

// waitFor polls until ok, for what offers no channel to wait on.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick, end := time.NewTicker(time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("waited for 10 s")
		}
	}
}

// heldStore is a store whose second commit waits for the file until s.file is
// unlocked, and keeps all others in the queue behind it.
func heldStore(t *testing.T) (*Store, <-chan error) {
	t.Helper()
	s := newStore(t)
	commit(t, s, state.Op{PutRecord: small(1)})
	s.file.RLock()
	first := make(chan error, 1)
	go func() {
		_, err := s.Commit(t.Context(), 1, state.Op{PutRecord: small(2)})
		first <- err
	}()
	waitFor(t, queued(s, 0))
	return s, first
}

// queued says whether a commit is being written and n wait behind it.
func queued(s *Store, n int) func() bool {
	return func() bool {
		writing, waiting := s.queue.Waiting()
		return writing && waiting == n
	}
}

func TestACommitWhoseContextEndsInTheQueueIsNotMade(t *testing.T) {
	s, first := heldStore(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Commit(ctx, 2, state.Op{PutRecord: small(3)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	s.file.RUnlock()
	if err := <-first; err != nil {
		t.Error(err)
	}
	if snap := readTruth(t, s).snap; snap.Serial != 2 || snap.Record(small(3).Address) != nil {
		t.Errorf("serial %d, records %v", snap.Serial, snap.Records)
	}
}

func TestTwoStoresOneLease(t *testing.T) {
	a := newStore(t)
	b := Open(a.path, Options{Holder: "bob@host"})
	_, release, err := a.Acquire(t.Context(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
	defer cancel()
	_, _, err = b.Acquire(ctx, "rollback")
	wantError(t, err, state.ErrLocked, fmt.Sprintf("ada@host (process %d) holds it for apply since", os.Getpid()))
	if err := release(); err != nil {
		t.Fatal(err)
	}
	epoch, release, err := b.Acquire(t.Context(), "rollback")
	if err != nil || epoch != 2 {
		t.Fatal(epoch, err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
}

func TestALeaseThatIsOursIsWrittenHoweverLongTheDiskTakes(t *testing.T) {
	s, first := heldStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() {
		_, release, err := s.Acquire(ctx, "apply")
		if err == nil {
			err = release()
		}
		second <- err
	}()
	waitFor(t, queued(s, 1))
	cancel() // the wait is over, but the lock was free
	s.file.RUnlock()
	if err := errors.Join(<-first, <-second); err != nil {
		t.Fatal(err)
	}
}

func TestAHolderWhoseLockFileWasDeletedIsFenced(t *testing.T) {
	a := newStore(t)
	b := Open(a.path, Options{Holder: "bob@host"})
	_, releaseA, err := a.Acquire(t.Context(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(a.lockPath()); err != nil {
		t.Fatal(err)
	}
	_, releaseB, err := b.Acquire(t.Context(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Commit(t.Context(), 0, state.Op{PutRecord: small(1)})
	wantError(t, err, state.ErrConflict, "lease lost, bob@host")
	if _, err := b.Commit(t.Context(), 0, state.Op{PutRecord: small(2)}); err != nil {
		t.Error(err)
	}
	wantError(t, releaseA(), state.ErrConflict, "lease lost")
	if err := releaseB(); err != nil {
		t.Error(err)
	}
	if snap := readTruth(t, a).snap; len(snap.Records) != 1 || snap.Lease != nil {
		t.Errorf("%d records, lease %v", len(snap.Records), snap.Lease)
	}
}

func TestTheFirstFailedSyncEndsWriting(t *testing.T) {
	s := newStore(t)
	commit(t, s, state.Op{PutRecord: small(1)})
	err := s.writeError(errors.New("input/output error"))
	t.Cleanup(func() { failed.Delete(s.failKey()) })
	wantError(t, err, state.ErrReadOnly, "start ml anew once the disk is well")
	for _, other := range []*Store{s, Open(s.path, Options{})} {
		_, err = other.Commit(t.Context(), 1, state.Op{PutRecord: small(2)})
		wantError(t, err, state.ErrReadOnly, "input/output error")
	}
	if snap := readTruth(t, s).snap; len(snap.Records) != 1 {
		t.Errorf("%d records", len(snap.Records))
	}
}

func TestBackupsRotateAndRestore(t *testing.T) {
	s := newStore(t)
	for i := range 8 {
		commit(t, s, state.Op{PutRecord: small(i)})
		if _, err := s.Backup(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	copies, err := s.Copies()
	if err != nil || len(copies) != keepSnapshots || copies[0].Serial != 8 || copies[4].Serial != 4 {
		t.Fatalf("copies %v, %v", copies, err)
	}
	commit(t, s, state.Op{PutRecord: small(8)})
	writeFile(t, copies[0].Path, []byte("rubbish"))
	data := readFile(t, s.path)
	clear(data[:2*4096])
	writeFile(t, s.path, data)
	_, err = s.Snapshot(t.Context())
	wantError(t, err, state.ErrCorrupt, "the newest verified snapshot is "+copies[1].Path)
	if err := s.Accept(t.Context()); !errors.Is(err, state.ErrCorrupt) {
		t.Errorf("a damaged state was accepted: %v", err)
	}
	from, err := s.RestoreLatest(t.Context())
	if err != nil || from != copies[1].Path {
		t.Fatalf("restored %q, %v", from, err)
	}
	if snap := readTruth(t, s).snap; snap.Serial != 10 || len(snap.Records) != 7 {
		t.Errorf("serial %d, %d records", snap.Serial, len(snap.Records))
	}
	aside, err := filepath.Glob(s.path + ".damaged-*")
	if err != nil || len(aside) != 1 || !slices.Equal(readFile(t, aside[0]), data) {
		t.Errorf("kept aside: %v, %v", aside, err)
	}
	report, err := s.Verify(t.Context())
	if err != nil || report.Records != 7 || len(report.Snapshots) != keepSnapshots {
		t.Fatalf("report %+v, %v", report, err)
	}
	for i, c := range report.Snapshots {
		if (c.Err != nil) != (i == 0) {
			t.Errorf("snapshot %s: %v", c.Path, c.Err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.dir(), ".*tmp*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRestoreWithoutACopySaysSo(t *testing.T) {
	s := newStore(t)
	commit(t, s, state.Op{PutRecord: small(1)})
	_, err := s.RestoreLatest(t.Context())
	wantError(t, err, nil, "there is no whole snapshot to restore")
}

// TestBothStoresTellTheSame runs random histories, good and bad, on both.
func TestBothStoresTellTheSame(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := Open(filepath.Join(t.TempDir(), "state.db"), Options{})
		m := state.NewMemory()
		var serial uint64
		for range rapid.IntRange(1, 8).Draw(r, "commits") {
			var ops, same []state.Op
			for range rapid.IntRange(1, 6).Draw(r, "ops") {
				op := drawOp(r)
				ops, same = append(ops, op), append(same, copyOp(op))
			}
			got, err := s.Commit(t.Context(), serial, ops...)
			want, merr := m.Commit(t.Context(), serial, same...)
			if got != want || fmt.Sprint(err) != fmt.Sprint(merr) {
				r.Fatalf("bolt %d %v, memory %d %v", got, err, want, merr)
			}
			if err == nil {
				serial = got
			}
			compareStores(r, s, m)
		}
		if _, err := s.Verify(t.Context()); err != nil {
			r.Fatal(err)
		}
	})
}

func compareStores(r *rapid.T, s *Store, m state.Store) {
	a, err := s.Snapshot(context.Background())
	b, merr := m.Snapshot(context.Background())
	if err != nil || merr != nil {
		r.Fatal(err, merr)
	}
	a.Root, a.Lineage, b.Lineage = "", "", ""
	if diff := cmp.Diff(b, a, cmpopts.IgnoreUnexported(state.Snapshot{})); diff != "" {
		r.Fatalf("memory and bolt differ:\n%s", diff)
	}
	runs, err := s.Runs(context.Background(), resource.Address{})
	mruns, merr := m.Runs(context.Background(), resource.Address{})
	if diff := cmp.Diff(mruns, runs); err != nil || merr != nil || diff != "" {
		r.Fatalf("runs: %v %v\n%s", err, merr, diff)
	}
}

// drawOp draws from few names, so that ops meet each other.
func drawOp(r *rapid.T) state.Op {
	name := rapid.SampledFrom([]string{"a", "b", "ab"})
	at := func() resource.Address {
		return resource.Address{Kind: "training", Name: name.Draw(r, "name"), Key: rapid.SampledFrom([]string{"", "[1]", `["x.y"]`}).Draw(r, "key")}
	}
	n := rapid.IntRange(0, 3)
	id := func() string { return fmt.Sprintf("0%d", n.Draw(r, "id")) }
	a := at()
	switch rapid.IntRange(0, 11).Draw(r, "op") {
	case 0, 1:
		return state.Op{PutRecord: &state.Record{Address: a, Message: rapid.String().Draw(r, "message"), Version: n.Draw(r, "version"), Deps: []resource.Address{at()}, Created: statetest.Time}}
	case 2:
		return state.Op{DeleteRecord: &a}
	case 3:
		return state.Op{MoveRecord: &[2]resource.Address{a, at()}}
	case 4:
		return state.Op{PutRun: &state.Run{ID: id(), Address: a, Phase: resource.PhaseReady, Metrics: map[string]float64{"m": rapid.Float64Range(-1e9, 1e9).Draw(r, "metric")}}}
	case 5, 6:
		return state.Op{PutVersion: &state.Version{Address: a, Number: n.Draw(r, "number"), Verdicts: map[string]*resource.Verdict{at().String(): {Passed: true}}}}
	case 7:
		return state.Op{PutSignal: &state.Signal{Address: a, Name: "drift", Epoch: int64(n.Draw(r, "epoch"))}}
	case 8:
		return state.Op{PutIntent: &state.Intent{OpID: id(), Address: a}}
	case 9:
		return state.Op{CloseIntent: id()}
	case 10:
		return state.Op{DeleteVersion: &state.VersionRef{Address: a, Number: n.Draw(r, "number")}}
	default:
		return state.Op{PutPin: &state.Pin{Address: a, Version: n.Draw(r, "version")}}
	}
}

// copyOp copies what a commit may fill in.
func copyOp(op state.Op) state.Op {
	if op.PutVersion != nil {
		v := *op.PutVersion
		op.PutVersion = &v
	}
	return op
}
