package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// StatusRow is one address as `ml status` shows it.
type StatusRow struct {
	Address  string            `json:"address"`
	Phase    resource.Phase    `json:"phase"`
	Message  string            `json:"message,omitempty"`
	Version  int               `json:"version,omitempty"`
	Endpoint string            `json:"endpoint,omitempty"`
	Verdict  string            `json:"verdict,omitempty"` // passed, failed or ""
	Signal   map[string]string `json:"signal,omitempty"`  // state by signal name
	LastRun  *time.Time        `json:"last_run,omitempty"`
	NextDue  *time.Time        `json:"next_due,omitempty"`
	Pinned   int               `json:"pinned,omitempty"`

	// Live says that Message is of now, and worth a word although all is well.
	Live bool `json:"-"`
}

// Alarm says whether a signal is bad, or cannot be told.
func (r StatusRow) Alarm() bool {
	for _, s := range r.Signal {
		if s == string(resource.SignalBad) || s == string(resource.SignalError) {
			return true
		}
	}
	return false
}

// Note is what else is worth a word: the endpoint, the signals, a pin, a message.
func (r StatusRow) Note() string {
	var out []string
	for _, name := range sortedNames(r.Signal) {
		out = append(out, name+" "+strings.ReplaceAll(r.Signal[name], "_", " "))
	}
	if r.Endpoint != "" {
		out = append(out, r.Endpoint)
	}
	if r.Pinned > 0 {
		out = append(out, fmt.Sprintf("pinned at %d", r.Pinned))
	}
	if r.Message != "" && (r.Phase != resource.PhaseReady || r.Verdict == "failed" || r.Live) {
		out = append(out, r.Message)
	}
	return strings.Join(out, " · ")
}

// Status reads how every recorded address stands now.
func (e *Engine) Status(ctx context.Context, snap *state.Snapshot) ([]StatusRow, error) {
	live, err := e.refresh(ctx, snap, &state.Decoder{}, refreshing{})
	if err != nil {
		return nil, err
	}
	return e.StatusOf(snap, live), nil
}

// StatusOf is Status for what was read already, by a plan that changed nothing since.
func (e *Engine) StatusOf(snap *state.Snapshot, live planner.Live) []StatusRow {
	rows := []StatusRow{}
	for _, b := range e.Project.Blocks {
		if rec := snap.Records[b.Addr]; rec != nil {
			rows = append(rows, e.statusRow(snap, rec, live))
		}
	}
	for _, a := range sortedAddrs(snap.Records) {
		if e.Project.Block(a) == nil {
			rows = append(rows, e.statusRow(snap, snap.Records[a], live))
		}
	}
	return rows
}

func (e *Engine) statusRow(snap *state.Snapshot, rec *state.Record, live planner.Live) StatusRow {
	row := StatusRow{Address: rec.Address.String(), Phase: rec.Phase, Message: rec.Message, Version: rec.Version}
	o := live.Objects[rec.Address]
	switch {
	case o.Err != "":
		row.Message = o.Err
	case o.Phase != "":
		row.Phase, row.Message, row.Live = o.Phase, o.Message, o.Message != ""
	}
	outputs := rec.Outputs
	if o.Outputs != nil {
		outputs = o.Outputs
	}
	var shown struct {
		Endpoint string `json:"endpoint"`
		Version  int    `json:"version"`
	}
	// Outputs of other kinds lack these, or have them in another shape: then
	// there is nothing to show.
	if json.Unmarshal(outputs, &shown) == nil {
		row.Endpoint = shown.Endpoint
		if row.Version == 0 {
			row.Version = shown.Version
		}
	}
	switch {
	case rec.Verdict.Bad():
		row.Verdict = "failed"
		if row.Phase == resource.PhaseReady { // what the run said of itself is not why
			row.Message = rec.Verdict.Message
			if row.Live {
				row.Message += "; " + o.Message
			}
		}
	case rec.Verdict != nil:
		row.Verdict = "passed"
	}
	for _, s := range live.Signals[rec.Address] {
		if row.Signal == nil {
			row.Signal = map[string]string{}
		}
		row.Signal[s.Name] = string(s.State)
	}
	if runs := snap.Runs[rec.Address]; len(runs) > 0 {
		row.LastRun = &runs[len(runs)-1].Finished
	}
	if p := snap.Pins[rec.Address]; p != nil {
		row.Pinned = p.Version
	}
	row.NextDue = e.nextDue(snap, rec)
	return row
}

// nextDue is when the schedule next asks for a run.
func (e *Engine) nextDue(snap *state.Snapshot, rec *state.Record) *time.Time {
	b := e.Project.Block(rec.Address)
	if b == nil || b.Kind.Triggers == nil {
		return nil
	}
	ev, diags := e.Project.Eval(b, recorded{project: e.Project, snap: snap})
	if diags.HasErrors() {
		return nil
	}
	t, err := b.Kind.Triggers(unmarked(ev.Value))
	if err != nil {
		return nil
	}
	last := rec.Created
	if runs := snap.Runs[rec.Address]; len(runs) > 0 {
		last = runs[len(runs)-1].Started
	}
	due, ok := planner.NextDue(t, last)
	if !ok {
		return nil
	}
	return &due
}

// MoveRecord gives a record another address.
func (s *Session) MoveRecord(ctx context.Context, from, to resource.Address) error {
	switch {
	case s.now.record(from) == nil:
		return fmt.Errorf("%s is not in the state", from)
	case s.now.record(to) != nil:
		return fmt.Errorf("%s is in the state already", to)
	case from.Kind != to.Kind:
		return fmt.Errorf("a %s cannot become a %s", from.Kind, to.Kind)
	}
	return s.commit(ctx, state.Op{MoveRecord: &[2]resource.Address{from, to}})
}

// ForgetRecord takes a record out of the state and leaves its object alone. What
// an interrupted apply left open there is finished first; what these files and
// this build cannot finish is given up, and its run kept in the history as failed.
func (s *Session) ForgetRecord(ctx context.Context, a resource.Address) error {
	var ops []state.Op
	for _, in := range s.now.intents() {
		if in.Address != a {
			continue
		}
		_, cannot := s.workOf(ctx, in)
		if cannot == nil {
			if err := s.settle(ctx, in); err != nil {
				return err
			}
			continue
		}
		if in.Action == resource.RunIt {
			run := (&work{intent: in}).runBase(s.e.Now().UTC())
			run.Phase, run.Message = resource.PhaseFailed, "given up: "+cannot.Error()
			ops = append(ops, state.Op{PutRun: run})
		}
		ops = append(ops, state.Op{CloseIntent: in.OpID})
	}
	if s.now.record(a) == nil && len(ops) == 0 {
		return fmt.Errorf("%s is not in the state", a)
	}
	return s.commit(ctx, append(ops, state.Op{DeleteRecord: &a})...)
}

// ConnectAll connects every provider that serves a block or a record.
func (e *Engine) ConnectAll(ctx context.Context) error {
	for _, b := range e.Project.Blocks {
		if _, err := e.provider(ctx, b.Provider); err != nil {
			return err
		}
	}
	return nil
}

func sortedNames(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func sortedAddrs[V any](m map[resource.Address]V) []resource.Address {
	out := make([]resource.Address, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, resource.Address.Compare)
	return out
}
