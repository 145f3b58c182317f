package state

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// The stored forms leave out the address, which is the key: it is neither
// parsed twice nor able to differ from the key. The nameless field shadows it.
type (
	noAddress = *struct{}

	storedRecord struct {
		Address noAddress `json:"address,omitempty"`
		*Record
	}
	storedRun struct {
		Address noAddress `json:"address,omitempty"`
		*Run
	}
	storedVersion struct {
		Address noAddress `json:"address,omitempty"`
		*Version
	}
	storedSignal struct {
		Address noAddress `json:"address,omitempty"`
		*Signal
	}
	storedPin struct {
		Address noAddress `json:"address,omitempty"`
		*Pin
	}
	storedQuarantine struct {
		Address noAddress `json:"address,omitempty"`
		*Quarantine
	}
)

// marshal is json.Marshal that leaves <, > and & alone, so that raw JSON inside
// comes back byte for byte.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// decodeEntry reads one entry of a table: *Record, *Run, RunKey and so on.
func decodeEntry(e Entry) (any, error) {
	v, err := decodeAs(e)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", DescribeKey(e.Bucket, e.Key), err)
	}
	return v, nil
}

func decodeAs(e Entry) (any, error) {
	switch e.Bucket {
	case BucketIntents:
		i := &Intent{}
		return i, json.Unmarshal(e.Value, i)
	case BucketLease:
		l := &Lease{}
		return l, json.Unmarshal(e.Value, l)
	case BucketMeta:
		return decodeMeta(e)
	}
	addr, _, err := parseKey(e.Key)
	if err != nil {
		return nil, err
	}
	switch e.Bucket {
	case BucketRecords:
		return decodeRecord(e.Value, addr)
	case BucketRuns:
		r := &Run{Address: addr}
		return r, json.Unmarshal(e.Value, &storedRun{Run: r})
	case BucketRunKeys:
		k, err := decodeRunKey(e.Value)
		return &addressed[RunKey]{addr: addr, value: k}, err
	case BucketVersions:
		v := &Version{Address: addr}
		return v, json.Unmarshal(e.Value, &storedVersion{Version: v})
	case BucketCounters:
		n := &addressed[int]{addr: addr}
		return n, json.Unmarshal(e.Value, &n.value)
	case BucketSignals:
		s := &Signal{Address: addr}
		return s, json.Unmarshal(e.Value, &storedSignal{Signal: s})
	case BucketPins:
		p := &Pin{Address: addr}
		return p, json.Unmarshal(e.Value, &storedPin{Pin: p})
	case BucketQuarantines:
		q := &Quarantine{Address: addr}
		return q, json.Unmarshal(e.Value, &storedQuarantine{Quarantine: q})
	}
	return nil, fmt.Errorf("there is no bucket %q", e.Bucket)
}
