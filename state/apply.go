package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/continuo-ml/continuo/resource"
)

// batch applies the ops of one commit to an overlay.
type batch struct {
	t      *Overlay
	head   Head
	writer Writer
	fills  []func()
	moves  renames
}

// apply does one op. References to moved addresses are renamed once per run of
// moves, because that reads every record: a renamed module moves thousands.
func (b *batch) apply(op Op) error {
	if n := op.fields(); n != 1 {
		return fmt.Errorf("an op has one field set, not %d", n)
	}
	if op.MoveRecord != nil {
		return b.move(op.MoveRecord[0], op.MoveRecord[1])
	}
	if err := b.flushMoves(); err != nil {
		return err
	}
	switch {
	case op.PutRecord != nil:
		return b.put(BucketRecords, op.PutRecord.Address, "", storedRecord{Record: op.PutRecord})
	case op.DeleteRecord != nil:
		return b.delete(BucketRecords, *op.DeleteRecord, "")
	case op.PutRun != nil:
		return b.putRun(op.PutRun)
	case op.PutVersion != nil:
		return b.putVersion(op.PutVersion)
	case op.DeleteVersion != nil:
		return b.deleteVersion(*op.DeleteVersion)
	case op.PutSignal != nil:
		return b.putSignal(op.PutSignal)
	case op.PutIntent != nil:
		return b.putIntent(op.PutIntent)
	case op.CloseIntent != "":
		return b.closeIntent(op.CloseIntent)
	case op.PutPin != nil:
		return b.put(BucketPins, op.PutPin.Address, "", storedPin{Pin: op.PutPin})
	case op.DeletePin != nil:
		return b.delete(BucketPins, *op.DeletePin, "")
	case op.PutQuarantine != nil:
		q := op.PutQuarantine
		return b.put(BucketQuarantines, q.Address, string(q.Digest), storedQuarantine{Quarantine: q})
	case op.LiftQuarantine != nil:
		return b.delete(BucketQuarantines, op.LiftQuarantine.Address, string(op.LiftQuarantine.Digest))
	case op.PutApproval != nil:
		return b.putApproval(op.PutApproval)
	case op.DeleteApproval != "":
		b.t.Delete(BucketMeta, approvalPrefix+string(op.DeleteApproval))
		return nil
	case op.PutLease != nil:
		return b.putLease(op.PutLease)
	default:
		return b.dropLease()
	}
}

// fields counts the fields that are set.
func (op Op) fields() int {
	v := reflect.ValueOf(op)
	n := 0
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			n++
		}
	}
	return n
}

func entryKey(a resource.Address, part string) (string, error) {
	key, err := addressKey(a)
	if err == nil && part != "" {
		key += partSep + part
	}
	return key, err
}

func (b *batch) put(bucket string, a resource.Address, part string, v any) error {
	key, err := entryKey(a, part)
	if err != nil {
		return err
	}
	return putJSON(b.t, bucket, key, v)
}

// delete removes an entry; one that is gone already is no error, so that a
// settled step can be told twice.
func (b *batch) delete(bucket string, a resource.Address, part string) error {
	key, err := entryKey(a, part)
	if err == nil {
		b.t.Delete(bucket, key)
	}
	return err
}

// get decodes an entry into v and says whether there is one.
func (b *batch) get(bucket, key string, v any) (bool, error) {
	raw, err := b.t.Get(bucket, key)
	if err != nil || raw == nil {
		return false, err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, fmt.Errorf("read %s: %w: %w", DescribeKey(bucket, key), ErrCorrupt, err)
	}
	return true, nil
}

// putApproval never takes a used approval back into use: a plan that ran must
// not run again, whatever a writer believes.
func (b *batch) putApproval(a *Approval) error {
	if a.Plan == "" {
		return errors.New("an approval names a plan")
	}
	var old Approval
	key := approvalPrefix + string(a.Plan)
	found, err := b.get(BucketMeta, key, &old)
	if err != nil {
		return err
	}
	if found && old.Used != nil {
		return fmt.Errorf("the approval of plan %s was used already", a.Plan)
	}
	return putJSON(b.t, BucketMeta, key, a)
}

func (b *batch) putRun(r *Run) error {
	if r.ID == "" {
		return fmt.Errorf("a run of %s needs an id", r.Address)
	}
	if err := b.put(BucketRuns, r.Address, r.ID, storedRun{Run: r}); err != nil {
		return err
	}
	return b.put(BucketRunKeys, r.Address, r.ID, RunKey{
		ID: r.ID, Inputs: r.Inputs, Phase: r.Phase, Trigger: r.Trigger, Version: r.Version,
		Started: r.Started, Finished: r.Finished,
	})
}

// putVersion writes a new version under the next number, or adds verdicts to
// one that exists; nothing else of a version ever changes.
func (b *batch) putVersion(v *Version) error {
	addr, err := addressKey(v.Address)
	if err != nil {
		return err
	}
	counter := 0
	if _, err := b.get(BucketCounters, addr, &counter); err != nil {
		return err
	}
	stored := *v
	if stored.Number == 0 {
		stored.Number = counter + 1
		b.fills = append(b.fills, func() { v.Number = stored.Number })
	}
	if stored.Number <= counter {
		return b.judgeVersion(&stored)
	}
	if stored.Number != counter+1 {
		return fmt.Errorf("the next version of %s is %d, not %d", v.Address, counter+1, stored.Number)
	}
	if err := putJSON(b.t, BucketCounters, addr, stored.Number); err != nil {
		return err
	}
	return b.put(BucketVersions, v.Address, numberKey(stored.Number), storedVersion{Version: &stored})
}

// judgeVersion merges verdicts, so that two validations that judge one version
// side by side keep both. All other bytes stay as they were written first.
func (b *batch) judgeVersion(v *Version) error {
	key, err := entryKey(v.Address, numberKey(v.Number))
	if err != nil {
		return err
	}
	old := &Version{Address: v.Address}
	found, err := b.get(BucketVersions, key, &storedVersion{Version: old})
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("version %d of %s was pruned; its number is never used again", v.Number, v.Address)
	}
	same, err := sameBut(old, v)
	if err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("version %d of %s exists already and is immutable; only verdicts may be added", v.Number, v.Address)
	}
	raw := map[string]json.RawMessage{}
	if _, err := b.get(BucketVersions, key, &raw); err != nil {
		return err
	}
	verdicts := old.Verdicts
	if verdicts == nil {
		verdicts = map[string]*resource.Verdict{}
	}
	for k, w := range v.Verdicts {
		verdicts[k] = w
	}
	if raw["verdicts"], err = marshal(verdicts); err != nil {
		return fmt.Errorf("write the verdicts on version %d of %s: %w", v.Number, v.Address, err)
	}
	return putJSON(b.t, BucketVersions, key, raw)
}

// sameBut says whether two versions are equal but for their verdicts, as they
// read after storing (a parameter 3 is the number 3 whatever its Go type).
func sameBut(a, b *Version) (bool, error) {
	var texts [2]string
	for i, v := range []*Version{a, b} {
		c := *v
		c.Verdicts = nil
		raw, err := marshal(&c)
		if err != nil {
			return false, fmt.Errorf("write version %d of %s: %w", v.Number, v.Address, err)
		}
		var normal Version
		if err := json.Unmarshal(raw, &normal); err != nil {
			return false, err
		}
		if raw, err = marshal(&normal); err != nil {
			return false, err
		}
		texts[i] = string(raw)
	}
	return texts[0] == texts[1], nil
}

func (b *batch) deleteVersion(ref VersionRef) error {
	addr, err := addressKey(ref.Address)
	if err != nil {
		return err
	}
	var rec Record
	if _, err := b.get(BucketRecords, addr, &storedRecord{Record: &rec}); err != nil {
		return err
	}
	if rec.Version == ref.Number && ref.Number != 0 {
		return fmt.Errorf("version %d of %s is the current one and cannot be deleted", ref.Number, ref.Address)
	}
	return b.delete(BucketVersions, ref.Address, numberKey(ref.Number))
}

func (b *batch) putSignal(s *Signal) error {
	if s.Name == "" {
		return fmt.Errorf("a signal of %s needs a name", s.Address)
	}
	key, err := entryKey(s.Address, s.Name)
	if err != nil {
		return err
	}
	var old Signal
	if _, err := b.get(BucketSignals, key, &storedSignal{Signal: &old}); err != nil {
		return err
	}
	if s.Epoch < old.Epoch {
		return fmt.Errorf("the epoch of %s.%s is %d and must not fall to %d", s.Address, s.Name, old.Epoch, s.Epoch)
	}
	return putJSON(b.t, BucketSignals, key, storedSignal{Signal: s})
}

func (b *batch) putIntent(i *Intent) error {
	if i.OpID == "" || i.Address.IsZero() {
		return errors.New("an intent needs an op id and an address")
	}
	var old Intent
	found, err := b.get(BucketIntents, i.OpID, &old)
	if err != nil {
		return err
	}
	if found && old.Address != i.Address {
		return fmt.Errorf("the intent %s is open for %s already", i.OpID, old.Address)
	}
	return putJSON(b.t, BucketIntents, i.OpID, i)
}

func (b *batch) closeIntent(id string) error {
	raw, err := b.t.Get(BucketIntents, id)
	if err != nil {
		return err
	}
	if raw == nil {
		return fmt.Errorf("there is no open intent %s to close", id)
	}
	b.t.Delete(BucketIntents, id)
	return nil
}

// putLease takes or renews the lease. The epoch that fences writers never falls.
func (b *batch) putLease(l *Lease) error {
	if !b.writer.Taking && l.Epoch != b.writer.Epoch {
		return fmt.Errorf("a lease is taken with Acquire; epoch %d is not the writer's", l.Epoch)
	}
	if l.Epoch < b.head.Epoch {
		return fmt.Errorf("the lease's epoch is %d and must not fall to %d", b.head.Epoch, l.Epoch)
	}
	b.head.Epoch, b.head.Term = l.Epoch, max(b.head.Term, l.Term)
	return putJSON(b.t, BucketLease, BucketLease, l)
}

// dropLease ends the writer's own lease; mayWrite has checked that it is.
func (b *batch) dropLease() error {
	if b.writer.Epoch == 0 {
		return errors.New("the lease is dropped by its holder only")
	}
	b.t.Delete(BucketLease, BucketLease)
	return nil
}
