package runner

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/continuo-ml/continuo/internal/proc"
)

// Phase is where a run is.
type Phase string

// The phases in their order. A run moves from Absent to Running, and then to one of the others, where it stays.
const (
	Absent    Phase = "absent"   // nothing in the folder
	Starting  Phase = "starting" // the spec is there, nothing was executed yet
	Running   Phase = "running"
	Succeeded Phase = "succeeded"
	Failed    Phase = "failed"
	Cancelled Phase = "cancelled"
	TimedOut  Phase = "timeout"
	Lost      Phase = "lost" // the detached process died without recording an outcome
)

// Over reports whether the run has ended for good.
func (p Phase) Over() bool {
	switch p {
	case Succeeded, Failed, Cancelled, TimedOut, Lost:
		return true
	case Absent, Starting, Running:
	}
	return false
}

// Status is what is known of a run.
type Status struct {
	ID    string `json:"id,omitempty"`
	Phase Phase  `json:"phase"`
	// ExitCode is the command's; -1 if it was ended by Signal or never started. With several processes, that of the first that failed.
	ExitCode int    `json:"exit_code"`
	Signal   string `json:"signal,omitempty"`
	Rank     int    `json:"rank,omitempty"` // among the processes of this machine

	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	// NotBegun: the command never began, because the place had nothing to run it with or on.
	NotBegun bool `json:"not_begun,omitempty"`
	// Message says in one sentence why the phase is what it is.
	Message      string   `json:"message,omitempty"`
	LastLogLines []string `json:"last_log_lines,omitempty"`

	// MaxRSSBytes is the largest resident size of any one process, CPUSeconds user and system time of all of them.
	MaxRSSBytes int64   `json:"max_rss_bytes,omitempty"`
	CPUSeconds  float64 `json:"cpu_seconds,omitempty"`
	// LeftBehind counts processes that the command had left running and that were ended with it.
	LeftBehind int `json:"left_behind,omitempty"`
	// Changed names the inputs, and the read-only model, that are not as the command found them.
	Changed []string `json:"changed,omitempty"`

	ProgressLines     int `json:"progress_lines,omitempty"`
	MalformedProgress int `json:"malformed_progress,omitempty"`

	// Runner is the detached process, known while the run is Running or Lost.
	Runner proc.Identity `json:"runner,omitzero"`
}

// begun is the content of the file `started`.
type begun struct {
	Runner proc.Identity `json:"runner"`
	At     time.Time     `json:"at"`
}

// group is one started process of the command, the leader of its own process group.
type group struct {
	Rank   int           `json:"rank"`
	Leader proc.Identity `json:"process"`
}

// processes is the content of process.json.
type processes struct {
	Runner proc.Identity `json:"runner"`
	Groups []group       `json:"groups"`
}

// Read says where the run in dir is. It starts and ends nothing. An absent folder is the phase [Absent], not an error.
func Read(dir string) (Status, error) {
	f, err := openFolder(dir)
	if err != nil {
		return Status{}, err
	}
	return f.status()
}

func (f folder) status() (Status, error) { return f.statusBy(f.held) }

// statusBy asks held whether a runner holds the lock.
func (f folder) statusBy(held func() (bool, error)) (Status, error) {
	if st, ok, err := f.outcome(); ok || err != nil {
		return st, err
	}
	var spec Spec
	err := f.read(specFile, &spec)
	if errors.Is(err, os.ErrNotExist) {
		return Status{Phase: Absent, ExitCode: -1, Message: "there is no run in " + string(f)}, nil
	}
	if err != nil {
		return Status{}, err
	}
	st := Status{ID: spec.ID, Phase: Starting, ExitCode: -1, Message: "prepared, nothing was executed yet"}
	started, err := f.has(startedFile)
	if err != nil || !started {
		return st, err
	}
	running, err := held()
	if err != nil {
		return Status{}, err
	}
	b := f.begun()
	st.Started, st.Runner = b.At, b.Runner
	if running {
		st.Phase, st.Message = Running, fmt.Sprintf("running under process %d", b.Runner.PID)
		return st, nil
	}
	// The outcome is written before the lock is let go, so only now its absence proves anything.
	if st, ok, err := f.outcome(); ok || err != nil {
		return st, err
	}
	st.Phase = Lost
	st.Message = fmt.Sprintf("its runner (process %d) died without recording an outcome: killed, out of memory, or the machine restarted", b.Runner.PID)
	return st, nil
}

// outcome reads status.json, if it is there.
func (f folder) outcome() (Status, bool, error) {
	var st Status
	err := f.read(statusFile, &st)
	if errors.Is(err, os.ErrNotExist) {
		return Status{}, false, nil
	}
	if err == nil && (!st.Phase.Over() || st.Phase == Lost) {
		err = fmt.Errorf("read %s: %q is no outcome", f.path(statusFile), st.Phase)
	}
	return st, err == nil, err
}

// begun reads `started`. An empty or torn file, left by a power cut, is zero: its existence is what counts.
func (f folder) begun() begun {
	var b begun
	if err := f.read(startedFile, &b); err != nil {
		return begun{}
	}
	return b
}
