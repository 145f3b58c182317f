package state

import (
	"context"
	"errors"

	"github.com/continuo-ml/continuo/resource"
)

// Errors on which callers branch.
var (
	// ErrConflict: the serial moved since the snapshot that the commit was based on.
	ErrConflict = errors.New("the state was changed by someone else")
	// ErrLocked: another process holds the lease; the message names it.
	ErrLocked = errors.New("the state is locked")
	// ErrCorrupt: a checksum does not match; the message names the record and the last verified snapshot.
	ErrCorrupt = errors.New("the state is damaged")
	// ErrNewer: the state was written by a newer format.
	ErrNewer = errors.New("the state was written by a newer version of ml")
	// ErrOlder: the file is older than what was last written here (an old copy was
	// put back, or it was deleted); the message says how to accept it.
	ErrOlder = errors.New("the state is not the newest one")
	// ErrUnwritable: an entry cannot be stored as it is, now or later: a NaN in it, or it is too large.
	ErrUnwritable = errors.New("it cannot be stored")
	// ErrReadOnly: an earlier fsync failed; this process must not write any more.
	ErrReadOnly = errors.New("the state is read-only after a failed write")
)

// Op is one change. Exactly one field is set; a deletion names the address.
type Op struct {
	PutRecord      *Record
	DeleteRecord   *resource.Address
	MoveRecord     *[2]resource.Address // from, to: record, versions, runs, signals, pins, quarantines
	PutRun         *Run
	PutVersion     *Version // Number 0 takes the next number; the commit fills it in
	PutSignal      *Signal
	PutIntent      *Intent
	CloseIntent    string // op id
	PutPin         *Pin
	DeletePin      *resource.Address
	PutQuarantine  *Quarantine
	LiftQuarantine *Quarantine     // matched by address and digest
	DeleteVersion  *VersionRef     // by prune only; numbers are never reused
	PutApproval    *Approval       // an approval once used stays used
	DeleteApproval resource.Digest // of the plan
	PutLease       *Lease
	DropLease      bool
}

// VersionRef names one version.
type VersionRef struct {
	Address resource.Address
	Number  int
}

// Store keeps the state. Implementations are safe for concurrent use and open
// the underlying file per operation only, so that nobody is locked out while
// something runs.
type Store interface {
	// Snapshot returns a verified copy, or ErrCorrupt, ErrNewer.
	Snapshot(ctx context.Context) (*Snapshot, error)
	// Commit applies all ops or none, durably, and returns the new serial. base
	// is the serial that the caller's decision rests on; it errors with
	// ErrConflict when the stored one is another. base 0 skips the check and is
	// for writers that hold the lease.
	Commit(ctx context.Context, base uint64, ops ...Op) (uint64, error)
	// Runs returns all runs of one address, oldest first; the zero address means all.
	Runs(ctx context.Context, addr resource.Address) ([]*Run, error)
	// Acquire takes the lease, waiting for another holder until the context ends,
	// and returns the function that gives it back. A deadline bounds the wait
	// alone: a free lease is taken after it too. It errors with ErrLocked naming
	// the holder.
	Acquire(ctx context.Context, doing string) (epoch int64, release func() error, err error)
}
