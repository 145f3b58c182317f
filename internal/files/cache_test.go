package files

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// run digests file f of dir in an Index of its own and returns what was done.
func run(t *testing.T, dir, cache string, opt options) (Digest, Stats) {
	t.Helper()
	x, err := openIndex(dir, cache, opt)
	if err != nil {
		t.Fatal(err)
	}
	d, err := x.DigestFile("f")
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return d, x.Stats()
}

func TestAnUnchangedFileIsNotReadAgain(t *testing.T) {
	for _, size := range []int{3, bufBytes + 3} {
		dir := project(t, map[string]string{"f": string(bytes.Repeat([]byte("x"), size))})
		cache := filepath.Join(t.TempDir(), "sub", "stat")
		opt := options{now: later(time.Minute)}
		first, s := run(t, dir, cache, opt)
		if s.Hashed != 1 || s.Hits != 0 {
			t.Errorf("first run: %+v", s)
		}
		again, s := run(t, dir, cache, opt)
		if s.Hashed != 0 || s.Hits != 1 || again != first {
			t.Errorf("second run: %+v, %v, want a hit on %v", s, again, first)
		}
		write(t, filepath.Join(dir, "f"), "other")
		if d, s := run(t, dir, cache, opt); d.Hex != hexOf("other") || s.Hashed != 1 {
			t.Errorf("after a change: %v, %+v", d, s)
		}
	}
}

// A write that leaves size and modification time alone still moves the change time.
func TestAChangeWithTheOldTimesPutBackIsSeen(t *testing.T) {
	dir := project(t, map[string]string{"f": "aaa"})
	cache := filepath.Join(t.TempDir(), "stat")
	f := filepath.Join(dir, "f")
	fi, err := os.Stat(f)
	if err != nil {
		t.Fatal(err)
	}
	run(t, dir, cache, options{now: later(time.Minute)})
	// The kernel's clock moves in ticks: write until the change time has moved too.
	x := openWith(t, dir, "", options{})
	before, _, err := osStamp(x, "f")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		write(t, f, "bbb")
		if err := os.Chtimes(f, time.Time{}, fi.ModTime()); err != nil {
			t.Fatal(err)
		}
		now, _, err := osStamp(x, "f")
		if err != nil {
			t.Fatal(err)
		}
		if now.ctime != before.ctime {
			if now.mtime != before.mtime || now.size != before.size {
				t.Fatalf("the times were not put back: %+v, %+v", before, now)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the change time does not move")
		}
	}
	if d, _ := run(t, dir, cache, options{now: later(time.Minute)}); d.Hex != hexOf("bbb") {
		t.Error("the old digest was returned")
	}
}

func osStamp(x *Index, p string) (stamp, fs.FileMode, error) {
	f, err := openRegular(x.root, p)
	if err != nil {
		return stamp{}, 0, err
	}
	s, m, err := osFile{f}.stat()
	return s, m, errors.Join(err, f.Close())
}

func TestAFileHashedJustAfterItsWriteIsNotTrusted(t *testing.T) {
	dir := project(t, map[string]string{"f": "aaa"})
	cache := filepath.Join(t.TempDir(), "stat")
	for _, c := range []struct {
		ahead time.Duration
		hits  int64
	}{{0, 0}, {time.Second, 0}, {time.Minute, 0}, {time.Minute, 1}} {
		if _, s := run(t, dir, cache, options{now: later(c.ahead)}); s.Hits != c.hits {
			t.Errorf("hashed %s after the write: %d hits, want %d", c.ahead, s.Hits, c.hits)
		}
	}
	now := int64(100 * time.Second)
	for _, c := range []struct {
		s    stamp
		racy bool
	}{
		{stamp{mtime: now - int64(3*time.Second), ctime: now - int64(3*time.Second)}, false},
		{stamp{mtime: now - int64(time.Second), ctime: now - int64(3*time.Second)}, true},
		{stamp{mtime: 1, ctime: now - int64(time.Second)}, true},
		{stamp{mtime: 2 * now, ctime: 1}, false}, // a program set a time far ahead
		{stamp{mtime: 2 * now}, true},            // no change time to vouch for it
	} {
		if got := c.s.racy(now); got != c.racy {
			t.Errorf("%+v racy = %v, want %v", c.s, got, c.racy)
		}
	}
}

func TestADamagedCacheIsIgnoredAndRebuilt(t *testing.T) {
	dir := project(t, map[string]string{"f": "aaa"})
	cache := filepath.Join(t.TempDir(), "stat")
	opt := options{now: later(time.Minute)}
	run(t, dir, cache, opt)
	good, err := os.ReadFile(cache)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if _, ok := decodeCache(bad); ok {
			t.Errorf("a flipped bit in byte %d was not noticed", i)
		}
		if _, ok := decodeCache(good[:i]); ok {
			t.Errorf("a file cut at %d was not noticed", i)
		}
	}
	bad := bytes.Clone(good)
	bad[len(bad)-40] ^= 1 // in the digest of the entry
	for _, data := range [][]byte{nil, []byte("x"), bad, good[:len(good)-1]} {
		if err := os.WriteFile(cache, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if d, s := run(t, dir, cache, opt); d.Hex != hexOf("aaa") || s.Hashed != 1 {
			t.Errorf("with a cache of %d bytes: %v, %+v", len(data), d, s)
		}
		if got, err := os.ReadFile(cache); err != nil {
			t.Fatal(err)
		} else if _, ok := decodeCache(got); !ok {
			t.Error("the cache was not rebuilt")
		}
	}
}

func TestBytesThatChangedBehindTheSameStampAreFoundWithinAWeek(t *testing.T) {
	dir := project(t, map[string]string{"f": "aaa"})
	cache := filepath.Join(t.TempDir(), "stat")
	opt := options{now: later(time.Minute)}
	x := openWith(t, dir, "", opt)
	st, _, err := osStamp(x, "f")
	if err != nil {
		t.Fatal(err)
	}
	stale := encodeCache(map[string]cacheEntry{"f": {stamp: st, hashed: opt.now().UnixNano(), sum: [32]byte{1}}})
	if err := os.WriteFile(cache, stale, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, s := run(t, dir, cache, opt); s.Hits != 1 {
		t.Errorf("a fresh entry: %+v", s)
	}
	if d, s := run(t, dir, cache, options{now: later(8 * 24 * time.Hour)}); d.Hex != hexOf("aaa") || s.Hashed != 1 {
		t.Errorf("an old entry: %v, %+v", d, s)
	}
}

func TestOldEntriesAreTakenAgainWithinAWeekSpreadOut(t *testing.T) {
	day := int64(24 * time.Hour)
	perDay := map[int64]int{}
	for i := range 1000 {
		p := fmt.Sprint("file", i)
		e := cacheEntry{hashed: 0}
		if e.due(p, 3*day) {
			t.Errorf("%s is due after 3 days", p)
		}
		if !e.due(p, 7*day+1) {
			t.Errorf("%s is not due after a week", p)
		}
		d := int64(3)
		for !e.due(p, d*day) {
			d++
		}
		perDay[d]++
	}
	for d := int64(4); d <= 7; d++ {
		if perDay[d] < 100 || perDay[d] > 400 {
			t.Errorf("%d of 1000 entries are due on day %d", perDay[d], d)
		}
	}
	future := cacheEntry{hashed: 10 * day}
	if !future.due("f", 5*day) {
		t.Error("an entry from the future is trusted")
	}
}

func TestEntriesNobodyAsksForAreForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stat")
	now := time.Now()
	old := cacheEntry{hashed: now.Add(-31 * 24 * time.Hour).UnixNano()}
	young := cacheEntry{hashed: now.Add(-29 * 24 * time.Hour).UnixNano()}
	if err := os.WriteFile(path, encodeCache(map[string]cacheEntry{"old": old, "young": young}), 0o644); err != nil {
		t.Fatal(err)
	}
	c := loadCache(path)
	c.put("new", cacheEntry{hashed: now.UnixNano()})
	if err := c.save(now); err != nil {
		t.Fatal(err)
	}
	near := -1
	c = loadCache(path)
	for name, want := range map[string]bool{"old": false, "young": true, "new": true} {
		if _, ok := c.loaded.find(name, &near); ok != want {
			t.Errorf("%s found = %v", name, ok)
		}
	}
}

func TestTheTableFindsEveryEntryInAnyOrder(t *testing.T) {
	m := map[string]cacheEntry{}
	var paths []string
	for i := range 500 {
		p := fmt.Sprintf("d%d/f%d", i%17, i)
		m[p] = cacheEntry{stamp: stamp{int64(i), -2, 3, 4, 1 << 63}, hashed: 9, sum: [32]byte{byte(i)}}
		paths = append(paths, p)
	}
	table, ok := decodeCache(encodeCache(m))
	if !ok {
		t.Fatal("not decoded")
	}
	near := -1
	for range 3 {
		for _, p := range paths {
			if e, ok := table.find(p, &near); !ok || e != m[p] {
				t.Fatalf("%s: %+v, %v", p, e, ok)
			}
			if _, ok := table.find(p+"x", &near); ok {
				t.Fatalf("%sx was found", p)
			}
		}
		rand.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
	}
}

func FuzzDecodeCache(f *testing.F) {
	f.Add(encodeCache(map[string]cacheEntry{"a": {}, "b/c": {hashed: 1}}))
	f.Add(encodeCache(nil))
	f.Add([]byte(cacheMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, ok := decodeCache(data)
		if !ok {
			return
		}
		m := map[string]cacheEntry{}
		for i := range table.at {
			m[string(table.key(i))] = table.entry(i)
		}
		if !bytes.Equal(encodeCache(m), data) {
			t.Error("a decoded cache is not encoded alike")
		}
	})
}
