package bolt

import (
	"fmt"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// readBucket appends the entries of one bucket, values still sealed.
func readBucket(p *pages, buckets map[string]bucket, name, prefix string, into []state.Entry) ([]state.Entry, error) {
	b, ok := buckets[name]
	if !ok {
		return nil, damaged("the bucket %s is missing", name)
	}
	err := p.scanBucket(b, prefix, func(key, value []byte) error {
		into = append(into, state.Entry{Bucket: name, Key: string(key), Value: value})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the bucket %s: %w", name, err)
	}
	return into, nil
}

// readAll reads the wanted buckets in full.
func readAll(p *pages, buckets map[string]bucket, want func(bucket string) bool) (entries []state.Entry, err error) {
	entries = make([]state.Entry, 0, 1024)
	for _, name := range state.Buckets() {
		if want(name) {
			if entries, err = readBucket(p, buckets, name, "", entries); err != nil {
				return nil, err
			}
		}
	}
	return entries, nil
}

func openEntry(e *state.Entry) error {
	payload, err := unseal(e.Bucket, e.Key, e.Value)
	e.Value = payload
	return err
}

// readHead reads the head and refuses a newer format before anything else is looked at.
func readHead(p *pages, buckets map[string]bucket) (state.Head, error) {
	entries, err := readBucket(p, buckets, state.BucketMeta, "", nil)
	if err != nil {
		return state.Head{}, err
	}
	t := plainTable{}
	for _, e := range entries {
		if err := openEntry(&e); err != nil {
			return state.Head{}, err
		}
		t[e.Key] = e.Value
	}
	return state.ReadHead(t)
}

// plainTable is the meta bucket alone.
type plainTable map[string][]byte

func (t plainTable) Get(_, key string) ([]byte, error) { return t[key], nil }

func (t plainTable) Scan(string, string, func(string, []byte) error) error { return nil }

// assemble verifies sealed entries, one by one and bucket by bucket against the
// root hash, and decodes them. covered says which buckets the entries are all of.
func assemble(entries []state.Entry, covered func(bucket string) bool) (*state.Snapshot, error) {
	sums, root, rest, err := split(entries)
	if err != nil {
		return nil, err
	}
	snap, err := state.Load(rest, openEntry)
	if err != nil {
		return nil, err
	}
	want, err := decodeTotals(root)
	if err != nil {
		return nil, err
	}
	for _, b := range state.Buckets() {
		if covered(b) && *sums[b] != *want[b] {
			return nil, damaged("the values in the bucket %s do not add up to the root hash: some are lost or out of date", b)
		}
	}
	snap.Root = resource.DigestOf(root)
	return snap, nil
}

// split adds up the hashes of the entries and takes the root hash out of them.
func split(entries []state.Entry) (sums totals, root []byte, rest []state.Entry, err error) {
	sums, rest = newTotals(), make([]state.Entry, 0, len(entries))
	for _, e := range entries {
		if e.Bucket == state.BucketMeta && e.Key == rootKey {
			if root, err = unseal(e.Bucket, e.Key, e.Value); err != nil {
				return nil, nil, nil, err
			}
			continue
		}
		if len(e.Value) < sealSize {
			return nil, nil, nil, damaged("%s is not a stored value", state.DescribeKey(e.Bucket, e.Key))
		}
		sums[e.Bucket].add(e.Value)
		rest = append(rest, e)
	}
	if root == nil {
		return nil, nil, nil, damaged("the root hash is missing")
	}
	return sums, root, rest, nil
}
