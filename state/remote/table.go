package remote

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/state"
)

// fetchers is how many objects are fetched or written at a time.
const fetchers = 8

// table is the parts of a head as a state.Table. Parts are fetched when they are
// looked at, and kept by the Store.
type table struct {
	s    *Store
	ctx  context.Context //nolint:containedctx // a table lives as long as one operation, and state.Table has no room for it
	refs []partRef
}

// find is the index of the part that a key belongs to.
func (t *table) find(key string) int {
	return max(sort.Search(len(t.refs), func(i int) bool { return string(t.refs[i].First) > key })-1, 0)
}

// Get returns the value.
func (t *table) Get(bucket, key string) ([]byte, error) {
	if len(t.refs) == 0 {
		return nil, nil
	}
	want := state.Entry{Bucket: bucket, Key: key}
	entries, err := t.s.part(t.ctx, t.refs[t.find(place(want))])
	if err != nil {
		return nil, err
	}
	if i := lowerBound(entries, want); i < len(entries) && entries[i].Bucket == bucket && entries[i].Key == key {
		return entries[i].Value, nil
	}
	return nil, nil
}

// Scan walks the keys with the prefix.
func (t *table) Scan(bucket, prefix string, fn func(key string, value []byte) error) error {
	first := state.Entry{Bucket: bucket, Key: prefix}
	for i := t.find(place(first)); i < len(t.refs); i++ {
		if f := string(t.refs[i].First); f > place(first) && !strings.HasPrefix(f, place(first)) {
			return nil
		}
		entries, err := t.s.part(t.ctx, t.refs[i])
		if err != nil {
			return err
		}
		for _, e := range entries[lowerBound(entries, first):] {
			if e.Bucket != bucket || !strings.HasPrefix(e.Key, prefix) {
				return nil
			}
			if err := fn(e.Key, e.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

func lowerBound(entries []state.Entry, e state.Entry) int {
	return sort.Search(len(entries), func(i int) bool { return !before(entries[i], e) })
}

// part returns the entries of a part, which must not be changed.
func (s *Store) part(ctx context.Context, ref partRef) ([]state.Entry, error) {
	s.mu.Lock()
	entries, ok := s.parts[ref.Name]
	s.mu.Unlock()
	if ok {
		return entries, nil
	}
	entries, err := s.fetch(ctx, ref)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.parts[ref.Name] = entries
	s.mu.Unlock()
	return entries, nil
}

// fetch reads a part and verifies it by its digest.
func (s *Store) fetch(ctx context.Context, ref partRef) ([]state.Entry, error) {
	var packed []byte
	for _, name := range pieces(ref) {
		data, _, err := s.get(ctx, name)
		if errors.Is(err, ErrAbsent) {
			return nil, fmt.Errorf("%w: the part %s is missing", state.ErrCorrupt, name)
		}
		if err != nil {
			return nil, err
		}
		packed = append(packed, data...)
	}
	if sum := sha256.Sum256(packed); hex.EncodeToString(sum[:]) != ref.digest() {
		return nil, fmt.Errorf("%w: the part %s does not match its checksum", state.ErrCorrupt, partPrefix+ref.Name)
	}
	entries, err := unpack(packed)
	if err != nil && !errors.Is(err, state.ErrNewer) {
		err = fmt.Errorf("%w: read the part %s: %w", state.ErrCorrupt, partPrefix+ref.Name, err)
	}
	return entries, err
}

// pieces are the names of the objects of a part.
func pieces(ref partRef) []string {
	if ref.Pieces < 2 {
		return []string{partPrefix + ref.Name}
	}
	names := make([]string, ref.Pieces)
	for i := range names {
		names[i] = fmt.Sprintf("%s%s.%d", partPrefix, ref.Name, i)
	}
	return names
}

// prefetch fetches the parts that are wanted, several at a time.
func (s *Store) prefetch(ctx context.Context, refs []partRef, want func(partRef) bool) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	for _, ref := range refs {
		if want(ref) {
			g.Go(func() error {
				_, err := s.part(ctx, ref)
				return err
			})
		}
	}
	return g.Wait()
}

// forget drops the parts that a head no longer names.
func (s *Store) forget(h *head) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.parts {
		if !slices.ContainsFunc(h.Parts, func(p partRef) bool { return p.Name == name }) {
			delete(s.parts, name)
		}
	}
}

// newPart packs entries and names the part.
func newPart(first []byte, entries []state.Entry) (partRef, []byte, error) {
	packed, size, err := pack(entries)
	if err != nil {
		return partRef{}, nil, fmt.Errorf("pack entries: %w", err)
	}
	sum := sha256.Sum256(packed)
	name := hex.EncodeToString(sum[:]) + "-" + strings.ToLower(rand.Text()[:8])
	return partRef{First: first, Name: name, Bytes: size, Runs: isRuns(entries[0])}, packed, nil
}

// fold returns the parts with the changes, sorted, in them. Those that no change
// touches stay as they are; the others are new, and written when it returns.
func (s *Store) fold(ctx context.Context, refs []partRef, changes []state.Entry) ([]partRef, error) {
	t := &table{s: s, ctx: ctx, refs: refs}
	var out []partRef
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	put := func(first []byte, entries []state.Entry) error {
		for i, cut := range cutParts(entries) {
			if i > 0 || first == nil && len(out) > 0 {
				first = []byte(place(cut[0]))
			}
			ref, packed, err := newPart(first, cut)
			if err != nil {
				return err
			}
			ref.Pieces = pieceCount(len(packed), s.blobs.Limit())
			out = append(out, ref)
			g.Go(func() error { return s.putPart(gctx, ref, packed, cut) })
		}
		return nil
	}
	err := func() error {
		if len(refs) == 0 {
			return put(nil, merge(nil, changes, false))
		}
		var carried []state.Entry
		var first []byte // of what is carried
		for i, ref := range refs {
			n := len(changes)
			if i+1 < len(refs) {
				n = lowerPlace(changes, string(refs[i+1].First))
			}
			if n == 0 && carried == nil {
				out = append(out, ref)
				continue
			}
			entries, err := s.part(t.ctx, ref)
			if err != nil {
				return err
			}
			if carried == nil {
				first = ref.First
			}
			carried = append(carried, merge(entries, changes[:n], false)...)
			changes = changes[n:]
			if i+1 < len(refs) && refs[i+1].Runs == ref.Runs && bytesOf(carried) < smallPart && len(carried) > 0 {
				continue
			}
			if err := put(first, carried); err != nil {
				return err
			}
			carried = nil
		}
		return nil
	}()
	if werr := g.Wait(); err == nil {
		err = werr
	}
	if len(out) > 0 {
		out[0].First = nil // the first is for everything before it, too
	}
	return out, err
}

func bytesOf(entries []state.Entry) (n int) {
	for _, e := range entries {
		n += len(e.Bucket) + len(e.Key) + len(e.Value)
	}
	return n
}

// lowerPlace is how many entries come before a place.
func lowerPlace(entries []state.Entry, at string) int {
	return sort.Search(len(entries), func(i int) bool { return place(entries[i]) >= at })
}

func pieceCount(bytes, limit int) int {
	if bytes <= limit {
		return 0
	}
	return (bytes + limit - 1) / limit
}

// putPart writes the objects of a new part. Nobody else uses their names, so an
// object that is there already is ours, from a try whose answer was lost.
func (s *Store) putPart(ctx context.Context, ref partRef, packed []byte, entries []state.Entry) error {
	for _, name := range pieces(ref) {
		data := packed[:min(len(packed), s.blobs.Limit())]
		packed = packed[len(data):]
		err := s.patient(ctx, func() error {
			_, err := s.blobs.Put(ctx, name, data, "")
			if errors.Is(err, ErrPassed) {
				err = nil
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[ref.Name] = entries
	return nil
}
