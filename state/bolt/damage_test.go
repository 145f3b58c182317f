package bolt

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.etcd.io/bbolt"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/statetest"
)

// sample is a store with something in every bucket, several commits old, so that
// its file has free pages, branch pages and overflow pages.
func sample(t testing.TB, records int) *Store {
	t.Helper()
	s := Open(filepath.Join(t.TempDir(), "state.db"), Options{Holder: "ada@host"})
	addr := bigRecord(0).Address
	big := bigRecord(1)
	big.Spec = json.RawMessage(`"` + strings.Repeat("y", 9000) + `"`)
	commit(t, s, bigOps(records, records/2)...)
	commit(t, s,
		state.Op{PutRecord: big},
		state.Op{PutVersion: &state.Version{Address: addr, Digest: "sha256:1", Created: statetest.Time}},
		state.Op{PutSignal: &state.Signal{Address: addr, Name: "drift", Epoch: 1, Time: statetest.Time}},
		state.Op{PutPin: &state.Pin{Address: addr, Version: 1, When: statetest.Time}},
		state.Op{PutQuarantine: &state.Quarantine{Address: addr, Digest: "sha256:2", When: statetest.Time}},
		state.Op{PutApproval: &state.Approval{Plan: "sha256:3", Who: "ada", When: statetest.Time}},
		state.Op{PutIntent: &state.Intent{OpID: "01Z", Address: addr, Started: statetest.Time}})
	for i := range records / 4 {
		commit(t, s, state.Op{DeleteRecord: &resource.Address{Module: "module.m", Kind: "training", Name: fmt.Sprintf("t%d", 4*i+3)}})
		if i > 10 {
			break
		}
	}
	return s
}

// truth is what a whole state reads as.
type truth struct {
	snap *state.Snapshot
	runs []*state.Run
}

func readTruth(t testing.TB, s *Store) truth {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	runs, err := s.Runs(t.Context(), resource.Address{})
	if err != nil {
		t.Fatal(err)
	}
	return truth{snap, runs}
}

// place puts the bytes of a file, with the witness of s, into a folder of its own.
func place(t testing.TB, s *Store, data []byte) *Store {
	t.Helper()
	c := Open(filepath.Join(t.TempDir(), "state.db"), Options{})
	writeFile(t, c.path, data)
	writeFile(t, c.witnessPath(), readFile(t, s.witnessPath()))
	return c
}

// wantTruthOrDamage reads c, and wants the truth or an error that says damage.
// It returns whether there was an error.
func wantTruthOrDamage(t testing.TB, what string, c *Store, want truth) bool {
	t.Helper()
	snap, err := c.Snapshot(t.Context())
	runs, rerr := c.Runs(t.Context(), resource.Address{})
	for _, e := range []error{err, rerr} {
		if e != nil && !errors.Is(e, state.ErrCorrupt) {
			t.Errorf("%s: %v", what, e)
		}
	}
	if err == nil && !reflect.DeepEqual(snap, want.snap) {
		t.Errorf("%s: silently wrong: %s", what, cmp.Diff(want.snap, snap, cmpopts.IgnoreUnexported(state.Snapshot{})))
	}
	if rerr == nil && !reflect.DeepEqual(runs, want.runs) {
		t.Errorf("%s: silently wrong runs", what)
	}
	return err != nil || rerr != nil
}

func TestZ1AnEmptyFileIsDamage(t *testing.T) {
	s := sample(t, 10)
	c := place(t, s, nil)
	_, err := c.Snapshot(t.Context())
	wantError(t, err, state.ErrCorrupt, "it is empty")
	_, err = c.Commit(t.Context(), 3, state.Op{PutRecord: bigRecord(1)})
	wantError(t, err, state.ErrCorrupt, "`ml state rebuild`")
	if n := len(readFile(t, c.path)); n != 0 {
		t.Errorf("%d bytes were written into it", n)
	}
}

func TestZ2ATruncatedFileIsDamage(t *testing.T) {
	s := sample(t, 60)
	want, whole := readTruth(t, s), readFile(t, s.path)
	p, err := openPages(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	size := int(p.pageSize)
	for cut := 0; cut < len(whole); cut += size {
		for _, n := range []int{cut, cut + 1, cut + size - 1} {
			bad := wantTruthOrDamage(t, fmt.Sprintf("cut at %d", n), place(t, s, whole[:n]), want)
			if needed := int(p.high) * size; bad != (n < needed) {
				t.Errorf("cut at %d of %d needed bytes: damage %v", n, needed, bad)
			}
		}
	}
}

func TestZ3AMetaPageZeroed(t *testing.T) {
	s := sample(t, 10)
	want, whole := readTruth(t, s), readFile(t, s.path)
	newer := 0
	if e := binary.NativeEndian; e.Uint64(whole[4096+pageHeader+48:]) > e.Uint64(whole[pageHeader+48:]) {
		newer = 1
	}
	zero := func(metas ...int) *Store {
		data := bytes.Clone(whole)
		for _, m := range metas {
			clear(data[m*4096 : (m+1)*4096])
		}
		return place(t, s, data)
	}
	if wantTruthOrDamage(t, "the older", zero(1-newer), want) {
		t.Error("without the older meta page all is there, and it was refused")
	}
	_, err := zero(newer).Snapshot(t.Context())
	wantError(t, err, state.ErrCorrupt, "a meta page is damaged")
	_, err = zero(0, 1).Snapshot(t.Context())
	wantError(t, err, state.ErrCorrupt, "neither of its meta pages is valid")

	mended := zero(1 - newer)
	commit(t, mended, state.Op{PutRecord: bigRecord(1)})
	if _, err := mended.Verify(t.Context()); err != nil {
		t.Error("after a commit:", err)
	}
}

func TestZ4RandomDamage(t *testing.T) {
	s := sample(t, 120)
	want, whole := readTruth(t, s), readFile(t, s.path)
	r := rand.New(rand.NewPCG(4, 2))
	found, silent := 0, 0
	dir := t.TempDir()
	c := Open(filepath.Join(dir, "state.db"), Options{})
	for i := range 1000 {
		data := bytes.Clone(whole)
		what := corrupt(r, &data)
		writeFile(t, c.path, data)
		writeFile(t, c.witnessPath(), readFile(t, s.witnessPath()))
		if wantTruthOrDamage(t, what, c, want) {
			found++
		} else {
			silent++
		}
		if i%5 == 0 {
			writeIntoDamage(t, what, c, want)
		}
		if t.Failed() {
			t.Fatalf("seed (4,2), step %d", i)
		}
	}
	t.Logf("1000 corruptions of %d bytes: %d found, %d harmless", len(whole), found, silent)
	if found < 200 {
		t.Errorf("only %d of 1000 were found", found)
	}
}

// writeIntoDamage commits to a damaged file: afterwards it reads as damage, or
// as the truth with just that change.
func writeIntoDamage(t *testing.T, what string, c *Store, want truth) {
	t.Helper()
	fresh := Open(c.path, Options{})
	r := bigRecord(777)
	_, err := fresh.Commit(t.Context(), want.snap.Serial, state.Op{PutRecord: r})
	if err != nil && !errors.Is(err, state.ErrCorrupt) {
		t.Errorf("%s, commit: %v", what, err)
	}
	snap, rerr := fresh.Snapshot(t.Context())
	if rerr != nil {
		if !errors.Is(rerr, state.ErrCorrupt) {
			t.Errorf("%s, after the commit: %v", what, rerr)
		}
		return
	}
	if err == nil && snap.Record(r.Address) == nil {
		t.Errorf("%s: the commit is lost", what)
	}
	delete(snap.Records, r.Address)
	if !reflect.DeepEqual(snap.Records, want.snap.Records) || !reflect.DeepEqual(snap.Runs, want.snap.Runs) {
		t.Errorf("%s: a commit made the rest wrong", what)
	}
}

// corrupt does one of four harms to data and says which.
func corrupt(r *rand.Rand, data *[]byte) string {
	d := *data
	at := r.IntN(len(d))
	switch r.IntN(4) {
	case 0:
		bit := byte(1) << r.IntN(8)
		d[at] ^= bit
		return fmt.Sprintf("bit %#x of byte %d", bit, at)
	case 1:
		for i := at; i < min(at+64, len(d)); i++ {
			d[i] = byte(r.Uint32())
		}
		return fmt.Sprintf("noise at %d", at)
	case 2:
		clear(d[at&^4095 : min(at&^4095+4096, len(d))])
		return fmt.Sprintf("page %d zeroed", at/4096)
	default:
		*data = d[:at]
		return fmt.Sprintf("cut at %d", at)
	}
}

// TestAPageFromThePastIsFound swaps in an older version of a page that is valid
// in itself: only the sums of all values can tell.
func TestAPageFromThePastIsFound(t *testing.T) {
	s := Open(filepath.Join(t.TempDir(), "state.db"), Options{})
	commit(t, s, state.Op{PutRecord: bigRecord(1)})
	err := guarded(func() error {
		db, err := bbolt.Open(s.path, 0o600, nil)
		if err != nil {
			return err
		}
		return errors.Join(db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte(state.BucketRecords))
			k, v := b.Cursor().First()
			payload, err := unseal(state.BucketRecords, string(k), v)
			if err != nil {
				return err
			}
			past := bytes.Replace(payload, []byte(`"local"`), []byte(`"other"`), 1)
			return b.Put(bytes.Clone(k), seal(state.BucketRecords, string(k), past))
		}), db.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Snapshot(t.Context())
	wantError(t, err, state.ErrCorrupt, "the values in the bucket records do not add up")
}

// TestAFreeListThatNamesALivePageStopsAWrite: bbolt alone would write over it.
func TestAFreeListThatNamesALivePageStopsAWrite(t *testing.T) {
	s := sample(t, 60)
	whole := readFile(t, s.path)
	p, err := openPages(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	at := int(p.freelist * p.pageSize)
	if n := binary.NativeEndian.Uint16(whole[at+10:]); n == 0 {
		t.Fatal("the sample has no free page")
	}
	binary.NativeEndian.PutUint64(whole[at+pageHeader:], p.root)
	c := place(t, s, whole)
	_, err = c.Commit(t.Context(), readTruth(t, s).snap.Serial, state.Op{PutRecord: bigRecord(1)})
	wantError(t, err, state.ErrCorrupt, fmt.Sprintf("page %d is in use and listed as free", p.root))
	if !bytes.Equal(readFile(t, c.path), whole) {
		t.Error("it was written all the same")
	}
}

func TestZ5AnOldCopyIsRefusedUntilAccepted(t *testing.T) {
	s := newStore(t)
	commit(t, s, state.Op{PutRecord: bigRecord(1)})
	old := readFile(t, s.path)
	commit(t, s, state.Op{PutRecord: bigRecord(2)})
	commit(t, s, state.Op{PutRecord: bigRecord(3)})
	writeFile(t, s.path, old)
	for _, text := range []string{"is at serial 1, but serial 3 was written here", "ml state rebuild"} {
		_, err := s.Snapshot(t.Context())
		wantError(t, err, state.ErrOlder, text)
		_, err = s.Commit(t.Context(), 1, state.Op{PutRecord: bigRecord(4)})
		wantError(t, err, state.ErrOlder, text)
	}
	if err := s.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	snap, err := s.Snapshot(t.Context())
	if err != nil || snap.Serial != 4 || len(snap.Records) != 1 {
		t.Errorf("after the acceptance: %+v, %v", snap, err)
	}
	commit(t, s, state.Op{PutRecord: bigRecord(5)})
}

func TestZ6AStateOfAnotherLineageIsRefused(t *testing.T) {
	s, other := newStore(t), newStore(t)
	commit(t, s, state.Op{PutRecord: bigRecord(1)})
	for range 3 {
		commit(t, other, state.Op{PutRecord: bigRecord(1)})
	}
	writeFile(t, s.path, readFile(t, other.path))
	_, err := s.Snapshot(t.Context())
	wantError(t, err, state.ErrOlder, "it belongs to another project")
	if err := s.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// newer writes into a store what a newer program would.
func newer(t *testing.T, s *Store, change func(sums totals) []state.Entry) {
	t.Helper()
	if err := guarded(func() error {
		db, err := bbolt.Open(s.path, 0o600, nil)
		if err != nil {
			return err
		}
		return errors.Join(db.Update(func(tx *bbolt.Tx) error {
			root, err := txTable{tx}.Get(state.BucketMeta, rootKey)
			if err != nil {
				return err
			}
			sums, err := decodeTotals(root)
			if err != nil {
				return err
			}
			return writeChanges(tx, sums, change(sums))
		}), db.Close())
	}); err != nil {
		t.Fatal(err)
	}
}

func TestZ7ANewerFormatIsRefusedAndLeftAlone(t *testing.T) {
	for want, change := range map[string]func(totals) []state.Entry{
		"it has format 2, this program knows formats up to 1; use the newer ml": func(totals) []state.Entry {
			return []state.Entry{{Bucket: state.BucketMeta, Key: state.FormatKey, Value: []byte("2")}}
		},
		`it holds the entry "freeze all", which this program does not know; use the newer ml`: func(totals) []state.Entry {
			return []state.Entry{{Bucket: state.BucketMeta, Key: "freeze all", Value: []byte("{}")}}
		},
		"it holds the bucket experiments, which this program does not know; use the newer ml": func(sums totals) []state.Entry {
			sums["experiments"] = &total{}
			return nil
		},
	} {
		t.Run(want, func(t *testing.T) {
			s := Open(filepath.Join(t.TempDir(), "state.db"), Options{})
			commit(t, s, state.Op{PutRecord: bigRecord(1)})
			newer(t, s, change)
			before := readFile(t, s.path)
			_, err := s.Snapshot(t.Context()) // what every command begins with
			wantError(t, err, state.ErrNewer, want)
			_, err = s.Verify(t.Context())
			wantError(t, err, state.ErrNewer, want)
			if strings.Contains(want, "the entry") {
				return
			}
			_, err = s.Commit(t.Context(), 1, state.Op{PutRecord: bigRecord(2)})
			wantError(t, err, state.ErrNewer, want)
			_, _, err = s.Acquire(t.Context(), "apply")
			wantError(t, err, state.ErrNewer, want)
			if !bytes.Equal(before, readFile(t, s.path)) {
				t.Error("it was written all the same")
			}
		})
	}
}

func TestZ11TheFileGoesWhileWeRun(t *testing.T) {
	t.Run("a deleted file is missed and not made anew", func(t *testing.T) {
		s := Open(filepath.Join(t.TempDir(), "state.db"), Options{})
		commit(t, s, state.Op{PutRecord: bigRecord(1)})
		path, err := s.Backup(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(s.path); err != nil {
			t.Fatal(err)
		}
		_, err = s.Snapshot(t.Context())
		wantError(t, err, state.ErrOlder, "is gone, but serial 1 was written here")
		_, err = s.Commit(t.Context(), 1, state.Op{PutRecord: bigRecord(2)})
		wantError(t, err, state.ErrOlder, "is gone")
		if from, err := s.RestoreLatest(t.Context()); err != nil || from != path {
			t.Fatalf("restored %q, %v", from, err)
		}
		if snap := readTruth(t, s).snap; len(snap.Records) != 1 || snap.Serial != 2 {
			t.Errorf("after the restore: serial %d, %d records", snap.Serial, len(snap.Records))
		}
	})
	t.Run("a replaced file is read anew", func(t *testing.T) {
		s := newStore(t)
		commit(t, s, state.Op{PutRecord: bigRecord(1)})
		twin := Open(filepath.Join(t.TempDir(), "state.db"), Options{})
		writeFile(t, twin.path, readFile(t, s.path))
		commit(t, twin, state.Op{PutRecord: bigRecord(2)})
		if err := os.Rename(twin.path, s.path); err != nil {
			t.Fatal(err)
		}
		if snap := readTruth(t, s).snap; snap.Serial != 2 || len(snap.Records) != 2 {
			t.Errorf("serial %d with %d records", snap.Serial, len(snap.Records))
		}
		commit(t, s, state.Op{PutRecord: bigRecord(3)})
	})
}

func TestZ12AHundredThousandRecords(t *testing.T) {
	s := Open(filepath.Join(t.TempDir(), "state.db"), Options{})
	ops := make([]state.Op, 100_000)
	for i := range ops {
		ops[i] = state.Op{PutRecord: &state.Record{Address: resource.Address{Kind: "training", Name: fmt.Sprintf("t%d", i)}, Provider: "local", Created: statetest.Time}}
	}
	began := time.Now()
	if _, err := s.Commit(t.Context(), 0, ops...); err != nil {
		t.Fatal(err)
	}
	wrote := time.Since(began)
	snap, err := s.Snapshot(t.Context())
	if err != nil || len(snap.Records) != len(ops) {
		t.Fatalf("%d records, %v", len(snap.Records), err)
	}
	all := time.Since(began)
	t.Logf("written in %v, read in %v", wrote, all-wrote)
	if all > 5*time.Minute {
		t.Errorf("it took %v: that is a hang", all)
	}
}

func TestZ14ClockJumps(t *testing.T) {
	s := newStore(t)
	for _, years := range []int{0, 10, -10} {
		s.opts.Now = func() time.Time { return time.Now().AddDate(years, 0, 0) }
		epoch, release, err := s.Acquire(t.Context(), "apply")
		if err != nil {
			t.Fatal(err)
		}
		if l := readTruth(t, s).snap.Lease; l.Epoch != epoch || l.Since.After(l.Expires) {
			t.Errorf("lease %+v", l)
		}
		if _, err := s.Commit(t.Context(), 0, state.Op{PutRecord: bigRecord(1)}); err != nil {
			t.Error(err)
		}
		if _, err := s.Backup(t.Context()); err != nil {
			t.Error(err)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
	}
	if snap := readTruth(t, s).snap; snap.Serial != 9 {
		t.Errorf("serial %d, want 9", snap.Serial)
	}
}
