package state

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/continuo-ml/continuo/resource"
)

// addressed is a value that does not hold its own address.
type addressed[T any] struct {
	addr  resource.Address
	value T
}

// UnknownTo says that the state holds something of another program's. What was
// damaged is found by its checksum before, so it can only be a newer one.
func UnknownTo(what string) error {
	return fmt.Errorf("%w: it holds %s, which this program does not know; use the newer ml", ErrNewer, what)
}

func decodeMeta(e Entry) (any, error) {
	switch e.Key {
	case FormatKey:
		return nil, checkFormat(e.Value)
	case HeadKey:
		h := &Head{}
		return h, json.Unmarshal(e.Value, h)
	}
	if strings.HasPrefix(e.Key, approvalPrefix) {
		a := &Approval{}
		return a, json.Unmarshal(e.Value, a)
	}
	return nil, UnknownTo(fmt.Sprintf("the entry %q", e.Key))
}

// Load builds a snapshot from the entries of a table, in any order; runs in
// full are checked and left out. It decodes on all cores, keeps none of the
// values' memory, and errors with ErrCorrupt naming an entry that does not
// decode. open, where it is not nil, is called first for each entry, from
// several goroutines, and replaces its stored value with the plain one.
func Load(entries []Entry, open func(*Entry) error) (*Snapshot, error) {
	decoded := make([]any, len(entries))
	if err := eachChunk(len(entries), func(i int) (err error) {
		if open != nil {
			if err := open(&entries[i]); err != nil {
				return err
			}
		}
		decoded[i], err = decodeEntry(entries[i])
		if err != nil && !errors.Is(err, ErrNewer) && !errors.Is(err, ErrCorrupt) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return err
	}); err != nil {
		return nil, err
	}
	count := map[string]int{}
	for _, e := range entries {
		count[e.Bucket]++
	}
	s := emptySnapshot(count[BucketRecords])
	for _, d := range decoded {
		s.add(d)
	}
	s.sort()
	return s, nil
}

// eachChunk calls fn for 0…n-1 on all cores and returns the error of the lowest index.
func eachChunk(n int, fn func(i int) error) error {
	workers := max(min(runtime.GOMAXPROCS(0)-1, n/256), 1) // a core is left to whoever parses meanwhile
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w * n / workers; i < (w+1)*n/workers; i++ {
				if errs[w] = fn(i); errs[w] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func emptySnapshot(records int) *Snapshot {
	return &Snapshot{
		Records: make(map[resource.Address]*Record, records), Versions: map[resource.Address][]*Version{},
		Counters: map[resource.Address]int{}, Signals: map[resource.Address][]*Signal{},
		Pins: map[resource.Address]*Pin{}, Quarantines: map[resource.Address][]*Quarantine{},
		Runs: map[resource.Address][]RunKey{},
	}
}

// EmptySnapshot is the snapshot of a state that was never written: serial 0, no lineage.
func EmptySnapshot() *Snapshot { return emptySnapshot(0) }

func (s *Snapshot) add(v any) {
	switch v := v.(type) {
	case *Head:
		s.Lineage, s.Serial = v.Lineage, v.Serial
	case *Record:
		s.Records[v.Address] = v
	case *Version:
		s.Versions[v.Address] = append(s.Versions[v.Address], v)
	case *addressed[int]:
		s.Counters[v.addr] = v.value
	case *addressed[RunKey]:
		s.Runs[v.addr] = append(s.Runs[v.addr], v.value)
	case *Signal:
		s.Signals[v.Address] = append(s.Signals[v.Address], v)
	case *Pin:
		s.Pins[v.Address] = v
	case *Quarantine:
		s.Quarantines[v.Address] = append(s.Quarantines[v.Address], v)
	case *Approval:
		s.Approvals = append(s.Approvals, v)
	case *Intent:
		s.Intents = append(s.Intents, v)
	case *Lease:
		s.Lease = v
	}
}

func (s *Snapshot) sort() {
	for _, v := range s.Versions {
		slices.SortFunc(v, func(a, b *Version) int { return cmp.Compare(a.Number, b.Number) })
	}
	for _, v := range s.Signals {
		slices.SortFunc(v, func(a, b *Signal) int { return cmp.Compare(a.Name, b.Name) })
	}
	for _, v := range s.Quarantines {
		slices.SortFunc(v, func(a, b *Quarantine) int { return cmp.Compare(a.Digest, b.Digest) })
	}
	for _, v := range s.Runs {
		slices.SortFunc(v, func(a, b RunKey) int { return cmp.Compare(a.ID, b.ID) })
	}
	slices.SortFunc(s.Approvals, func(a, b *Approval) int { return cmp.Or(a.When.Compare(b.When), cmp.Compare(a.Plan, b.Plan)) })
	slices.SortFunc(s.Intents, func(a, b *Intent) int { return cmp.Compare(a.OpID, b.OpID) })
}

// LoadRuns reads runs in full, oldest first, from entries of BucketRuns; others are skipped.
func LoadRuns(entries []Entry) ([]*Run, error) {
	var runs []*Run
	for _, e := range entries {
		if e.Bucket != BucketRuns {
			continue
		}
		v, err := decodeEntry(e)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if r, ok := v.(*Run); ok {
			runs = append(runs, r)
		}
	}
	slices.SortFunc(runs, func(a, b *Run) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), a.Address.Compare(b.Address))
	})
	return runs, nil
}

// RunsPrefix is the prefix of the keys of BucketRuns for one address; the zero
// address means all.
func RunsPrefix(addr resource.Address) (string, error) {
	if addr.IsZero() {
		return "", nil
	}
	key, err := addressKey(addr)
	return key + partSep, err
}
