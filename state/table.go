package state

import (
	"maps"
	"slices"
	"strings"
)

// The buckets of a stored state. Keys are addresses (see DescribeKey) unless
// said otherwise, values JSON.
const (
	BucketMeta        = "meta"        // "format", "head", approvals by plan
	BucketRecords     = "records"     // Record
	BucketRuns        = "runs"        // address and run id: Run
	BucketRunKeys     = "runkeys"     // address and run id: RunKey; what a Snapshot reads instead of runs
	BucketVersions    = "versions"    // address and number: Version
	BucketCounters    = "counters"    // highest version number ever given out
	BucketSignals     = "signals"     // address and name: Signal
	BucketPins        = "pins"        // Pin
	BucketQuarantines = "quarantines" // address and digest: Quarantine
	BucketIntents     = "intents"     // op id: Intent
	BucketLease       = "lease"       // "lease": Lease
)

// Buckets lists all buckets, sorted.
func Buckets() []string {
	return []string{
		BucketCounters, BucketIntents, BucketLease, BucketMeta, BucketPins, BucketQuarantines,
		BucketRecords, BucketRunKeys, BucketRuns, BucketSignals, BucketVersions,
	}
}

// Table is the flat form of a state that Commit changes: ordered keys in named
// buckets. It says nothing of durability; that is the Store's.
type Table interface {
	// Get returns the value, or nil when there is none.
	Get(bucket, key string) ([]byte, error)
	// Scan calls fn for each key with the prefix, ascending. fn must not change
	// the table and must not keep value.
	Scan(bucket, prefix string, fn func(key string, value []byte) error) error
}

// Entry is one value of a table; as a change, a nil Value deletes the key.
type Entry struct {
	Bucket, Key string
	Value       []byte
}

// Overlay holds changes on top of a table that it never touches. Overlays
// stack: a failed batch of ops is dropped with its overlay.
type Overlay struct {
	base Table
	set  map[string]map[string][]byte // a nil value is a deletion
}

// NewOverlay returns an overlay without changes.
func NewOverlay(base Table) *Overlay {
	return &Overlay{base: base, set: map[string]map[string][]byte{}}
}

// Get returns the changed value, or the one below.
func (o *Overlay) Get(bucket, key string) ([]byte, error) {
	if v, ok := o.set[bucket][key]; ok {
		return v, nil
	}
	return o.base.Get(bucket, key)
}

// Put sets a value, which must not be changed afterwards.
func (o *Overlay) Put(bucket, key string, value []byte) {
	if o.set[bucket] == nil {
		o.set[bucket] = map[string][]byte{}
	}
	o.set[bucket][key] = value
}

// Delete removes a key; one that is not there is no error.
func (o *Overlay) Delete(bucket, key string) { o.Put(bucket, key, nil) }

// Scan merges the changes with what is below.
func (o *Overlay) Scan(bucket, prefix string, fn func(key string, value []byte) error) error {
	changed := o.set[bucket]
	keys := slices.Sorted(func(yield func(string) bool) {
		for k, v := range changed {
			if v != nil && strings.HasPrefix(k, prefix) && !yield(k) {
				return
			}
		}
	})
	next := 0
	upTo := func(limit string, all bool) error {
		for ; next < len(keys) && (all || keys[next] < limit); next++ {
			if err := fn(keys[next], changed[keys[next]]); err != nil {
				return err
			}
		}
		return nil
	}
	err := o.base.Scan(bucket, prefix, func(key string, value []byte) error {
		if err := upTo(key, false); err != nil {
			return err
		}
		if _, ok := changed[key]; ok {
			return nil
		}
		return fn(key, value)
	})
	if err != nil {
		return err
	}
	return upTo("", true)
}

// Changes lists all changes, sorted by bucket and key.
func (o *Overlay) Changes() []Entry {
	var out []Entry
	for _, b := range slices.Sorted(maps.Keys(o.set)) {
		for _, k := range slices.Sorted(maps.Keys(o.set[b])) {
			out = append(out, Entry{Bucket: b, Key: k, Value: o.set[b][k]})
		}
	}
	return out
}

// MergeInto puts the changes into another overlay, normally the one below.
func (o *Overlay) MergeInto(to *Overlay) {
	for b, keys := range o.set {
		for k, v := range keys {
			to.Put(b, k, v)
		}
	}
}
