package state

import (
	"context"
	"errors"
	"fmt"
)

// Keeper is a Store with what the keeping of a state asks for beside reading
// and writing it: copies to fall back on, checks, and a way to another place.
type Keeper interface {
	Store
	// Where names the place for people: a path, or s3://bucket/prefix.
	Where() string
	// Backup makes a verified copy of the state, which it names, and lets the
	// oldest go. It is called at the end of an apply.
	Backup(ctx context.Context) (string, error)
	// Verify checks everything there is. It errors with ErrCorrupt, ErrNewer or ErrOlder.
	Verify(ctx context.Context) (Report, error)
	// RestoreLatest puts the newest whole copy in the state's place and names it.
	// The serial rises above all that were written, so that plans made meanwhile are stale.
	RestoreLatest(ctx context.Context) (string, error)
	// Accept takes the state as it is although a newer or another one was seen
	// before (ErrOlder): the user has decided.
	Accept(ctx context.Context) error
	// Dump returns every entry, each verified; nil when there is no state.
	Dump(ctx context.Context) ([]Entry, error)
	// Fill makes a state of the entries where there is none, as it is: for one
	// that moves here. It errors when there is one.
	Fill(ctx context.Context, entries []Entry) error
	// Handover calls take with every entry while nobody can write, and ends the
	// state here when that succeeds: it says where to it went, and a copy stays.
	// On an error it stays as it is.
	Handover(ctx context.Context, to string, take func([]Entry) error) error
}

// ErrMoved: the state is kept elsewhere now; the message says where.
var ErrMoved = errors.New("the state was moved")

// Report is what Verify found whole.
type Report struct {
	Lineage string
	Serial  uint64
	Records int
	Runs    int
	// Versions counts the kept ones over all trainings.
	Versions int
	Intents  int // open ones
	// Snapshots are the copies, newest first.
	Snapshots []Copy
}

// Copy is a copy of the state: its name, and a nil Err when it is whole.
type Copy struct {
	Path   string
	Serial uint64
	Err    error
}

// Describe fills in what a snapshot tells.
func (r *Report) Describe(s *Snapshot) {
	r.Lineage, r.Serial, r.Records, r.Intents = s.Lineage, s.Serial, len(s.Records), len(s.Intents)
	for _, v := range s.Versions {
		r.Versions += len(v)
	}
	for _, k := range s.Runs {
		r.Runs += len(k)
	}
}

// CheckRuns wants a run for each entry of the index of runs, and the other way
// round. It errors with ErrCorrupt.
func CheckRuns(entries []Entry) error {
	runs := map[string]bool{}
	for _, e := range entries {
		if e.Bucket == BucketRuns {
			runs[e.Key] = true
		}
	}
	for _, e := range entries {
		if e.Bucket == BucketRunKeys {
			if !runs[e.Key] {
				return fmt.Errorf("%w: the run behind %s is missing", ErrCorrupt, DescribeKey(e.Bucket, e.Key))
			}
			delete(runs, e.Key)
		}
	}
	for k := range runs {
		return fmt.Errorf("%w: %s is not in the index of runs", ErrCorrupt, DescribeKey(BucketRuns, k))
	}
	return nil
}

// Carried are the entries of a state that goes to another place: without the
// lease, which is of the old one, and with the serial raised, so that what was
// read of the old one is not taken for this.
func Carried(entries []Entry) ([]Entry, Head, error) {
	t := memoryTable{}
	t.apply(entries)
	o := NewOverlay(t)
	o.Delete(BucketLease, BucketLease)
	h, err := Raise(o, Head{})
	if err != nil {
		return nil, Head{}, err
	}
	t.apply(o.Changes())
	out := make([]Entry, 0, len(entries))
	for _, b := range Buckets() {
		if err := t.Scan(b, "", func(k string, v []byte) error {
			out = append(out, Entry{Bucket: b, Key: k, Value: v})
			return nil
		}); err != nil {
			return nil, Head{}, err
		}
	}
	return out, h, nil
}

// SameContent says whether two states hold the same but for who writes them:
// head and lease. The entries of each are sorted by bucket and key.
func SameContent(a, b []Entry) bool {
	skip := func(in []Entry) (out []Entry) {
		for _, e := range in {
			if e.Bucket != BucketLease && (e.Bucket != BucketMeta || e.Key != HeadKey) {
				out = append(out, e)
			}
		}
		return out
	}
	if a, b = skip(a), skip(b); len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Bucket != b[i].Bucket || a[i].Key != b[i].Key || string(a[i].Value) != string(b[i].Value) {
			return false
		}
	}
	return true
}
