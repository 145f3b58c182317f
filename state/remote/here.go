package remote

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/proc"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Files in Options.Dir.
const (
	witnessFile = "serial" // the highest head seen from here
	idFile      = "id"     // a random name of this folder
	lockFile    = "lock"   // the OS lock of a holder here
)

func newLineage() string { return rand.Text() }

// witness is the highest head that was seen from this folder.
func (s *Store) witness() (w state.Head, err error) {
	if s.opts.Dir == "" {
		return w, nil
	}
	raw, err := os.ReadFile(filepath.Join(s.opts.Dir, witnessFile))
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return w, fmt.Errorf("read the highest serial: %w", err)
	}
	if json.Unmarshal(raw, &w) != nil {
		return state.Head{}, nil // a power cut: it bears no witness, and is written anew
	}
	return w, nil
}

// writeWitness remembers a head, unless a higher one of its lineage is remembered.
func (s *Store) writeWitness(h state.Head) error {
	if s.opts.Dir == "" {
		return nil
	}
	if w, err := s.witness(); err != nil || w.Lineage == h.Lineage && w.Serial >= h.Serial {
		return err
	}
	return s.setWitness(h)
}

func (s *Store) setWitness(h state.Head) error {
	if s.opts.Dir == "" {
		return nil
	}
	return durable.WriteJSON(filepath.Join(s.opts.Dir, witnessFile), h)
}

// checkWitness refuses a view that is older than, or of another state than, what
// was seen from here, and else remembers it.
func (s *Store) checkWitness(v *view) error {
	w, err := s.witness()
	if err != nil {
		return err
	}
	switch {
	case v.version == "" && w.Lineage != "":
		return fmt.Errorf("%w: %s holds no state, but serial %d was seen there from here; `ml state rebuild` puts the newest snapshot in place", state.ErrOlder, s.Where(), w.Serial)
	case v.version == "":
		return nil
	case w.Lineage != "" && w.Lineage != v.Lineage:
		return fmt.Errorf("%w: %s is of lineage %s, the state seen from here was of %s (serial %d): it belongs to another project or was made anew; name the right place, or `ml state rebuild -accept`",
			state.ErrOlder, s.Where(), v.Lineage, w.Lineage, w.Serial)
	case v.Serial < w.Serial:
		return fmt.Errorf("%w: %s is at serial %d, but serial %d was seen there from here: an old copy was put back; what was done since is not in it; `ml state rebuild` puts the newest snapshot in place, and with -accept takes this one",
			state.ErrOlder, s.Where(), v.Serial, w.Serial)
	}
	s.warn(s.writeWitness(v.Head))
	return nil
}

// home is this folder, as others are told of it.
func (s *Store) home() *Home {
	id := s.folderID()
	if id == "" {
		return nil
	}
	return &Home{ID: id, Who: s.opts.Holder, Dir: s.opts.Project}
}

// folderID is the random name of this folder, made when it is first asked for.
func (s *Store) folderID() string {
	if s.opts.Dir == "" {
		return ""
	}
	path := filepath.Join(s.opts.Dir, idFile)
	for range 2 {
		if raw, err := os.ReadFile(path); err == nil && len(raw) > 10 {
			return string(raw)
		}
		if err := errors.Join(durable.MkdirAll(s.opts.Dir, 0o755), durable.WriteFile(path, []byte(rand.Text()), 0o600)); err != nil {
			s.warn(fmt.Errorf("name this folder: %w", err))
			return ""
		}
	}
	return ""
}

// checkHome refuses to write for this machine while things live on another one
// that only that can see.
func (s *Store) checkHome(ctx context.Context, v *view) error {
	if s.opts.Bound == nil || v.version == "" || v.Home == nil || v.Home.ID == s.folderID() {
		return nil
	}
	snap, err := s.snapshot(ctx, v)
	if err != nil {
		return err
	}
	if what := s.boundIn(snap); what != "" {
		return s.elsewhere(v, what)
	}
	return nil
}

// Elsewhere is the other folder, on this or another machine, that wrote last,
// as the state was when it was last read here; nil when that is this folder, or
// not known.
func (s *Store) Elsewhere() *Home {
	s.mu.Lock()
	v := s.last
	s.mu.Unlock()
	if v == nil || v.Home == nil || v.Home.ID == s.folderID() {
		return nil
	}
	return v.Home
}

// boundIn names something that lives on one machine only, "" for nothing.
func (s *Store) boundIn(snap *state.Snapshot) string {
	if s.opts.Bound == nil {
		return ""
	}
	for _, a := range slices.SortedFunc(maps.Keys(snap.Records), resource.Address.Compare) {
		if s.opts.Bound(snap.Records[a].Provider, a, false) {
			return a.String() + " runs"
		}
	}
	for _, i := range snap.Intents {
		if s.opts.Bound(i.Provider, i.Address, true) {
			return string(i.Action) + " of " + i.Address.String() + " is under way"
		}
	}
	return ""
}

// ErrElsewhere: what the state knows of lives on another machine.
var ErrElsewhere = errors.New("this is not the machine to do that on")

func (s *Store) elsewhere(v *view, what string) error {
	return fmt.Errorf("%w: %s on the machine of %s, in %s, which alone can see it; apply there, or, if that machine is gone for good, `ml init -adopt-local` here: what ran there then counts as missing",
		ErrElsewhere, what, v.Home.Who, v.Home.Dir)
}

// AdoptLocal makes this folder the home of what lives on one machine only: what
// lived on another one then counts as missing.
func (s *Store) AdoptLocal(ctx context.Context) error {
	s.pen.Lock()
	defer s.pen.Unlock()
	for range maxRaces {
		v, err := s.load(ctx)
		if err != nil {
			return s.explain(ctx, err)
		}
		if v.version == "" || v.Home == nil {
			return nil
		}
		l, err := s.lease(ctx, v)
		if err != nil {
			return s.explain(ctx, err)
		}
		if l != nil {
			return fmt.Errorf("%w: %s", state.ErrLocked, state.DescribeLease(l))
		}
		if _, err = s.publish(ctx, v, nil, func(h *head) { h.Home = s.home() }); !errors.Is(err, ErrPassed) {
			return err
		}
	}
	return fmt.Errorf("%w: others write to %s all the time; try again", state.ErrConflict, s.Where())
}

// folderLock is the OS lock of this folder. It only tells processes here that a
// holder has died; whoever cannot get it waits as those elsewhere do.
type folderLock struct {
	s    *Store
	mu   sync.Mutex
	lock *flock.Flock
	name string // what a head says of a holder that has the lock
}

func (s *Store) folderLock() *folderLock { return &folderLock{s: s} }

// try takes the lock if it is free.
func (l *folderLock) try() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock != nil || l.s.opts.Dir == "" {
		return
	}
	if err := durable.MkdirAll(l.s.opts.Dir, 0o755); err != nil {
		l.s.warn(err)
		return
	}
	lock := flock.New(filepath.Join(l.s.opts.Dir, lockFile), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	if got, err := lock.TryLock(); err != nil || !got {
		l.s.warn(errors.Join(err, lock.Close()))
		return
	}
	self, err := proc.Self()
	info, err2 := lock.Stat()
	id := l.s.folderID()
	if err != nil || err2 != nil || id == "" {
		l.s.warn(errors.Join(err, err2, lock.Close()))
		return
	}
	// A copy of the folder has the same id but another lock, and after a boot
	// another machine may have this disk.
	l.lock, l.name = lock, fmt.Sprintf("%s %s %s", id, self.Boot, inode(info))
}

// place is how the head names a holder with this lock, "" without it.
func (l *folderLock) place() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.name
}

func (l *folderLock) giveBack() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lock == nil {
		return nil
	}
	err := l.lock.Close()
	l.lock, l.name = nil, ""
	return err
}
