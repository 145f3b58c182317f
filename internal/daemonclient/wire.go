package daemonclient

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Header is set on every answer of a daemon, to its version: what lacks it is something else, or older than these forms.
const Header = "ML-Daemon"

// Blocks is how all blocks stand, and what waits for an approval.
type Blocks struct {
	Rows    []Row     `json:"rows"`
	Waiting []Waiting `json:"waiting"`
}

// Row is a block as `ml status` shows it.
type Row struct {
	engine.StatusRow
	Live bool `json:"live,omitempty"`
}

// RowsOf are the daemon's rows in this form.
func RowsOf(rows []engine.StatusRow) []Row {
	out := make([]Row, len(rows))
	for i, r := range rows {
		out[i] = Row{StatusRow: r, Live: r.Live}
	}
	return out
}

// StatusRows are the rows as the engine made them.
func (b *Blocks) StatusRows() []engine.StatusRow {
	out := make([]engine.StatusRow, len(b.Rows))
	for i, r := range b.Rows {
		out[i] = r.StatusRow
		out[i].Live = r.Live
	}
	return out
}

// Waiting is a plan that waits, as `ml approve -json` lists it.
type Waiting struct {
	ID       string          `json:"id"`
	Plan     resource.Digest `json:"plan"`
	Who      string          `json:"who"`
	Created  time.Time       `json:"created"`
	Expires  time.Time       `json:"expires"`
	Commit   string          `json:"commit,omitempty"`
	Summary  planner.Summary `json:"summary"`
	Approval *state.Approval `json:"approval"` // null while nobody approved it
}

// State is all that a plan of the project reads of what is recorded. It holds no secret: sensitive values are keyed hashes, and the key
// stays with the daemon.
type State struct {
	Format int    `json:"format"` // of the records, state.Format
	Path   string `json:"path"`   // of the project in its repository
	// AsOf is when live state was recorded last.
	AsOf time.Time `json:"as_of"`
	// Vars are the variables that pull requests are planned with: none that the branch calls sensitive.
	Vars   []engine.SavedVar `json:"variables"`
	Digest resource.Digest   `json:"digest"` // of Snapshot as it stands here
	// Snapshot is a state.Snapshot.
	Snapshot json.RawMessage `json:"state"`
}

// Encode fills in the snapshot and writes the whole.
func (s *State) Encode(snap *state.Snapshot) ([]byte, error) {
	raw, err := marshal(snap)
	if err != nil {
		return nil, fmt.Errorf("encode the state: %w", err)
	}
	s.Format, s.Snapshot, s.Digest = state.Format, raw, resource.DigestOf(raw)
	return marshal(s)
}

// marshal leaves what is JSON already as it is: a record's digest is over its bytes.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Read checks the snapshot and reads it.
func (s *State) Read() (*state.Snapshot, error) {
	if s.Format > state.Format {
		return nil, fmt.Errorf("%w: it has format %d, this program knows formats up to %d; use the daemon's version of ml", state.ErrNewer, s.Format, state.Format)
	}
	if got := resource.DigestOf(s.Snapshot); got != s.Digest {
		return nil, fmt.Errorf("%w on its way from the daemon: its digest is %s, not %s", state.ErrCorrupt, got.Short(), s.Digest.Short())
	}
	snap := state.EmptySnapshot()
	if err := json.Unmarshal(s.Snapshot, snap); err != nil {
		return nil, fmt.Errorf("read the daemon's state: %w", err)
	}
	return snap, nil
}
