package resource

import (
	"time"

	"github.com/hashicorp/hcl/v2"
)

// Class says how a kind behaves. There are two.
type Class string

// The classes of kinds.
const (
	// Object is created, updated, replaced and deleted: dataset, deployment, monitor.
	Object Class = "object"
	// Run is executed when its inputs moved: check, training, validation.
	Run Class = "run"
)

// Phase is where the outside thing of one address stands.
type Phase string

// The phases of a record or a live object.
const (
	PhasePending Phase = "pending" // an intent is journalled, its end is not known
	PhaseRunning Phase = "running"
	PhaseReady   Phase = "ready"   // an object serves or exists, a run ended with a result
	PhaseFailed  Phase = "failed"  // a run errored, an object could not be made
	PhaseMissing Phase = "missing" // the record knows it, the world does not
)

// Action is what a step does.
type Action string

// The actions of a plan.
const (
	Noop    Action = "noop"
	Create  Action = "create"
	Update  Action = "update"
	Replace Action = "replace"
	Delete  Action = "delete"
	RunIt   Action = "run"
	Blocked Action = "blocked"
	Move    Action = "move"
	Import  Action = "import"
	Forget  Action = "forget"
)

// Code is the machine-readable cause of a step.
type Code string

// The reason codes of a plan.
const (
	ReasonNew             Code = "new"
	ReasonConfigChanged   Code = "config_changed"
	ReasonCodeChanged     Code = "code_changed"
	ReasonDataChanged     Code = "data_changed"
	ReasonParamsChanged   Code = "params_changed"
	ReasonUpstreamChanged Code = "upstream_changed"
	ReasonSignal          Code = "signal"
	ReasonSchedule        Code = "schedule"
	ReasonMaxAge          Code = "max_age"
	ReasonLiveChanged     Code = "live_changed"
	ReasonMissing         Code = "missing"
	ReasonFailedBefore    Code = "failed_before"
	ReasonRequested       Code = "requested"
	ReasonRemoved         Code = "removed"
	ReasonPinned          Code = "pinned"
	ReasonImmutable       Code = "immutable"
	ReasonGateClosed      Code = "gate_closed"
	ReasonDeferred        Code = "deferred"
	ReasonQuarantined     Code = "quarantined"
	ReasonAdopted         Code = "adopted"
	ReasonMoved           Code = "moved"
	ReasonImported        Code = "imported"
)

// Reason says why a step is there: a code, the path that moved with its old and
// new value, and the address that caused it. Message is for people; nothing
// branches on it.
type Reason struct {
	Code    Code   `json:"code"`
	Path    string `json:"path,omitempty"`
	Old     string `json:"old,omitempty"`
	New     string `json:"new,omitempty"`
	By      string `json:"by,omitempty"`
	Message string `json:"message"`
}

// Finding is one thing that a verdict rests on: a failed test, a column outside
// its range, a metric under its threshold. Count is in rows or tests; Samples
// hold a few offending values as text.
type Finding struct {
	Name     string   `json:"name"`
	Rule     string   `json:"rule,omitempty"`
	Path     string   `json:"path,omitempty"` // column, metric or slice
	Severity string   `json:"severity,omitempty"`
	Value    *float64 `json:"value,omitempty"`
	Limit    *float64 `json:"limit,omitempty"`
	Count    int64    `json:"count,omitempty"`
	Samples  []string `json:"samples,omitempty"`
	Message  string   `json:"message"`
	OK       bool     `json:"ok"`
}

// Verdict is the judgement on one block. A nil *Verdict means that the kind
// carries none. Passed is false whenever anything needed for the judgement was
// missing: gates fail closed.
type Verdict struct {
	Passed   bool      `json:"passed"`
	Message  string    `json:"message"`
	Findings []Finding `json:"findings,omitempty"`
	// Subject is the digest of what was judged (a model, a data version).
	Subject Digest    `json:"subject,omitempty"`
	Time    time.Time `json:"time"`
}

// Bad says whether the verdict closes the gate. A nil verdict is not bad.
func (v *Verdict) Bad() bool { return v != nil && !v.Passed }

// SignalRef points at one signal of a monitor: {monitor.churn, "drift"}. It is
// a feedback edge: read from the record, it never orders the graph.
type SignalRef struct {
	Address Address   `json:"address"`
	Signal  string    `json:"signal"`
	Range   hcl.Range `json:"-"`
}

// String renders the reference as users write it.
func (r SignalRef) String() string { return r.Address.String() + "." + r.Signal }

// SignalState is a monitor's judgement of its last window.
type SignalState string

// The states of a signal.
const (
	SignalTooFew SignalState = "too_few"
	SignalGood   SignalState = "good"
	SignalBad    SignalState = "bad"
	SignalNoData SignalState = "no_data"
	SignalError  SignalState = "error"
)

// Triggers are what may ask for a fresh run although no input moved, and what
// holds such a run back. They never hold back new code, parameters or
// configuration.
type Triggers struct {
	On         []SignalRef
	Schedule   string // cron, five fields
	TimeZone   string // IANA name, "" = UTC
	MaxAge     time.Duration
	MinNewRows int64
	Cooldown   time.Duration
	BudgetRuns int // at most so many triggered runs …
	BudgetPer  time.Duration
}

// EventType is what an event tells.
type EventType string

// The events that an apply emits.
const (
	EventStepStart  EventType = "step_start"
	EventProgress   EventType = "progress"
	EventLog        EventType = "log"
	EventStepDone   EventType = "step_done"
	EventDiagnostic EventType = "diagnostic"
	EventSummary    EventType = "summary"
)

// Event is progress as data: the views render it, nothing branches on it.
type Event struct {
	Time    time.Time `json:"time"`
	Type    EventType `json:"type"`
	Address string    `json:"address,omitempty"`
	Action  Action    `json:"action,omitempty"`
	Message string    `json:"message"`
	// Step and Of count progress (steps of a training, rows of a batch); 0 = unknown.
	Step float64 `json:"step,omitempty"`
	Of   float64 `json:"of,omitempty"`
	// Values are the numbers of a progress line, such as loss.
	Values map[string]float64 `json:"values,omitempty"`
	// Failed and Blocked mark a step_done that did not do what was planned.
	Failed  bool `json:"failed,omitempty"`
	Blocked bool `json:"blocked,omitempty"`
	// Seconds is how long the step took, on step_done.
	Seconds float64        `json:"seconds,omitempty"`
	Data    map[string]any `json:"data,omitempty"`
}
