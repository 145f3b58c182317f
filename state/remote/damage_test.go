package remote_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/remote"
	"github.com/continuo-ml/continuo/state/remote/remotetest"
)

// filled is a place with a state of several parts and a snapshot of it.
func filled(t *testing.T) (*remotetest.Fake, *remote.Store, string) {
	t.Helper()
	f := remotetest.NewFake()
	s := newStore(t, f)
	commit(t, s, put(many(300, big)...)...)
	commit(t, s, put(small(1000))...)
	name, err := s.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f, s, name
}

func TestEveryDamagedByteIsFound(t *testing.T) {
	f, s, _ := filled(t)
	for _, name := range append(f.Names("parts/"), "head") {
		whole := f.Raw(name)
		for i := 0; i < len(whole); i += max(len(whole)/17, 1) {
			bad := append([]byte(nil), whole...)
			bad[i] ^= 1
			f.Force(name, bad)
			_, err := newStore(t, f).Snapshot(t.Context())
			if name == "head" && errors.Is(err, state.ErrNewer) {
				continue // its number of the format became a higher one
			}
			way := "there is no verified snapshot" // the one there is names this part, too
			if name == "head" {
				way = "`ml state rebuild`"
			}
			wantError(t, err, state.ErrCorrupt, name, way)
			_, err = newStore(t, f).Verify(t.Context())
			wantError(t, err, state.ErrCorrupt, name)
		}
		f.Force(name, whole)
	}
	if _, err := s.Verify(t.Context()); err != nil {
		t.Error("put back whole:", err)
	}
	// A part that is whole, in another's place.
	parts := f.Names("parts/")
	f.Force(parts[0], f.Raw(parts[1]))
	_, err := newStore(t, f).Snapshot(t.Context())
	wantError(t, err, state.ErrCorrupt, parts[0], "does not match its checksum")
}

func TestAMissingPartIsNamed(t *testing.T) {
	f, _, snap := filled(t)
	s := newStore(t, f)
	commit(t, s, put(many(600, func(i int) *state.Record { return big(i + 2000) })...)...)
	known := f.Raw(snap)
	for _, name := range f.Names("parts/") {
		if strings.Contains(string(known), strings.TrimPrefix(name, "parts/")) {
			continue
		}
		f.Force(name, nil)
		_, err := newStore(t, f).Snapshot(t.Context())
		wantError(t, err, state.ErrCorrupt, name+" is missing", "the newest verified snapshot is "+snap)
		_, err = s.Verify(t.Context())
		wantError(t, err, state.ErrCorrupt, name)
		return
	}
	t.Fatal("no part is new")
}

func TestRebuildPutsTheNewestWholeSnapshotBack(t *testing.T) {
	f, s, snap := filled(t)
	want := snapshot(t, s)
	commit(t, s, put(small(1001))...)
	newer, err := s.Backup(t.Context())
	if err != nil || newer == snap {
		t.Fatal(newer, err)
	}
	f.Force(newer, []byte("continuo-state 1 rubbish\n{}"))
	f.Force("head", f.Raw("head")[:100])
	holder := newStore(t, f)
	from, err := holder.RestoreLatest(t.Context())
	if err != nil || from != snap {
		t.Fatal(from, err)
	}
	got := snapshot(t, newStore(t, f))
	if diff := cmp.Diff(want.Records, got.Records); diff != "" || got.Serial <= 3+1000 || got.Lineage != want.Lineage {
		t.Errorf("serial %d, lineage %s: %s", got.Serial, got.Lineage, diff)
	}
	if len(f.Names("damaged-")) != 1 {
		t.Errorf("what was there is not kept: %v", f.Names(""))
	}
	if snapshot(t, s).Serial != got.Serial {
		t.Error("the one who saw more does not take it")
	}
	commit(t, s, put(small(1002))...)
	// With no whole snapshot it says why.
	for _, name := range f.Names("snapshots/") {
		f.Force(name, []byte("x"))
	}
	_, err = s.RestoreLatest(t.Context())
	wantError(t, err, nil, "no whole snapshot", snap)
}

func TestARebuildFencesWhoHeldTheLease(t *testing.T) {
	f, s, _ := filled(t)
	g := &gate{Blobs: f}
	holder := newStore(t, g)
	_, release := acquire(t, holder)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.RestoreLatest(ctx); !errors.Is(err, state.ErrLocked) {
		t.Errorf("while somebody applies: %v", err)
	}
	g.close()
	f.Force("head", nil) // now nobody can see that it is held
	if _, err := s.RestoreLatest(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.open()
	_, err := holder.Commit(t.Context(), 0, put(small(5))...)
	wantError(t, err, state.ErrConflict, "lease lost")
	wantError(t, release(), state.ErrConflict)
}

func TestAnOldHeadThatWasPutBackIsRefused(t *testing.T) {
	f, s, _ := filled(t)
	old := f.Raw("head")
	commit(t, s, put(small(2001))...)
	commit(t, s, put(small(2002))...)
	f.Force("head", old)
	for what, try := range map[string]func() error{
		"read":   func() error { _, err := s.Snapshot(t.Context()); return err },
		"runs":   func() error { _, err := s.Runs(t.Context(), small(2001).Address); return err },
		"lease":  func() error { _, _, err := s.Acquire(t.Context(), "apply"); return err },
		"commit": func() error { _, err := s.Commit(t.Context(), 2, put(small(3))...); return err },
		"verify": func() error { _, err := s.Verify(t.Context()); return err },
	} {
		err := try()
		wantError(t, err, state.ErrOlder, "serial 2", "serial 4 was seen")
		if t.Failed() {
			t.Fatal(what)
		}
	}
	// Another machine, which never saw more, is told by the snapshot beside it.
	stranger := newStore(t, f)
	if _, err := stranger.Snapshot(t.Context()); err != nil {
		t.Errorf("who never saw more cannot know: %v", err)
	}
	if err := s.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := snapshot(t, s); got.Serial != 5 || got.Record(small(2001).Address) != nil {
		t.Errorf("accepted: serial %d", got.Serial)
	}
	commit(t, s, put(small(7))...)
}

func TestASnapshotTellsThatTheHeadIsOld(t *testing.T) {
	f, s, _ := filled(t)
	old := f.Raw("head")
	commit(t, s, put(small(1))...)
	newer, err := s.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.Force("head", old)
	_, _, err = newStore(t, f).Acquire(t.Context(), "apply")
	wantError(t, err, state.ErrOlder, newer, "ml state rebuild")
	_, err = newStore(t, f).Verify(t.Context())
	wantError(t, err, state.ErrOlder, newer)
	if err := newStore(t, f).Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, release, err := newStore(t, f).Acquire(t.Context(), "apply")
	if err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

func TestAStateThatIsGoneOrAnotherIsNotTakenForANewOne(t *testing.T) {
	f, s, _ := filled(t)
	head := f.Raw("head")
	f.Force("head", nil)
	_, err := s.Snapshot(t.Context())
	wantError(t, err, state.ErrOlder, "holds no state, but serial 2 was seen")
	_, _, err = s.Acquire(t.Context(), "apply")
	wantError(t, err, state.ErrOlder)
	commit(t, newStore(t, f), put(small(1))...) // somebody who knows nothing makes one anew
	_, err = s.Snapshot(t.Context())
	wantError(t, err, state.ErrOlder, "of lineage", "another project or was made anew")
	f.Force("head", head)
	snapshot(t, s)
}

func TestABackupNeedsWholePartsAndOldOnesGo(t *testing.T) {
	f, s, first := filled(t)
	day := time.Now()
	f.At(func() time.Time { return day })
	f.Force("parts/left-behind", []byte("of a commit that was never made"))
	for i := range 7 {
		commit(t, s, put(many(200, func(j int) *state.Record { return big(i*200 + j) })...)...)
		if _, err := s.Backup(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	snaps := f.Names("snapshots/")
	if len(snaps) != 5 || snaps[0] == first {
		t.Errorf("snapshots %v", snaps)
	}
	if f.Raw("parts/left-behind") == nil {
		t.Error("a young part that nothing names is gone: it may be of a commit on its way")
	}
	young := len(f.Names("parts/"))
	day = day.Add(25 * time.Hour)
	commit(t, s, put(small(9999))...)
	if _, err := s.Backup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(f.Names("parts/")); f.Raw("parts/left-behind") != nil || n >= young {
		t.Errorf("%d parts of %d are left", n, young)
	}
	r, err := s.Verify(t.Context())
	if err != nil || len(r.Snapshots) != 5 {
		t.Fatal(r, err)
	}
	for _, c := range r.Snapshots {
		if c.Err != nil {
			t.Errorf("%s: %v", c.Path, c.Err)
		}
	}
	commit(t, s, put(many(300, func(j int) *state.Record { return big(5000 + j) })...)...)
	parts := f.Names("parts/")
	known := map[string]bool{}
	for _, n := range parts {
		known[n] = true
	}
	commit(t, s, put(many(300, func(j int) *state.Record { return big(6000 + j) })...)...)
	for _, n := range f.Names("parts/") {
		if !known[n] {
			f.Force(n, []byte("cut off"))
		}
	}
	_, err = s.Backup(t.Context())
	wantError(t, err, state.ErrCorrupt, "back up the state")
}

func TestAStateMovesAndItsOldPlaceSaysWhereTo(t *testing.T) {
	f, s, _ := filled(t)
	to := newStore(t, remotetest.NewFake())
	failed := errors.New("not now")
	if err := s.Handover(t.Context(), "elsewhere", func([]state.Entry) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("a move that fails: %v", err)
	}
	commit(t, s, put(small(1))...) // it stays in use
	want := snapshot(t, s)
	err := s.Handover(t.Context(), "s3://new/place", func(entries []state.Entry) error { return to.Fill(t.Context(), entries) })
	if err != nil {
		t.Fatal(err)
	}
	got := snapshot(t, to)
	if diff := cmp.Diff(want.Records, got.Records); diff != "" || got.Lineage != want.Lineage || got.Serial <= want.Serial || got.Lease != nil {
		t.Errorf("serial %d, lease %v: %s", got.Serial, got.Lease, diff)
	}
	for _, at := range []*remote.Store{s, newStore(t, f)} {
		_, err := at.Snapshot(t.Context())
		wantError(t, err, state.ErrMoved, "s3://new/place", "-reconfigure")
		_, _, err = at.Acquire(t.Context(), "apply")
		wantError(t, err, state.ErrMoved)
	}
	_, err = s.Commit(t.Context(), 0, put(small(9))...)
	wantError(t, err, state.ErrMoved)
	if err := to.Fill(t.Context(), nil); err == nil {
		t.Error("a state was filled over another")
	}
	// And back.
	if err := to.Handover(t.Context(), f.Where(), func(entries []state.Entry) error { return newStore(t, f).Fill(t.Context(), entries) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Records, snapshot(t, s).Records); diff != "" {
		t.Error(diff)
	}
}

func TestAStateThatChangesWhileItIsCopiedStays(t *testing.T) {
	f, s, _ := filled(t)
	other := newStore(t, f)
	err := s.Handover(t.Context(), "elsewhere", func([]state.Entry) error {
		commit(t, other, put(small(4))...)
		return nil
	})
	wantError(t, err, state.ErrConflict, "it stays there")
	if snapshot(t, s).Record(small(4).Address) == nil {
		t.Error("what came meanwhile is lost")
	}
}
