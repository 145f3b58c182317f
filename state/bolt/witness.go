package bolt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/continuo-ml/continuo/internal/fault"
	"github.com/continuo-ml/continuo/state"
)

// witnessSize is what a witness takes on disk: well under a sector, and always
// the same, so that writing it anew needs no space and is never torn.
const witnessSize = 256

func (s *Store) witnessPath() string { return filepath.Join(s.dir(), "serial") }

// readWitness reads the highest head written here. One that is absent or does
// not parse (a power cut while it was first written) is a zero head: it bears no
// witness then, and the next commit writes it anew.
func (s *Store) readWitness() (state.Head, error) {
	raw, err := os.ReadFile(s.witnessPath())
	if errors.Is(err, fs.ErrNotExist) {
		return state.Head{}, nil
	}
	if err != nil {
		return state.Head{}, fmt.Errorf("read the highest serial: %w", err)
	}
	var w state.Head
	if json.Unmarshal(raw, &w) != nil {
		return state.Head{}, nil
	}
	return w, nil
}

// writeWitness is called after a commit is durable and before it is reported.
func (s *Store) writeWitness(h state.Head, sync bool) (err error) {
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if len(line) >= witnessSize {
		return fmt.Errorf("write the highest serial: the lineage %q is too long", h.Lineage)
	}
	buf := make([]byte, witnessSize)
	for i := copy(buf, line); i < witnessSize-1; i++ {
		buf[i] = ' '
	}
	buf[witnessSize-1] = '\n'
	fault.Point(fault.StateSerialBefore)
	f, err := os.OpenFile(s.witnessPath(), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("write the highest serial: %w", err)
	}
	_, err = f.WriteAt(buf, 0)
	if err == nil && sync {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	fault.Point(fault.StateSerialAfter)
	return err
}

// checkWitness refuses a state that is not the newest one written here. metas is
// the number of valid meta pages: with one lost, bbolt falls back to the commit
// before, which is no old copy.
func (s *Store) checkWitness(h state.Head, metas int) error {
	w, err := s.readWitness()
	if err != nil || w.Lineage == "" {
		return err
	}
	if w.Lineage != h.Lineage {
		return fmt.Errorf("%w: %s is of lineage %s, the state here was of %s (serial %d): it belongs to another project or was made anew; put the right file back, or `ml state rebuild`",
			state.ErrOlder, s.path, h.Lineage, w.Lineage, w.Serial)
	}
	if h.Serial < w.Serial && metas < 2 {
		return damaged("a meta page is damaged, and with it the way to serial %d; what is left is serial %d", w.Serial, h.Serial)
	}
	if h.Serial < w.Serial {
		return fmt.Errorf("%w: %s is at serial %d, but serial %d was written here: an old copy was put back; what was done since is not in it; `ml state rebuild` puts the newest snapshot in place or accepts this one",
			state.ErrOlder, s.path, h.Serial, w.Serial)
	}
	return nil
}

// checkAbsent is called when there is no state file.
func (s *Store) checkAbsent() error {
	w, err := s.readWitness()
	if err != nil || w.Lineage == "" {
		return err
	}
	return fmt.Errorf("%w: %s is gone, but serial %d was written here; `ml state rebuild` puts the newest snapshot in place", state.ErrOlder, s.path, w.Serial)
}
