package watch

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// opinion is what one window came to.
type opinion struct {
	state    resource.SignalState // good or bad; anything else says nothing about the deployment
	message  string
	evidence any
}

// cursor is how far a signal has looked, kept with it.
type cursor struct {
	// Next is the first sequence number of the next window; Start, with windows of time, when that begins.
	Next  uint64    `json:"next"`
	Start time.Time `json:"start,omitzero"`
	// At is the time of the last request that was judged.
	At time.Time `json:"at,omitzero"`
	// State is the signal's own state: the recorded one is overwritten when an observation fails.
	State resource.SignalState `json:"state"`
	// Labels is the version of the labels, and Seen the last request, with which waiting windows were judged last.
	Labels string `json:"labels,omitempty"`
	Seen   uint64 `json:"seen,omitempty"`
}

// track is one signal on its way from a recorded state to the next.
type track struct {
	signal  state.Signal
	cursor  cursor
	confirm int
	moved   bool
}

// newTrack takes up a recorded signal, nil for the first time. Another subject (a new version or reference) starts with a clean
// verdict; its epoch never falls, and its traffic is looked for from where the old one was left.
func newTrack(addr resource.Address, name, subject string, recorded *state.Signal, confirm int) (*track, error) {
	t := &track{confirm: max(confirm, 1), signal: state.Signal{Address: addr, Name: name}}
	if recorded != nil {
		t.signal = *recorded
		t.signal.Windows = nil // those were told when it was recorded
		if len(recorded.Cursor) > 0 {
			if err := json.Unmarshal(recorded.Cursor, &t.cursor); err != nil {
				return nil, fmt.Errorf("%s.%s: read its cursor: %w", addr, name, err)
			}
		}
	}
	if t.cursor.Next == 0 {
		t.cursor.Next = 1
	}
	if recorded == nil || recorded.Subject != subject {
		t.signal.State, t.signal.Streak, t.signal.Evidence = resource.SignalTooFew, 0, nil
		t.signal.Subject, t.signal.Message = subject, name+": no complete window of this version yet"
		t.cursor.State, t.cursor.Labels, t.cursor.Seen, t.moved = resource.SignalTooFew, "", 0, true
	}
	if t.signal.State == resource.SignalError && t.cursor.State != "" {
		t.signal.State, t.signal.Message = t.cursor.State, name+": as it was judged before it could not be evaluated"
	}
	return t, nil
}

// add takes the next window's opinion. A window that says nothing neither breaks a streak nor ends an alarm; one good window
// ends both; the epoch rises once per turn to bad.
func (t *track) add(o opinion) error {
	t.moved = true
	s := &t.signal
	s.Message = o.message
	var err error
	if s.Evidence, err = json.Marshal(o.evidence); err != nil {
		return fmt.Errorf("%s.%s: evidence: %w", s.Address, s.Name, err)
	}
	s.Windows = append(s.Windows, state.Window{Signal: s.Name, State: o.state, Message: o.message, Subject: s.Subject, Evidence: s.Evidence})
	switch o.state {
	case resource.SignalGood:
		s.State, s.Streak = resource.SignalGood, 0
	case resource.SignalBad:
		s.Streak++
		if s.State == resource.SignalBad {
			break
		}
		if s.Streak >= t.confirm {
			s.State = resource.SignalBad
			s.Epoch++
			break
		}
		if s.State != resource.SignalGood {
			s.State = resource.SignalTooFew // there is data now, and not yet enough of it to say
		}
		s.Message = fmt.Sprintf("%s (window %d of the %d that confirm it)", o.message, s.Streak, t.confirm)
	case resource.SignalTooFew, resource.SignalNoData, resource.SignalError:
		if s.State != resource.SignalBad {
			s.State = o.state
		}
	}
	t.cursor.State = s.State
	return nil
}

// result is the signal as it would be recorded. Without a new window it is the recorded one, unchanged.
func (t *track) result(recorded *state.Signal, now time.Time) (*state.Signal, error) {
	raw, err := json.Marshal(t.cursor)
	if err != nil {
		return nil, fmt.Errorf("%s.%s: cursor: %w", t.signal.Address, t.signal.Name, err)
	}
	if recorded != nil && !t.moved && string(raw) == string(recorded.Cursor) && t.signal.State == recorded.State {
		return recorded, nil
	}
	s := t.signal
	s.Cursor, s.Time = raw, now.UTC()
	return &s, nil
}

// broken is the signal when it could not be evaluated: it must not look as if all were well, and it tries the same windows again.
func broken(t *track, err error, now time.Time) *state.Signal {
	s := t.signal
	raw, encodeErr := json.Marshal(t.cursor)
	if encodeErr == nil { // a cursor holds nothing that could not be encoded
		s.Cursor = raw
	}
	s.State, s.Message, s.Time = resource.SignalError, err.Error(), now.UTC()
	return &s
}
