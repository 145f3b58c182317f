package state

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/resource"
)

// NewMemory returns an empty Store that lives as long as the process: for tests
// and for plans of projects without a state. It follows every rule of the
// stored one except durability.
func NewMemory() Store {
	m := &memory{table: memoryTable{}, free: make(chan struct{}, 1)}
	m.free <- struct{}{}
	return m
}

type memory struct {
	free chan struct{} // holds one token while nobody has the lease

	mu    sync.Mutex
	table memoryTable
	epoch int64 // of the lease taken through this Store
}

// Snapshot decodes a fresh copy.
func (m *memory) Snapshot(ctx context.Context) (*Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var entries []Entry
	for _, bucket := range Buckets() {
		if bucket == BucketRuns {
			continue
		}
		if err := m.table.Scan(bucket, "", func(k string, v []byte) error {
			entries = append(entries, Entry{Bucket: bucket, Key: k, Value: v})
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return Load(entries, nil)
}

// Commit applies the ops to a copy on top and keeps it when all went well.
func (m *memory) Commit(ctx context.Context, base uint64, ops ...Op) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commit(Writer{Base: base, Epoch: m.epoch}, ops)
}

func (m *memory) commit(w Writer, ops []Op) (uint64, error) {
	o := NewOverlay(m.table)
	if len(m.table) == 0 {
		if err := Create(o, rand.Text()); err != nil {
			return 0, err
		}
	}
	done, err := CommitTo(o, w, ops)
	if err != nil {
		return 0, err
	}
	m.table.apply(o.Changes())
	done.Fill()
	return done.Serial, nil
}

// Runs decodes the runs of one address, or all.
func (m *memory) Runs(ctx context.Context, addr resource.Address) ([]*Run, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	prefix, err := RunsPrefix(addr)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var entries []Entry
	if err := m.table.Scan(BucketRuns, prefix, func(k string, v []byte) error {
		entries = append(entries, Entry{Bucket: BucketRuns, Key: k, Value: v})
		return nil
	}); err != nil {
		return nil, err
	}
	return LoadRuns(entries)
}

// Acquire waits for the token until the context ends.
func (m *memory) Acquire(ctx context.Context, doing string) (int64, func() error, error) {
	select {
	case <-m.free:
	default:
		select {
		case <-m.free:
		case <-ctx.Done():
			return 0, nil, m.locked(ctx)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	epoch := int64(1)
	if len(m.table) > 0 {
		h, err := ReadHead(m.table)
		if err != nil {
			m.free <- struct{}{}
			return 0, nil, err
		}
		epoch = h.Epoch + 1
	}
	now := time.Now()
	lease := &Lease{Epoch: epoch, Holder: "this process", PID: os.Getpid(), Doing: doing, Since: now, Expires: now.Add(24 * time.Hour)}
	if _, err := m.commit(Writer{Taking: true}, []Op{{PutLease: lease}}); err != nil {
		m.free <- struct{}{}
		return 0, nil, err
	}
	m.epoch = epoch
	return epoch, sync.OnceValue(func() error { return m.release(epoch) }), nil
}

func (m *memory) locked(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, err := ReadLease(m.table)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrLocked, DescribeLease(l), context.Cause(ctx))
}

func (m *memory) release(epoch int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.commit(Writer{Epoch: epoch}, []Op{{DropLease: true}})
	m.epoch = 0
	m.free <- struct{}{}
	return err
}

// memoryTable is a Table of maps: bucket, key, value.
type memoryTable map[string]map[string][]byte

// Get returns the value.
func (t memoryTable) Get(bucket, key string) ([]byte, error) { return t[bucket][key], nil }

// Scan sorts the keys anew each time; it is for small states.
func (t memoryTable) Scan(bucket, prefix string, fn func(key string, value []byte) error) error {
	for _, k := range slices.Sorted(maps.Keys(t[bucket])) {
		if strings.HasPrefix(k, prefix) {
			if err := fn(k, t[bucket][k]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t memoryTable) apply(changes []Entry) {
	for _, c := range changes {
		if c.Value == nil {
			delete(t[c.Bucket], c.Key)
			continue
		}
		if t[c.Bucket] == nil {
			t[c.Bucket] = map[string][]byte{}
		}
		t[c.Bucket][c.Key] = c.Value
	}
}
