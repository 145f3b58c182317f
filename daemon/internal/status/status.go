// Package status is what a daemon says of a repository: to people, to its API and
// to its pages.
package status

import (
	"fmt"
	"strings"
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

// Applies is the mode in which plans run.
const Applies = "apply"

// Repository is what the daemon knows of one repository.
type Repository struct {
	Name   string `json:"name"`
	URL    string `json:"url"`
	Branch string `json:"branch"`
	Path   string `json:"path"`
	Mode   string `json:"mode"` // observe, plan or Applies
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

	Plan *planner.Plan `json:"-"` // that was made last; nil before the first
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

// Revision is a commit, and since when it is what its name says.
type Revision struct {
	Commit string    `json:"commit,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

// Refusal is why the branch's newest commit is not worked with.
type Refusal struct {
	Head string `json:"head"` // the newest commit
	// Commit is the one that is not signed as it must be: the head, or one that came with it.
	Commit  string    `json:"commit"`
	Subject string    `json:"subject,omitempty"`
	Author  string    `json:"author,omitempty"` // as the commit says, which proves nothing
	Key     string    `json:"key,omitempty"`    // that it is signed with, or claims to be
	Why     string    `json:"why"`
	Since   time.Time `json:"since,omitzero"`
}

// Error implements error.
func (x *Refusal) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "commit %s is not taken", Short(x.Commit))
	if x.Author != "" || x.Subject != "" {
		fmt.Fprintf(&b, " (%q by %s)", x.Subject, x.Author)
	}
	b.WriteString(": " + x.Why)
	if x.Key != "" {
		b.WriteString(": " + x.Key)
	}
	return b.String()
}

// Short is a commit or a digest as people name it.
func Short(s string) string {
	if len(s) > 12 {
		return s[:12]
	}
	return s
}

// FirstLines is text, cut after n lines.
func FirstLines(text string, n int) string {
	lines := strings.SplitAfterN(text, "\n", n+1)
	if len(lines) > n {
		return strings.Join(lines[:n], "") + "…"
	}
	return text
}

// ErrorText is what an error says in n lines, "" for none.
func ErrorText(err error, n int) string {
	if err == nil {
		return ""
	}
	return FirstLines(err.Error(), n)
}
