package bolt

import (
	"bytes"
	"testing"

	"github.com/continuo-ml/continuo/state"
)

func TestASealIsForOneKeyOnly(t *testing.T) {
	v := seal("records", "a", []byte("x"))
	if got, err := unseal("records", "a", v); err != nil || string(got) != "x" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, other := range [][2]string{{"records", "b"}, {"record", "sa"}, {"runs", "a"}} {
		if _, err := unseal(other[0], other[1], v); err == nil {
			t.Errorf("the value passes as %v", other)
		}
	}
	for bit := range len(v) * 8 {
		bad := bytes.Clone(v)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := unseal("records", "a", bad); err == nil {
			t.Errorf("bit %d can be flipped", bit)
		}
	}
}

func TestATotalForgetsWhatWasRemoved(t *testing.T) {
	var a, b total
	values := [][]byte{seal("b", "1", []byte("x")), seal("b", "2", []byte("y")), seal("b", "3", []byte("z"))}
	for _, v := range values {
		a.add(v)
	}
	a.remove(values[0])
	b.add(values[2])
	b.add(values[1])
	if a != b || a == (total{}) {
		t.Errorf("%v and %v", a, b)
	}
	text, err := a.MarshalText()
	var c total
	if err != nil || c.UnmarshalText(text) != nil || c != a {
		t.Errorf("%s is read back as %v", text, c)
	}
}

// FuzzRecord puts any bytes where a stored value should be, and any payload
// under a good seal: neither may panic, and only the sealed bytes come back.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(seal(state.BucketRecords, "\x1ftraining\x1ft\x1f", []byte(`{"phase":"ready","deps":["check.a"],"created":"2026-03-01T12:00:00Z"}`)))
	f.Add([]byte(`{"spec":{"a":[1,"]"]},"parts":{"x":"\u00e9"},"version":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		key := "\x1ftraining\x1ft\x1f"
		if got, err := unseal(state.BucketRecords, key, data); err == nil && !bytes.Equal(seal(state.BucketRecords, key, got), data) {
			t.Fatal("a value that was never sealed was opened")
		}
		for _, bucket := range state.Buckets() {
			e := state.Entry{Bucket: bucket, Key: key, Value: seal(bucket, key, bytes.Clone(data))}
			snap, err := state.Load([]state.Entry{e}, openEntry)
			if (snap == nil) != (err != nil) {
				t.Fatalf("%s: snapshot %v and error %v", bucket, snap, err)
			}
		}
	})
}

// FuzzPages overwrites any part of a real file: the page reader gives an error
// or pages, never a panic, a hang or a read outside the file.
func FuzzPages(f *testing.F) {
	whole := readFile(f, sample(f, 12).path)
	f.Add(uint32(0), []byte(nil))
	for page := range uint32(len(whole) / 4096) { // each header and first element, with its own bytes
		f.Add(page*4096, whole[page*4096:page*4096+48])
	}
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		data := bytes.Clone(whole)
		copy(data[int(at)%len(data):], patch)
		p, err := openPages(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		buckets, err := p.buckets()
		if err != nil {
			return
		}
		seen := 0
		for _, b := range buckets {
			if err := p.scanBucket(b, "", func(key, value []byte) error { seen += len(key) + len(value); return nil }); err != nil {
				return
			}
		}
		if seen > len(data) {
			t.Fatalf("%d bytes were found in a file of %d", seen, len(data))
		}
		if free, err := p.checkFree(); err == nil && free > int(p.high) {
			t.Fatalf("%d of %d pages are free", free, p.high)
		}
	})
}
