package state

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/continuo-ml/continuo/resource"
)

// renames is the effect of a run of moves on references: where the thing that
// had an address before them stands now.
type renames struct {
	now  map[resource.Address]resource.Address
	was  map[resource.Address]resource.Address
	text map[string]string // the same, rendered
}

func (r *renames) add(from, to resource.Address) {
	if r.now == nil {
		r.now, r.was = map[resource.Address]resource.Address{}, map[resource.Address]resource.Address{}
	}
	origin, moved := r.was[from]
	if !moved {
		origin = from
	}
	delete(r.was, from)
	r.now[origin], r.was[to] = to, origin
}

func (r *renames) address(a resource.Address) resource.Address {
	if to, ok := r.now[a]; ok {
		return to
	}
	return a
}

// move takes everything at one address to another: record, versions, runs,
// signals, pin, quarantines and open intents. The version counter stays behind
// too, so that a new block under the old name never gives a number out again.
func (b *batch) move(from, to resource.Address) error {
	fromKey, err := addressKey(from)
	if err != nil {
		return err
	}
	toKey, err := addressKey(to)
	if err != nil {
		return err
	}
	if fromKey == toKey {
		return fmt.Errorf("move %s to itself", from)
	}
	if err := b.checkMove(from, to, fromKey, toKey); err != nil {
		return err
	}
	if err := b.moveCounter(fromKey, toKey); err != nil {
		return err
	}
	if err := b.moveSignals(fromKey, toKey); err != nil {
		return err
	}
	for _, bucket := range []string{BucketRecords, BucketPins, BucketVersions, BucketRuns, BucketRunKeys, BucketQuarantines} {
		if err := b.rekey(bucket, fromKey, toKey); err != nil {
			return err
		}
	}
	b.moves.add(from, to)
	return nil
}

func (b *batch) checkMove(from, to resource.Address, fromKey, toKey string) error {
	have, err := b.t.Get(BucketRecords, fromKey)
	if err != nil {
		return err
	}
	if have == nil {
		return fmt.Errorf("move %s to %s: there is no record of %s", from, to, from)
	}
	taken, err := b.t.Get(BucketRecords, toKey)
	if err != nil {
		return err
	}
	if taken != nil {
		return fmt.Errorf("move %s to %s: there is a record of %s already", from, to, to)
	}
	return b.t.Scan(BucketVersions, toKey+partSep, func(string, []byte) error {
		return fmt.Errorf("move %s to %s: versions of an earlier %s are still kept; prune them first", from, to, to)
	})
}

func (b *batch) moveCounter(fromKey, toKey string) error {
	var from, to int
	found, err := b.get(BucketCounters, fromKey, &from)
	if err != nil || !found {
		return err
	}
	if _, err := b.get(BucketCounters, toKey, &to); err != nil {
		return err
	}
	return putJSON(b.t, BucketCounters, toKey, max(from, to))
}

// moveSignals keeps the higher epoch where an earlier monitor left a signal of
// that name behind: a run too many is better than a drift that nobody sees.
func (b *batch) moveSignals(fromKey, toKey string) error {
	return b.eachPart(BucketSignals, fromKey, func(part string, raw []byte) error {
		var s, old Signal
		if err := json.Unmarshal(raw, &storedSignal{Signal: &s}); err != nil {
			return fmt.Errorf("read %s: %w: %w", DescribeKey(BucketSignals, fromKey+part), ErrCorrupt, err)
		}
		if _, err := b.get(BucketSignals, toKey+part, &storedSignal{Signal: &old}); err != nil {
			return err
		}
		s.Epoch = max(s.Epoch, old.Epoch)
		b.t.Delete(BucketSignals, fromKey+part)
		return putJSON(b.t, BucketSignals, toKey+part, storedSignal{Signal: &s})
	})
}

func (b *batch) rekey(bucket, fromKey, toKey string) error {
	return b.eachPart(bucket, fromKey, func(part string, raw []byte) error {
		b.t.Delete(bucket, fromKey+part)
		b.t.Put(bucket, toKey+part, raw)
		return nil
	})
}

// eachPart calls fn for the entry of an address (part "") and those below it.
// It collects first, so that fn may change the table.
func (b *batch) eachPart(bucket, key string, fn func(part string, raw []byte) error) error {
	var found []Entry
	keep := func(k string, v []byte) error {
		found = append(found, Entry{Key: strings.TrimPrefix(k, key), Value: append([]byte(nil), v...)})
		return nil
	}
	own, err := b.t.Get(bucket, key)
	if err != nil {
		return err
	}
	if own != nil {
		if err := keep(key, own); err != nil {
			return err
		}
	}
	if err := b.t.Scan(bucket, key+partSep, keep); err != nil {
		return err
	}
	for _, e := range found {
		if err := fn(e.Key, e.Value); err != nil {
			return err
		}
	}
	return nil
}

// flushMoves renames what other entries say of moved addresses: dependencies,
// noted signal epochs, the validations behind verdicts, and open intents.
func (b *batch) flushMoves() error {
	if len(b.moves.now) == 0 {
		return nil
	}
	r := b.moves
	b.moves = renames{}
	r.text = make(map[string]string, len(r.now))
	for from, to := range r.now {
		r.text[from.String()] = to.String()
	}
	if err := renameIn(b, BucketRecords, func(raw []byte) (any, error) {
		var rec Record
		err := json.Unmarshal(raw, &storedRecord{Record: &rec})
		deps, seen := renameDeps(rec.Deps, &r), renameSeen(rec.Seen, &r)
		if err != nil || !deps && !seen {
			return nil, err
		}
		return storedRecord{Record: &rec}, nil
	}); err != nil {
		return err
	}
	if err := renameIn(b, BucketIntents, func(raw []byte) (any, error) {
		var i Intent
		err := json.Unmarshal(raw, &i)
		own, deps, seen := r.address(i.Address), renameDeps(i.Deps, &r), renameSeen(i.Seen, &r)
		if err != nil || own == i.Address && !deps && !seen {
			return nil, err
		}
		i.Address = own
		return i, nil
	}); err != nil {
		return err
	}
	return renameIn(b, BucketVersions, func(raw []byte) (any, error) { return renameVerdicts(raw, &r) })
}

// renameIn rewrites the entries of a bucket for which change returns a new form.
func renameIn(b *batch, bucket string, change func(raw []byte) (any, error)) error {
	var changed []Entry
	err := b.t.Scan(bucket, "", func(key string, value []byte) error {
		form, err := change(value)
		if err != nil {
			return fmt.Errorf("read %s: %w: %w", DescribeKey(bucket, key), ErrCorrupt, err)
		}
		if form == nil {
			return nil
		}
		raw, err := marshal(form)
		changed = append(changed, Entry{Key: key, Value: raw})
		return err
	})
	if err != nil {
		return err
	}
	for _, e := range changed {
		b.t.Put(bucket, e.Key, e.Value)
	}
	return nil
}

func renameDeps(deps []resource.Address, r *renames) bool {
	changed := false
	for i, d := range deps {
		if to := r.address(d); to != d {
			deps[i], changed = to, true
		}
	}
	return changed
}

// renameSeen renames keys like "monitor.x.drift"; two monitors may have swapped
// names, so the map is built anew.
func renameSeen(seen map[string]int64, r *renames) bool {
	next := make(map[string]int64, len(seen))
	changed := false
	for k, epoch := range seen {
		if dot := strings.LastIndexByte(k, '.'); dot >= 0 {
			if to, ok := r.text[k[:dot]]; ok {
				k, changed = to+k[dot:], true
			}
		}
		next[k] = epoch
	}
	if changed {
		clear(seen)
		for k, epoch := range next {
			seen[k] = epoch
		}
	}
	return changed
}

// renameVerdicts returns the version with its verdicts under new names, or nil
// when none moved. All other bytes stay.
func renameVerdicts(raw []byte, r *renames) (any, error) {
	var version, verdicts map[string]json.RawMessage
	if err := json.Unmarshal(raw, &version); err != nil || version["verdicts"] == nil {
		return nil, err
	}
	if err := json.Unmarshal(version["verdicts"], &verdicts); err != nil {
		return nil, err
	}
	next := make(map[string]json.RawMessage, len(verdicts))
	changed := false
	for k, v := range verdicts {
		if to, ok := r.text[k]; ok {
			k, changed = to, true
		}
		next[k] = v
	}
	if !changed {
		return nil, nil
	}
	out, err := marshal(next)
	version["verdicts"] = out
	return version, err
}
