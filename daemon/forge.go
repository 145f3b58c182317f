package daemon

import "context"

// Forge is where a repository's pull requests are.
type Forge interface {
	// SetStatus says how a commit is.
	SetStatus(ctx context.Context, commit string, st CommitState, says string) error
}

// CommitState is how a commit is, in the forge's eyes.
type CommitState string

// The states of a commit.
const (
	StatusPending CommitState = "pending"
	StatusSuccess CommitState = "success"
	StatusFailure CommitState = "failure"
)

// commitStatus tells the forge how a commit is. That it cannot be told must not
// stop the work; the overview says it all the same.
func (r *repo) commitStatus(ctx context.Context, commit string, st CommitState, says string) {
	if r.forge == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, fetchPatience)
	defer cancel()
	if err := r.forge.SetStatus(ctx, commit, st, says); err != nil {
		r.log.Warn("commit status", "commit", commit, "error", err)
	}
}

func (r *repo) runPulls(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
