package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func someRecords(prefix string, n int) []Record {
	var out []Record
	for i := range n {
		out = append(out, Record{
			Seq: uint64(i + 1), ID: fmt.Sprintf("%s-%d", prefix, i), Time: time.Unix(1700000000, 0).UTC(), Version: 1, Method: "POST", Status: 200,
			Request: Body{JSON: json.RawMessage(`{"instances":[[1]]}`)}, Response: Body{Bytes: []byte("half"), Truncated: true},
		})
	}
	return out
}

func copied(t *testing.T, dir string) (ids []string) {
	t.Helper()
	last := uint64(0)
	for r, err := range Records(dir, 1) {
		if err != nil {
			t.Fatal(err)
		}
		if last != 0 && r.Seq != last+1 {
			t.Errorf("record %d follows %d", r.Seq, last)
		}
		last = r.Seq
		ids = append(ids, r.ID)
	}
	return ids
}

func openCopy(t *testing.T, dir string, limit int64) *Copy {
	t.Helper()
	c, err := OpenCopy(t.Context(), dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func appendTo(t *testing.T, c *Copy, source, cursor string, records []Record) {
	t.Helper()
	if err := c.Append(source, cursor, records); err != nil {
		t.Fatal(err)
	}
}

func TestACopyHoldsEachRecordOfEachSourceOnce(t *testing.T) {
	dir := t.TempDir()
	c := openCopy(t, dir, 1<<20)
	appendTo(t, c, "a", "a:2", someRecords("a", 2))
	appendTo(t, c, "b", "b:1", someRecords("b", 1))
	// A copy is killed after the bytes and before the cursor.
	before, err := os.ReadFile(filepath.Join(dir, marksFile))
	if err != nil {
		t.Fatal(err)
	}
	appendTo(t, c, "a", "a:5", someRecords("lost", 3))
	if err := os.WriteFile(filepath.Join(dir, marksFile), before, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = openCopy(t, dir, 1<<20)
	defer c.Close()
	if c.Cursor("a") != "a:2" || c.Cursor("b") != "b:1" || c.Cursor("c") != "" {
		t.Errorf("cursors %q, %q, %q", c.Cursor("a"), c.Cursor("b"), c.Cursor("c"))
	}
	appendTo(t, c, "a", "a:3", someRecords("a", 3)[2:])
	if d := cmp.Diff([]string{"a-0", "a-1", "b-0", "a-2"}, copied(t, dir)); d != "" {
		t.Error(d)
	}
	for r, err := range Records(dir, 1) {
		if err != nil || string(r.Request.JSON) != `{"instances":[[1]]}` || string(r.Response.Bytes) != "half" || !r.Response.Truncated {
			t.Fatalf("%+v, %v", r, err)
		}
	}
}

func TestACopyKeepsWithinItsLimit(t *testing.T) {
	dir := t.TempDir()
	const limit = 200 << 10
	c := openCopy(t, dir, limit)
	defer c.Close()
	for i := range 40 {
		appendTo(t, c, "a", fmt.Sprint(i), someRecords(fmt.Sprint(i), 100))
	}
	total := int64(0)
	list, err := listSegments(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		total += s.size
	}
	if total > limit || total < limit/2 {
		t.Errorf("%d bytes are kept of at most %d", total, limit)
	}
	ids := copied(t, dir)
	if len(ids) == 0 || ids[len(ids)-1] != "39-99" {
		t.Errorf("the newest records are gone: %d are left", len(ids))
	}
}

func TestOneCopyAtATime(t *testing.T) {
	dir := t.TempDir()
	c := openCopy(t, dir, 1<<20)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := OpenCopy(ctx, dir, 1<<20); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openCopy(t, dir, 1<<20).Close(); err != nil {
		t.Error(err)
	}
}
