package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Keys of BucketMeta.
const (
	// FormatKey holds Format as a decimal number. Its place and form stay the
	// same in every version, so that an old program can tell a new state.
	FormatKey = "format"
	// HeadKey holds the Head.
	HeadKey = "head"
	// approvalPrefix and the digest of a plan hold an Approval.
	approvalPrefix = "approval "
)

// maxValue and maxKey bound one entry in bytes: far above what any block needs,
// and below what would make a reader's memory the victim of one value.
const (
	maxValue = 64 << 20
	maxKey   = 4 << 10
)

// Head is what a state knows of itself.
type Head struct {
	Lineage string `json:"lineage"`
	Serial  uint64 `json:"serial"`
	// Epoch is the highest lease epoch ever given out.
	Epoch int64 `json:"epoch,omitempty"`
	// Term is the highest term of a leader that ever took the lease.
	Term int64 `json:"term,omitempty"`
}

// Writer says on what grounds a commit is made.
type Writer struct {
	// Base is the serial that the caller's decision rests on; 0 skips the check
	// for the holder of the lease.
	Base uint64
	// Epoch is the epoch of the lease that the writer holds, 0 for none.
	Epoch int64
	// Taking allows the ops to take the lease over: the writer has the OS lock.
	Taking bool
	// Term is the writer's, where several daemons elect one of them; 0 = nobody is elected.
	Term int64
}

// Committed is the outcome of one Commit: its serial and what to do once it is durable.
type Committed struct {
	Serial uint64
	fills  []func()
}

// Fill writes the numbers that the commit gave out into the callers' versions.
func (c Committed) Fill() {
	for _, f := range c.fills {
		f()
	}
}

// Create puts an empty state with the given lineage into an empty table.
func Create(t *Overlay, lineage string) error {
	t.Put(BucketMeta, FormatKey, []byte(strconv.Itoa(Format)))
	return putJSON(t, BucketMeta, HeadKey, Head{Lineage: lineage})
}

// ReadHead returns the head. It errors with ErrNewer when the table was written
// by a newer format, and with ErrCorrupt when there is no head.
func ReadHead(t Table) (Head, error) {
	raw, err := t.Get(BucketMeta, FormatKey)
	if err != nil {
		return Head{}, err
	}
	if err := checkFormat(raw); err != nil {
		return Head{}, err
	}
	raw, err = t.Get(BucketMeta, HeadKey)
	if err != nil {
		return Head{}, err
	}
	var h Head
	if err := json.Unmarshal(raw, &h); err != nil {
		return Head{}, fmt.Errorf("read the head: %w: %w", ErrCorrupt, err)
	}
	return h, nil
}

func checkFormat(raw []byte) error {
	n, err := strconv.Atoi(string(raw))
	if err != nil {
		return fmt.Errorf("%w: its format is %q, not a number", ErrCorrupt, raw)
	}
	if n > Format {
		return fmt.Errorf("%w: it has format %d, this program knows formats up to %d; use the newer ml", ErrNewer, n, Format)
	}
	return nil
}

// CommitTo applies one batch of ops to t, all or none of them being the
// caller's business: drop t on error. It is what all Stores share: compare and
// swap, fencing, numbering and every rule on what may change.
func CommitTo(t *Overlay, w Writer, ops []Op) (Committed, error) {
	h, err := ReadHead(t)
	if err != nil {
		return Committed{}, err
	}
	if err := mayWrite(t, h, w); err != nil {
		return Committed{}, err
	}
	b := &batch{t: t, head: h, writer: w}
	for i, op := range ops {
		if err := b.apply(op); err != nil {
			return Committed{}, fmt.Errorf("commit op %d of %d: %w", i+1, len(ops), err)
		}
	}
	if err := b.flushMoves(); err != nil {
		return Committed{}, fmt.Errorf("commit: %w", err)
	}
	b.head.Serial++
	if err := putJSON(t, BucketMeta, HeadKey, b.head); err != nil {
		return Committed{}, err
	}
	return Committed{Serial: b.head.Serial, fills: b.fills}, nil
}

// mayWrite is the compare-and-swap and the fence. A writer whose lease was taken
// over (it slept, or its lock file was deleted) must not write on old grounds.
func mayWrite(t *Overlay, h Head, w Writer) error {
	if w.Base != 0 && w.Base != h.Serial {
		return fmt.Errorf("%w: it is at serial %d, this change rests on %d; plan again", ErrConflict, h.Serial, w.Base)
	}
	if w.Term != 0 && w.Term < h.Term {
		return fmt.Errorf("%w: the leader of term %d has taken over, and this is an earlier one (%d)", ErrConflict, h.Term, w.Term)
	}
	if w.Epoch == 0 {
		if w.Base == 0 && h.Serial != 0 && !w.Taking {
			return errors.New("commit without a base: a writer that does not hold the lease must name the serial that it read")
		}
		return nil
	}
	l, err := ReadLease(t)
	if err != nil {
		return err
	}
	if l == nil || l.Epoch != w.Epoch {
		return fmt.Errorf("%w: lease lost, %s", ErrConflict, DescribeLease(l))
	}
	return nil
}

// ReadLease returns the lease in a table, nil when nobody holds it.
func ReadLease(t Table) (*Lease, error) {
	raw, err := t.Get(BucketLease, BucketLease)
	if err != nil || raw == nil {
		return nil, err
	}
	l := &Lease{}
	if err := json.Unmarshal(raw, l); err != nil {
		return nil, fmt.Errorf("read the lease: %w: %w", ErrCorrupt, err)
	}
	return l, nil
}

// DescribeLease names the holder for messages; nil is "nobody holds it".
func DescribeLease(l *Lease) string {
	if l == nil {
		return "nobody holds it"
	}
	return fmt.Sprintf("%s (process %d) holds it for %s since %s", l.Holder, l.PID, l.Doing, l.Since.UTC().Format(time.RFC3339))
}

func putJSON(t *Overlay, bucket, key string, v any) error {
	raw, err := marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w: %w", DescribeKey(bucket, key), ErrUnwritable, err)
	}
	if len(raw) > maxValue {
		return fmt.Errorf("write %s: %w: it has %d bytes, at most %d can be stored", DescribeKey(bucket, key), ErrUnwritable, len(raw), maxValue)
	}
	if len(key) > 2*maxKey {
		return fmt.Errorf("write %s: the key %.40q… is longer than %d bytes", bucket, key, 2*maxKey)
	}
	t.Put(bucket, key, raw)
	return nil
}

// Raise lifts the serial and the epoch of a state above those of another head:
// for a copy that takes the place of what was written since.
func Raise(t *Overlay, above Head) (Head, error) {
	h, err := ReadHead(t)
	if err != nil {
		return Head{}, err
	}
	h.Serial = max(h.Serial, above.Serial) + 1
	h.Epoch = max(h.Epoch, above.Epoch)
	h.Term = max(h.Term, above.Term)
	return h, putJSON(t, BucketMeta, HeadKey, h)
}
