package planner

import (
	"encoding/json"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// FormatVersion is the version of the plan's JSON form.
const FormatVersion = "1.0"

// Plan says what would change and why. Its steps are the graph that apply walks.
type Plan struct {
	FormatVersion string          `json:"format_version"`
	Lineage       string          `json:"lineage"`
	Serial        uint64          `json:"serial"`
	ConfigDigest  resource.Digest `json:"config_digest"`
	Commit        string          `json:"commit,omitempty"`
	Created       time.Time       `json:"created"`
	// Complete is false when -target left something out.
	Complete bool    `json:"complete"`
	Summary  Summary `json:"summary"`
	// Steps are in execution order and hold every block that does something and
	// every no-op that has a reason.
	Steps []*Step `json:"steps"`
	// Drift lists what someone else changed behind our back.
	Drift       []DriftEntry `json:"drift"`
	Diagnostics []Diagnostic `json:"diagnostics"`
}

// Summary counts the steps by action, and the gates among them.
type Summary struct {
	Create  int `json:"create"`
	Update  int `json:"update"`
	Replace int `json:"replace"`
	Delete  int `json:"delete"`
	Run     int `json:"run"`
	Noop    int `json:"noop"`
	Blocked int `json:"blocked"`
	Gates   int `json:"gates"`
	Move    int `json:"move,omitempty"`
	Import  int `json:"import,omitempty"`
	Forget  int `json:"forget,omitempty"`
}

// Acts says whether anything but no-ops is among the steps.
func (s Summary) Acts() bool {
	return s.Create+s.Update+s.Replace+s.Delete+s.Run+s.Blocked+s.Move+s.Import+s.Forget > 0
}

// Step is what happens to one address. Action and Needs decide what apply does;
// Reasons and Changes explain it and steer nothing.
type Step struct {
	Address  resource.Address  `json:"address"`
	Kind     string            `json:"kind"`
	Provider string            `json:"provider"`
	Action   resource.Action   `json:"action"`
	Reasons  []resource.Reason `json:"reasons"`
	// Before and After are the block's values; sensitive ones are masked.
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
	// AfterUnknown lists the paths that are known only after a step before it ran.
	AfterUnknown []string `json:"after_unknown"`
	Changes      []Change `json:"changes"`
	// Needs are the steps that must end before this one starts.
	Needs []resource.Address `json:"needs"`
	// GatedBy are the blocks whose verdict, still to come, decides whether it happens.
	GatedBy []resource.Address `json:"gated_by"`
	// Gate says, for a block that judges, what must hold, as people read it:
	// "recall ≥ 0.93".
	Gate []string `json:"gate,omitempty"`
	// From is the old address of a move.
	From *resource.Address `json:"from,omitempty"`

	// Exec is what apply needs beyond what people read.
	Exec Exec `json:"exec"`

	// Value is the body as planned, unmarked, for whoever looks at the step before it is shown. A saved plan does not hold it.
	Value cty.Value `json:"-"`
}

// Exec is the part of a step that apply checks itself against. Parts holds the
// planned inputs, with Unknown where a value was not known.
type Exec struct {
	Parts   map[string]string  `json:"parts,omitempty"`
	Unknown []string           `json:"unknown,omitempty"` // paths of Parts that are not known yet
	Probes  map[string]string  `json:"probes,omitempty"`
	Record  resource.Digest    `json:"record,omitempty"` // digest of the record that the step rests on; "" = none
	Live    resource.Digest    `json:"live,omitempty"`   // digest of the live object that the step rests on
	Deps    []resource.Address `json:"deps,omitempty"`
	Seen    map[string]int64   `json:"seen,omitempty"`
	Trigger bool               `json:"trigger,omitempty"` // only a signal, schedule or age (or new data) asked for it
	Fresh   bool               `json:"fresh,omitempty"`   // run even if these inputs have a successful run
	Judge   bool               `json:"judge,omitempty"`   // only thresholds moved: judge the recorded run again
	// RecordOnly: nothing outside changes (policy attributes moved, a version becomes current again).
	RecordOnly bool   `json:"record_only,omitempty"`
	AdoptRun   string `json:"adopt_run,omitempty"` // the earlier run that becomes current again
	ImportID   string `json:"import_id,omitempty"` // the outside system's name of what an import takes over
	// DeleteFirst: a replace removes the old object before it makes the new one. Without it, the driver makes parts of it anew.
	DeleteFirst bool    `json:"delete_first,omitempty"`
	Estimate    float64 `json:"estimate,omitempty"` // seconds that earlier runs took, median; 0 = unknown
}

// Change is one attribute before and after. Old and New are JSON; Unknown says
// that New is known only later; Sensitive values are masked.
type Change struct {
	Path      string          `json:"path"`
	Old       json.RawMessage `json:"old"`
	New       json.RawMessage `json:"new"`
	Unknown   bool            `json:"unknown,omitempty"`
	Sensitive bool            `json:"sensitive,omitempty"`
	Replaces  bool            `json:"replaces,omitempty"`
	Role      resource.Role   `json:"-"`
}

// DriftEntry is one address that someone else changed.
type DriftEntry struct {
	Address resource.Address `json:"address"`
	Message string           `json:"message,omitempty"`
	Changes []Change         `json:"changes"`
	By      string           `json:"by,omitempty"`
}

// Diagnostic is an error or a warning of the plan, as data.
type Diagnostic struct {
	Severity string `json:"severity"` // error, warning
	Summary  string `json:"summary"`
	Detail   string `json:"detail,omitempty"`
	Address  string `json:"address,omitempty"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
}

// Live is what a refresh found in the world.
type Live struct {
	Objects map[resource.Address]Object
	// Probes are content digests by address, with the key of what was probed
	// (see ProbeKey); a probe of something else does not count.
	Probes map[resource.Address]Probe
	// Signals are those that refresh would record, by monitor.
	Signals map[resource.Address][]*state.Signal
	// Immutable lists, of objects that would be updated, the parts that cannot be changed in place: those are made anew.
	Immutable map[resource.Address][]Immutable
	// Commit is the git commit of the project folder.
	Commit string
	// AsOf is when live state was read; older than the plan when it was recorded before.
	AsOf time.Time
}

// Object is the live state of one record, as the planner needs it.
type Object struct {
	Phase       resource.Phase
	Message     string
	Outputs     json.RawMessage // nil = as recorded
	Drift       []Change
	By          string
	Quarantined []state.Quarantine
	Err         string // reading failed: the plan says so, and leaves the address alone
}

// Immutable is a part of an object that has to be made anew for a change, and why.
type Immutable struct{ Path, Message string }

// Probe is what reading a block's declared sources found.
type Probe struct {
	Key    string
	Values map[string]string
	Err    string
	// Recorded says that nobody looked, and that the record is of the same source.
	Recorded bool
}

// Options are what the user asked for besides the files.
type Options struct {
	Targets []resource.Address
	// Only leaves what the targets need as it is recorded (rollback).
	Only        bool
	Replace     []resource.Address
	Destroy     bool
	RefreshOnly bool
	// Hash makes a keyed hash of a sensitive value, so that a change is seen and the value is not kept.
	Hash func(string) string
}

// Input is everything that a plan depends on.
type Input struct {
	Project *config.Project
	Prior   *state.Snapshot
	Live    Live
	Now     time.Time
	Options Options
	// Decoder remembers decoded outputs; nil is fine. It changes no result.
	Decoder *state.Decoder
	// Evaluated are bodies evaluated on what is recorded. They spare the
	// evaluation of a block while nothing that it depends on changes; nil is fine.
	// Build takes out what it has used, which changes no result.
	Evaluated map[resource.Address]Body
}
