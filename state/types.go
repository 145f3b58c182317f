package state

import (
	"encoding/json"
	"time"

	"github.com/continuo-ml/continuo/resource"
)

// Format is the version of the stored forms. A store written by a newer format
// is refused without being changed. It rises when an older program would read
// something wrongly, or lose it by writing the rest: a field with another meaning
// or form, one that must survive. A new bucket or kind of entry needs no rise:
// whoever does not know it says [ErrNewer] too.
const Format = 1

// Record is what is known of one address. Spec and Outputs are cty values as
// JSON (see EncodeValue); sensitive attributes stand as keyed hashes.
type Record struct {
	Address  resource.Address `json:"address"`
	Provider string           `json:"provider"` // "local" or "kubernetes.eu"
	Phase    resource.Phase   `json:"phase"`
	// Parts are what the last successful run or apply depended on; Inputs is their digest.
	Parts  resource.Parts  `json:"parts,omitempty"`
	Inputs resource.Digest `json:"inputs,omitempty"`
	// Policy and Judge are the attributes of those roles as last applied, by path.
	Policy resource.Parts `json:"policy,omitempty"`
	Judge  resource.Parts `json:"judge,omitempty"`
	// Rows are the row counts of the last run's data inputs, by path: what min_new_rows compares.
	Rows map[string]int64 `json:"rows,omitempty"`
	// Spec is the evaluated body; Outputs what others may use.
	Spec    json.RawMessage   `json:"spec,omitempty"`
	Outputs json.RawMessage   `json:"outputs,omitempty"`
	Verdict *resource.Verdict `json:"verdict,omitempty"`
	// Ref is the outside object's reference, meaningful to its driver only.
	Ref json.RawMessage `json:"ref,omitempty"`
	// Deps order the destruction of blocks that no file declares any more.
	Deps []resource.Address `json:"deps,omitempty"`
	// Seen are the signal epochs that the last run has taken note of, by "monitor.x.drift".
	Seen map[string]int64 `json:"seen,omitempty"`
	Run  string           `json:"run,omitempty"` // id of the last run
	// Version is the number of the version that this address points to now (trainings).
	Version int `json:"version,omitempty"`
	// Attempt counts failed runs on the inputs FailedInputs; it decides whether
	// failed_before still asks for another.
	Attempt      int             `json:"attempt,omitempty"`
	FailedInputs resource.Digest `json:"failed_inputs,omitempty"`
	Message      string          `json:"message,omitempty"`
	Protected    bool            `json:"protected,omitempty"` // lifecycle.prevent_destroy
	Created      time.Time       `json:"created"`
	Updated      time.Time       `json:"updated"`
}

// Run is one execution, kept for ever: its inputs, reasons, end and measurements.
type Run struct {
	ID       string             `json:"id"` // ULID: sorts by time
	Address  resource.Address   `json:"address"`
	Inputs   resource.Digest    `json:"inputs"`
	Parts    resource.Parts     `json:"parts,omitempty"`
	Reasons  []resource.Reason  `json:"reasons,omitempty"`
	Phase    resource.Phase     `json:"phase"`             // ready or failed
	Trigger  bool               `json:"trigger,omitempty"` // asked for by a signal, schedule or age: counts against the budget
	Metrics  map[string]float64 `json:"metrics,omitempty"`
	Detail   json.RawMessage    `json:"detail,omitempty"` // the driver's own findings, such as metrics by slice
	Verdict  *resource.Verdict  `json:"verdict,omitempty"`
	Outputs  json.RawMessage    `json:"outputs,omitempty"`
	Version  int                `json:"version,omitempty"` // the version it made (trainings) or judged (validations)
	Message  string             `json:"message,omitempty"`
	Provider string             `json:"provider,omitempty"` // that ran it, whose reference Ref is
	Ref      json.RawMessage    `json:"ref,omitempty"`
	Started  time.Time          `json:"started"`
	Finished time.Time          `json:"finished"`
}

// RunKey is a run in short: what a plan needs to see that inputs have been run
// already, how often it failed, and when it was last asked for by a trigger.
type RunKey struct {
	ID       string          `json:"id"`
	Inputs   resource.Digest `json:"inputs"`
	Phase    resource.Phase  `json:"phase"`
	Trigger  bool            `json:"trigger,omitempty"`
	Version  int             `json:"version,omitempty"`
	Started  time.Time       `json:"started"`
	Finished time.Time       `json:"finished"`
}

// Version is an immutable trained model. It is written once; only Verdicts may
// gain entries, one per validation that judged it.
type Version struct {
	Address  resource.Address             `json:"address"` // the training
	Number   int                          `json:"number"`  // from 1, never reused
	Digest   resource.Digest              `json:"digest"`  // of the artifact
	URI      string                       `json:"uri"`
	Run      string                       `json:"run"`
	Inputs   resource.Digest              `json:"inputs"`
	Parts    resource.Parts               `json:"parts,omitempty"` // lineage: every input's digest
	Metrics  map[string]float64           `json:"metrics,omitempty"`
	Params   map[string]any               `json:"params,omitempty"`
	Verdicts map[string]*resource.Verdict `json:"verdicts,omitempty"` // by validation address
	Commit   string                       `json:"commit,omitempty"`   // git commit of the code, "+dirty" when it was changed
	Bytes    int64                        `json:"bytes,omitempty"`
	// Data are the datasets and splits that it was trained on, as they were frozen:
	// what a monitor of it compares with, also after a rollback.
	Data    []json.RawMessage `json:"data,omitempty"`
	Created time.Time         `json:"created"`
}

// Passed says whether any validation judged the version good and none bad.
func (v *Version) Passed() bool {
	good := false
	for _, w := range v.Verdicts {
		if w.Bad() {
			return false
		}
		good = good || w != nil
	}
	return good
}

// Signal is a monitor's last verdict on one measure, with its evidence. Epoch
// rises by one each time the state turns bad, and never falls.
type Signal struct {
	Address  resource.Address     `json:"address"` // the monitor
	Name     string               `json:"name"`    // drift, performance, latency
	State    resource.SignalState `json:"state"`
	Epoch    int64                `json:"epoch"`
	Streak   int                  `json:"streak,omitempty"` // consecutive bad windows
	Message  string               `json:"message"`
	Evidence json.RawMessage      `json:"evidence,omitempty"`
	// Cursor is where the next window starts, meaningful to the driver only.
	Cursor json.RawMessage `json:"cursor,omitempty"`
	// Subject is what was judged (deployed version and reference digest); a new
	// one resets the state to too_few.
	Subject string    `json:"subject,omitempty"`
	Time    time.Time `json:"time"`
	// Alarm says that the notifiers were told of a turn to bad and of none to good
	// since; what lies between, such as too_few of a new version, ends no alarm.
	Alarm bool `json:"alarm,omitempty"`
	// Owed are the notifiers that do not know of the last turn yet.
	Owed []string `json:"owed,omitempty"`
	// Windows are those that were judged since the recorded signal, oldest first.
	// They are on their way to whoever keeps them, and not in the state.
	Windows []Window `json:"-"`
}

// Window is what a signal found in one window, whatever became of it: the
// signal's own state also depends on the windows before.
type Window struct {
	Signal   string               `json:"signal"`
	State    resource.SignalState `json:"state"`
	Message  string               `json:"message"`
	Subject  string               `json:"subject,omitempty"`
	Evidence json.RawMessage      `json:"evidence,omitempty"`
}

// Intent is a journal entry: written durably before an effect, closed in the
// same commit that records the outcome. OpID is what the outside object
// carries, so a restart finds its work again under the recorded id.
type Intent struct {
	OpID      string             `json:"op_id"` // ULID; a run's id is its op id
	Address   resource.Address   `json:"address"`
	Provider  string             `json:"provider"`
	Action    resource.Action    `json:"action"`
	Inputs    resource.Digest    `json:"inputs,omitempty"`
	Parts     resource.Parts     `json:"parts,omitempty"`
	Policy    resource.Parts     `json:"policy,omitempty"`
	Judge     resource.Parts     `json:"judge,omitempty"`
	Rows      map[string]int64   `json:"rows,omitempty"`
	Trigger   bool               `json:"trigger,omitempty"`
	Probes    map[string]string  `json:"probes,omitempty"`
	Reasons   []resource.Reason  `json:"reasons,omitempty"`
	Spec      json.RawMessage    `json:"spec,omitempty"`
	Deps      []resource.Address `json:"deps,omitempty"`
	Protected bool               `json:"protected,omitempty"`
	Seen      map[string]int64   `json:"seen,omitempty"`
	Epoch     int64              `json:"epoch"` // of the lease it was written under
	Started   time.Time          `json:"started"`
}

// Pin holds an object at a version, whatever newer ones pass, until unpinned.
type Pin struct {
	Address resource.Address `json:"address"`
	Version int              `json:"version"`
	Model   json.RawMessage  `json:"model"` // the pinned attribute's value
	Who     string           `json:"who"`
	When    time.Time        `json:"when"`
	Why     string           `json:"why,omitempty"`
}

// Quarantine keeps a version that failed in a rollout from being rolled out
// again at that address.
type Quarantine struct {
	Address resource.Address `json:"address"`
	Version int              `json:"version"`
	Digest  resource.Digest  `json:"digest"`
	Reason  string           `json:"reason"`
	When    time.Time        `json:"when"`
}

// Approval lets one saved plan run, once: it names the plan by the digest of its
// content, so that it is worth nothing for another one.
type Approval struct {
	Plan    resource.Digest `json:"plan"`
	Commit  string          `json:"commit,omitempty"` // git commit that the plan was made at
	Who     string          `json:"who"`
	When    time.Time       `json:"when"`
	Expires time.Time       `json:"expires"`
	Used    *time.Time      `json:"used,omitempty"` // when apply began to run the plan
}

// Lease says who applies now. The OS lock beside the store is the truth (the
// kernel frees it when a process dies); the lease names the holder to others
// and its Epoch fences writes.
type Lease struct {
	Epoch   int64     `json:"epoch"`
	Term    int64     `json:"term,omitempty"` // of the leader among several daemons; 0 = there is but one
	Holder  string    `json:"holder"`         // user@host
	PID     int       `json:"pid"`
	Doing   string    `json:"doing"` // "apply", "rollback"
	Since   time.Time `json:"since"`
	Expires time.Time `json:"expires"`
}

// Snapshot is a consistent copy of everything that a plan reads. Its maps are
// shared and must not be changed by readers.
type Snapshot struct {
	Lineage     string // random, made once per state
	Serial      uint64 // rises by one per commit
	Root        resource.Digest
	Records     map[resource.Address]*Record
	Versions    map[resource.Address][]*Version // ascending by number
	Counters    map[resource.Address]int        // highest version number ever given out
	Signals     map[resource.Address][]*Signal  // by monitor, sorted by name
	Pins        map[resource.Address]*Pin
	Quarantines map[resource.Address][]*Quarantine
	Approvals   []*Approval // oldest first
	Intents     []*Intent   // open ones, oldest first
	// Runs index every run in short form, ascending by id; Store.Runs has them whole.
	Runs  map[resource.Address][]RunKey
	Lease *Lease
}
