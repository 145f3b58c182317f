package providers

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Provider is one outside system, configured.
type Provider struct {
	Name    string
	Drivers map[string]Driver // by kind
	// Close, when not nil, writes back caches. It is called once, at the end.
	Close func() error
	// Prune, when not nil, removes stored content that nobody refers to.
	Prune func(ctx context.Context, req PruneRequest) (PruneResult, error)
}

// PruneRequest says what must stay: content by the hex of its digest, runs by id.
type PruneRequest struct {
	KeepDigests, KeepRuns map[string]bool
	DryRun                bool
}

// PruneResult lists what was, or with DryRun would be, removed.
type PruneResult struct {
	Removed []string
	Bytes   int64
}

// Definition is what a provider's package exports through its New: enough to
// check files without connecting to anything, and the constructor.
type Definition struct {
	Name string
	Doc  string
	// Config is a zero struct whose tags describe the `provider "NAME"` block.
	Config any
	// Nested holds, per kind, a zero struct for the nested block `NAME { … }`
	// that only this provider understands.
	Nested map[string]any
	// Kinds lists the kinds that it serves.
	Kinds []string
	// Named lists those of Kinds that it serves for blocks that name it, and never as a default provider.
	Named []string
	// Connect makes the provider ready for use. It must not change anything outside.
	Connect func(ctx context.Context, env Env, config cty.Value) (*Provider, error)
}

// Env is what every provider gets from the project that it works for.
type Env struct {
	// Root is the project folder, absolute; Dir its `.ml` folder.
	Root, Dir string
	// Version is this program's, for outside systems that note who asks.
	Version string
	// Exe is the command line that starts this program, for detached helpers.
	Exe []string
	// Key is the project's own secret, 32 random bytes; nil before the first state. What only commands of this project may do
	// outside is guarded by what is derived from it.
	Key []byte
	// Artifacts is the artifact store's URI from the `ml` block, "" = `.ml/artifacts`.
	Artifacts string
	Now       func() time.Time
	// LookupEnv reads the caller's environment, for pass_env.
	LookupEnv func(string) (string, bool)
	Environ   func() []string
}

// Driver serves one kind in one outside system.
//
// Apply is idempotent under its OpID: called again with the same id and spec, it
// adopts what the first call started (awaits a running process, collects a
// finished one) and does the work at most once. With Adopt set it starts
// nothing new and returns ErrAbsent when the first call had no effect.
type Driver interface {
	// Read reports what the record's object looks like now. A phase of
	// PhaseMissing says that it is gone; an error says that nobody knows.
	Read(ctx context.Context, req ReadRequest) (Object, error)
	// Apply makes the world match the spec: creates, updates or replaces an
	// object, executes a run to its end. A bad verdict is a result, not an error.
	Apply(ctx context.Context, req ApplyRequest) (Result, error)
	// Delete removes the object. Deleting what is gone is not an error.
	Delete(ctx context.Context, req DeleteRequest) error
}

// ReadRequest asks for the live state behind a record.
type ReadRequest struct {
	Address resource.Address
	Record  *state.Record
	// Look, when not nil, is the refresh that this read is part of.
	Look *Look
}

// Object is the live state of one address.
type Object struct {
	Phase   resource.Phase
	Message string
	// Outputs, when not nil, are the outputs as they are now (a Go struct of the kind's outputs).
	Outputs any
	// Drift lists fields that differ from what was last applied, with who changed them.
	Drift []Drift
	// Quarantined lists versions that the outside system refused since (an aborted canary).
	Quarantined []state.Quarantine
	// Settings for status: endpoint, replicas; shown, never compared.
	Info map[string]string
	// Err, from a ReadAll, says that nobody knows about this one; the rest of the object counts for nothing then.
	Err error
}

// Drift is one field that someone else changed.
type Drift struct {
	Path string `json:"path"`
	Old  string `json:"old"`
	New  string `json:"new"`
	By   string `json:"by,omitempty"`
}

// ApplyRequest carries one step to a driver.
type ApplyRequest struct {
	OpID    string
	Address resource.Address
	Action  resource.Action
	// Spec is the wholly known body. Typed drivers get it decoded.
	Spec cty.Value
	// Prior is the record before this step, nil for a new address.
	Prior *state.Record
	// State is the snapshot that the step rests on: versions, runs, pins.
	State  *state.Snapshot
	Inputs resource.Digest
	// Probed are the content digests that the plan rests on, by name. What the
	// driver reads must have them, or it errors: the source moved.
	Probed map[string]string
	Adopt  bool
	// Reasons say why the step is there, as it was approved. A part of an object is made anew only if one of them, with the code
	// immutable, names it.
	Reasons []resource.Reason
	// Force skips rollout steps and quarantine: a rollback acts at once.
	Force bool
	// Emit takes progress and log events; never nil.
	Emit func(resource.Event)
	// Runs reads an address's runs whole, oldest first.
	Runs func(resource.Address) ([]*state.Run, error)
}

// Result is how a step ended.
type Result struct {
	// Outputs is the kind's outputs struct. Held outputs of a gate with a bad
	// verdict are kept by the engine whatever stands here.
	Outputs any
	Ref     any // stored as JSON, given back to Read and Delete
	Verdict *resource.Verdict
	Metrics map[string]float64
	Detail  any // kept with the run as JSON
	// Version, from a training, becomes the next model version; the engine
	// numbers it and fills in `model.version` of the outputs.
	Version *state.Version
	// Judged names the version that a validation judged; the verdict is kept with it.
	Judged      *state.VersionRef
	Quarantined []state.Quarantine
	Message     string
	// Held says that the object is on its way and waits for something outside
	// (a canary without traffic); the step is done, the next apply goes on.
	Held bool
}

// DeleteRequest asks to remove an object.
type DeleteRequest struct {
	OpID    string
	Address resource.Address
	Record  *state.Record
	Emit    func(resource.Event)
}

// Errors that decide what happens next.
var (
	// ErrAbsent answers an Apply with Adopt whose first call had no effect.
	ErrAbsent = errors.New("the operation left no trace outside")
	// ErrCancelled: the run was cancelled by someone.
	ErrCancelled = errors.New("cancelled")
)

// RetryableError marks a failure that is worth another try by itself: a reset
// connection, a 503. After is the least wait that the other side asked for.
type RetryableError struct {
	Err   error
	After time.Duration
}

// Error implements error.
func (e *RetryableError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *RetryableError) Unwrap() error { return e.Err }

// NotStartedError is a run of which nothing began: the place could not be
// reached, or what the run needs could not be brought there. It is no attempt,
// so that the next apply simply tries again.
type NotStartedError struct{ Err error }

// Error implements error.
func (e *NotStartedError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *NotStartedError) Unwrap() error { return e.Err }

// OpenError is an operation of which nobody knows how it ends, because the
// place where it goes on cannot be looked at any more. It stays open, and the
// next command that applies settles it under its recorded id.
type OpenError struct{ Err error }

// Error implements error.
func (e *OpenError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *OpenError) Unwrap() error { return e.Err }

// RunError is a run that ended badly: the command failed, timed out, was lost,
// or wrote no model. It counts as an attempt. Log holds its last lines.
type RunError struct {
	Err error
	Log []string
	Ref any
}

// Error implements error.
func (e *RunError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *RunError) Unwrap() error { return e.Err }

// ProbeRequest asks for the content digests of what a spec names.
type ProbeRequest struct {
	Address resource.Address
	Spec    cty.Value // its probe attributes are known; others may not be
	// FilesOnly asks for what lies in the project folder: a driver that would have to ask anybody else returns ErrElsewhere.
	FilesOnly bool
}

// ErrElsewhere says that a source lies outside of the project folder.
var ErrElsewhere = errors.New("the source lies outside of the project folder")

// Prober is implemented by drivers of kinds that read declared sources at plan
// time. It digests content and executes nothing. The result's keys are the
// kind's probe names ("content", "code").
type Prober interface {
	Probe(ctx context.Context, req ProbeRequest) (map[string]string, error)
}

// PreflightRequest asks what would stand in the way of a planned step.
type PreflightRequest struct {
	Address resource.Address
	Action  resource.Action // create, update or replace
	// Spec is the body as planned, without marks. What is known only after a step before it is unknown; resource.Known makes it null,
	// so that the rest can be decoded.
	Spec  cty.Value
	Prior *state.Record // nil for a new address
	State *state.Snapshot
	// Probed are the content digests that the plan rests on, by name.
	Probed map[string]string
	// Needs are the steps that come before this one: what they make is not there yet.
	Needs []resource.Address
	// Of is how many steps of this kind and provider the plan has, this one included: a driver that asks for each of ten looks at a
	// thousand together.
	Of int
	// Look, when not nil, is shared by all that are asked about one plan.
	Look *Look
}

// Finding is one thing that stands in the way of a planned step, or, as a warning, that whoever approves it should know. Summary is a
// line; Detail names the place, the cause and what to do.
type Finding struct {
	Warning         bool
	Summary, Detail string
	// Immutable, when not "", names a part of the object that cannot be changed in place. Nothing stands in the way then: the step becomes
	// a replacement of that part, for which Summary is the reason, and Apply may make it anew.
	Immutable string
}

// Preflighter is implemented by drivers of objects that can tell before anything changes what the outside system would refuse, pass
// over in silence, or take from somebody else. It changes nothing and reads no Secret. An error says that it cannot be known now: the
// plan warns of that, and Apply looks again.
type Preflighter interface {
	Preflight(ctx context.Context, req PreflightRequest) ([]Finding, error)
}

// BatchReader is implemented by drivers that read many objects in one request.
// An error is one of all of them; what concerns one stands in its Object. The
// answer has the order of the requests, whose Look is the same.
type BatchReader interface {
	ReadAll(ctx context.Context, reqs []ReadRequest) ([]Object, error)
}

// WatchRequest asks to be told when objects change outside.
type WatchRequest struct {
	// Records are those of the driver's kind, with their addresses. Their Look is nil.
	Records []ReadRequest
	// Look is shared by all drivers that watch for one caller, for as long as they do: what several of them watch is watched once.
	Look *Look
	// Changed is told an address that a look would perhaps see otherwise. It is called by several goroutines and must not block.
	Changed func(resource.Address)
}

// Watcher is implemented by drivers of objects that can tell at once when somebody changes them, so that nobody has to look again and again. It
// begins to watch, returns the addresses whose changes are seen from then on, and goes on until ctx ends, over broken connections.
// An address that is not returned is watched as soon as that is possible, or never: whoever asks looks at all of them from time to time. What
// an apply of this program changes is told as well.
type Watcher interface {
	Watch(ctx context.Context, req WatchRequest) ([]resource.Address, error)
}

// Judge is implemented by drivers that can judge a recorded run again after
// only thresholds moved, without executing anything.
type Judge interface {
	Judge(ctx context.Context, req ApplyRequest, run *state.Run) (Result, error)
}

// ObserveRequest asks a monitor to evaluate the windows that are due.
type ObserveRequest struct {
	Address resource.Address
	Record  *state.Record
	Signals []*state.Signal
	State   *state.Snapshot
}

// Observer is implemented by drivers of monitors: it evaluates due windows and
// returns the signals as they would be recorded. It writes nothing, so that a
// plan may call it too.
type Observer interface {
	Observe(ctx context.Context, req ObserveRequest) ([]*state.Signal, error)
}

// LogRequest asks for the log of a run, or of an object's processes.
type LogRequest struct {
	Record *state.Record
	Run    *state.Run // nil = the record's current object
	OpID   string     // an open intent's run, when Run is nil
	Follow bool
	Lines  int // the last N lines; 0 = all
}

// Logger is implemented by drivers that keep logs.
type Logger interface {
	Logs(ctx context.Context, req LogRequest, w io.Writer) error
}

// Canceller is implemented by drivers whose runs can be stopped. It returns
// when the run has ended; cancelling one that ended is not an error.
type Canceller interface {
	Cancel(ctx context.Context, addr resource.Address, opID string) error
}

// Importer is implemented by drivers that can take an existing object, named by
// an id of the outside system, under management. It changes nothing outside.
type Importer interface {
	Import(ctx context.Context, id string, req ApplyRequest) (Result, error)
}

// NotifyRequest carries one alert.
type NotifyRequest struct {
	Spec  cty.Value // the notifier's body
	Title string
	Body  map[string]any
	Key   string // deduplicates deliveries of one alert
}

// Notifier is implemented by drivers of the notifier kind.
type Notifier interface {
	Notify(ctx context.Context, req NotifyRequest) error
}
