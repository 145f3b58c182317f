package bolt

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/bits"
	"slices"

	"github.com/continuo-ml/continuo/state"
)

// A stored value is a version byte, a SHA-256 over that byte, bucket, key and
// payload, and the payload. The hash covers the key, so that a value cannot
// stand in another's place.
const (
	sealVersion = 1
	sealSize    = 1 + sha256.Size
)

// seal wraps a payload.
func seal(bucket, key string, payload []byte) []byte {
	out := make([]byte, sealSize+len(payload))
	out[0] = sealVersion
	copy(out[sealSize:], payload)
	sum := sealSum(bucket, key, payload)
	copy(out[1:], sum[:])
	return out
}

// unseal checks a stored value and returns its payload, which shares its memory.
func unseal(bucket, key string, value []byte) ([]byte, error) {
	if len(value) < sealSize || value[0] != sealVersion {
		return nil, damaged("%s is not a stored value", state.DescribeKey(bucket, key))
	}
	if sealSum(bucket, key, value[sealSize:]) != [sha256.Size]byte(value[1:sealSize]) {
		return nil, damaged("%s does not match its checksum", state.DescribeKey(bucket, key))
	}
	return value[sealSize:], nil
}

func sealSum(bucket, key string, payload []byte) (sum [sha256.Size]byte) {
	var head [512]byte
	b := append(head[:0], sealVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(bucket)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(key)))
	b = append(append(b, bucket...), key...)
	h := sha256.New()
	h.Write(b)
	h.Write(payload)
	h.Sum(sum[:0])
	return sum
}

// total is the sum of the hashes of all values in a bucket, modulo 2^256. It can
// be kept up to date from the values that change, and tells a lost, doubled or
// outdated value. It is no defence against somebody who chooses the values.
type total [4]uint64

// add puts a stored value into the total, remove takes it out.
func (t *total) add(value []byte) {
	var carry uint64
	for i := range t {
		t[i], carry = bits.Add64(t[i], binary.LittleEndian.Uint64(value[1+8*i:]), carry)
	}
}

func (t *total) remove(value []byte) {
	var borrow uint64
	for i := range t {
		t[i], borrow = bits.Sub64(t[i], binary.LittleEndian.Uint64(value[1+8*i:]), borrow)
	}
}

// MarshalText writes the total as 64 hex digits.
func (t total) MarshalText() ([]byte, error) {
	var b [32]byte
	for i, w := range t {
		binary.LittleEndian.PutUint64(b[8*i:], w)
	}
	return hex.AppendEncode(nil, b[:]), nil
}

// UnmarshalText reads what MarshalText wrote.
func (t *total) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != 32 {
		return fmt.Errorf("%q is not a sum", text)
	}
	for i := range t {
		t[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return nil
}

// rootKey is the key in state.BucketMeta of the totals of all buckets. It is in
// no total itself.
const rootKey = "root"

// totals are the totals by bucket: the root hash of a serial.
type totals map[string]*total

func newTotals() totals {
	t := totals{}
	for _, b := range state.Buckets() {
		t[b] = &total{}
	}
	return t
}

func (t totals) encode() ([]byte, error) { return json.Marshal(t) }

func decodeTotals(payload []byte) (totals, error) {
	t := totals{}
	if err := json.Unmarshal(payload, &t); err != nil {
		return nil, damaged("the root hash cannot be read: %v", err)
	}
	for _, b := range state.Buckets() {
		if t[b] == nil {
			return nil, damaged("the root hash lacks the bucket %s", b)
		}
	}
	for _, b := range slices.Sorted(maps.Keys(t)) {
		if !slices.Contains(state.Buckets(), b) {
			return nil, state.UnknownTo("the bucket " + b)
		}
	}
	return t, nil
}
