package daemon

import (
	"time"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/planner"
)

// Phase is where a repository's loop is, for people.
type Phase string

// The phases.
const (
	Starting Phase = "starting"
	Applying Phase = "applying"
	Synced   Phase = "synced"  // the world is as the commit says
	Differs  Phase = "differs" // a plan would do something, and this mode does not
	Held     Phase = "held"    // a plan waits for an approval
	Waiting  Phase = "waiting" // for a window
	Bad      Phase = "bad"     // applied, and a verdict is bad
	Failing  Phase = "failing" // the last try ended with an error
)

// Status is what the daemon knows of one repository.
type Status struct {
	Name   string `json:"name"`
	URL    string `json:"url"`
	Branch string `json:"branch"`
	Path   string `json:"path"`
	Mode   Mode   `json:"mode"`
	// Observed is the branch's newest commit, Attempted the one tried last,
	// Applied the one that the world follows.
	Observed  Revision `json:"observed"`
	Attempted Revision `json:"attempted"`
	Applied   Revision `json:"applied"`
	Subject   string   `json:"subject,omitempty"` // first line of the observed commit's message
	Phase     Phase    `json:"phase"`
	Message   string   `json:"message,omitempty"`
	// FetchError says why the branch cannot be seen; work goes on at the last commit.
	FetchError string `json:"fetch_error,omitempty"`
	// ForgeError says why pull requests and commits cannot be spoken of; the work goes on.
	ForgeError string `json:"forge_error,omitempty"`
	// Refused says why the observed commit is not worked with; work goes on at Trusted.
	Refused  *Refusal           `json:"refused,omitempty"`
	Trusted  *Revision          `json:"trusted,omitempty"` // nil when nobody asks for signatures
	Held     *HeldPlan          `json:"held,omitempty"`
	Opens    *time.Time         `json:"opens,omitempty"` // when the next window does
	Last     time.Time          `json:"last,omitzero"`   // end of the last cycle
	Next     time.Time          `json:"next,omitzero"`
	Failures int                `json:"failures,omitempty"` // in a row
	Blocks   []engine.StatusRow `json:"blocks"`

	plan *planner.Plan
}

// HeldPlan is a plan that waits for an approval.
type HeldPlan struct {
	ID      string    `json:"id"`
	Commit  string    `json:"commit"`
	Since   time.Time `json:"since"`
	Expires time.Time `json:"expires"`
	Why     []string  `json:"why"`
	// Approved says who let it run, while it has not run yet.
	Approved string          `json:"approved,omitempty"`
	Summary  planner.Summary `json:"summary"`
}

// look gives a copy of the status, complete.
func (r *repo) look() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Name, s.URL, s.Branch, s.Path, s.Mode = r.conf.Name, r.mirror.Address(), r.conf.Branch, r.conf.Path, r.conf.Mode
	s.Observed, s.Attempted, s.Applied, s.Failures = r.kept.Observed, r.kept.Attempted, r.kept.Applied, r.kept.Failures
	if r.conf.Verify != nil {
		trusted := r.kept.Trusted
		s.Trusted = &trusted
	}
	if s.Phase == "" {
		s.Phase = Starting
	}
	if s.Blocks == nil {
		s.Blocks = []engine.StatusRow{}
	}
	return s
}

// say changes the status.
func (r *repo) say(change func(*Status)) {
	r.mu.Lock()
	before := r.status.Phase
	change(&r.status)
	s := r.status
	r.mu.Unlock()
	if s.Phase != before {
		r.log.Info("phase", "phase", s.Phase, "message", s.Message)
		r.feed.publish(Note{Type: "phase", Repository: r.conf.Name, Message: string(s.Phase)})
	}
}
