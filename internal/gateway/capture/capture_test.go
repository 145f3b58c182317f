package capture

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func open(t testing.TB, dir string, o Options) (*Writer, *Entries) {
	t.Helper()
	entries := &Entries{}
	w, err := Open(dir, entries, o, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return w, entries
}

// add puts n exchanges in, waiting for room so that none is dropped.
func add(t testing.TB, w *Writer, entries *Entries, n int, request, response string) {
	t.Helper()
	for i := range n {
		e := entries.Get()
		e.ID, e.Time, e.Version, e.Method, e.Path, e.Status = fmt.Sprintf("id%d", i), time.Unix(1e9, 0), 3, "POST", "/v1/models/m:predict", 200
		e.Latency = 1500 * time.Microsecond
		e.Request, e.Response = append(e.Request, request...), append(e.Response, response...)
		if !w.Add(e) {
			t.Fatal("dropped")
		}
	}
}

func all(t testing.TB, dir string, from uint64) []Record {
	t.Helper()
	var list []Record
	for r, err := range Records(dir, from) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	dir := t.TempDir()
	w, entries := open(t, dir, Options{MaxBody: 40})
	bodies := []struct {
		in   string
		want Body
	}{
		{`{"instances": [[1, 2]]}`, Body{JSON: []byte(`{"instances": [[1, 2]]}`)}},
		{"{\n \"a\":\r 1 }", Body{JSON: []byte(`{"a":1}`)}},
		{`{"a": NaN}`, Body{Bytes: []byte(`{"a": NaN}`)}},
		{"plain \x00\xff\nbytes", Body{Bytes: []byte("plain \x00\xff\nbytes")}},
		{"", Body{}},
		{"null", Body{Bytes: []byte("null")}},
		{`{"$base64":"no"}`, Body{Bytes: []byte(`{"$base64":"no"}`)}},
		{strings.Repeat("1", 41), Body{Bytes: []byte(strings.Repeat("1", 40)), Truncated: true}},
	}
	for _, b := range bodies {
		add(t, w, entries, 1, b.in, b.in)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := all(t, dir, 1)
	if len(got) != len(bodies) {
		t.Fatalf("%d records", len(got))
	}
	for i, b := range bodies {
		want := Record{Seq: uint64(i + 1), ID: "id0", Time: time.Unix(1e9, 0).UTC(), Version: 3, Method: "POST",
			Path: "/v1/models/m:predict", Status: 200, LatencyMS: 1.5, Request: b.want, Response: b.want}
		if diff := cmp.Diff(want, got[i]); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", b.in, diff)
		}
		again, err := json.Marshal(got[i])
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(again)
		if want.Request.JSON != nil { // the encoder drops white space
			want.Request.JSON = strip(want.Request.JSON)
			want.Response.JSON = want.Request.JSON
		}
		if err != nil || cmp.Diff(want, back) != "" {
			t.Errorf("%q does not survive encoding: %v %s", b.in, err, cmp.Diff(want, back))
		}
	}
}

func TestAGzipAnswerIsKeptUnpackedAndABombIsNot(t *testing.T) {
	pack := func(s string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, s)
		_ = z.Close()
		return b.String()
	}
	if got, err := gunzip([]byte(pack(strings.Repeat(" ", 1<<20))), 1000); len(got) != 1001 || err != nil {
		t.Errorf("%d bytes of a bomb were unpacked, %v", len(got), err)
	}
	dir := t.TempDir()
	w, entries := open(t, dir, Options{MaxBody: 1000})
	for _, plain := range []string{`{"predictions":[1]}`, strings.Repeat(" ", 5<<20)} {
		e := entries.Get()
		e.Response, e.ResponseEncoding = append(e.Response, pack(plain)...), "gzip"
		w.Add(e)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := all(t, dir, 1)
	if string(got[0].Response.JSON) != `{"predictions":[1]}` {
		t.Errorf("unpacked: %+v", got[0].Response)
	}
	if b := got[1].Response; !b.Truncated || len(b.Bytes) != 1000 {
		t.Errorf("bomb: %d bytes, truncated %v", len(b.Bytes), b.Truncated)
	}
}

func TestTheSequenceSurvivesRestartsAndTornLines(t *testing.T) {
	dir := t.TempDir()
	for round := range 5 {
		w, entries := open(t, dir, Options{})
		add(t, w, entries, 3, "{}", "{}")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		// A crash in the middle of a line.
		name := filepath.Join(dir, segmentName(1))
		f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(f, `{"seq":%d,"id":"torn`, 3*round+4); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got := all(t, dir, 1); len(got) != 3*round+3 {
			t.Fatalf("round %d: %d records with a torn line", round, len(got))
		}
	}
	for i, r := range all(t, dir, 1) {
		if r.Seq != uint64(i+1) {
			t.Fatalf("record %d has sequence number %d", i, r.Seq)
		}
	}
}

func TestOldSegmentsGoAndTheNumbersStay(t *testing.T) {
	dir := t.TempDir()
	w, entries := open(t, dir, Options{MaxBytes: 256 << 10})
	body := `"` + strings.Repeat("x", 2000) + `"`
	for range 20 {
		add(t, w, entries, 50, body, body)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := listSegments(dir)
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, s := range segments {
		sum += s.size
	}
	if sum > 300<<10 || len(segments) < 4 {
		t.Errorf("%d bytes in %d segments", sum, len(segments))
	}
	got := all(t, dir, 1)
	if got[len(got)-1].Seq != 1000 || got[0].Seq == 1 {
		t.Errorf("records %d to %d", got[0].Seq, got[len(got)-1].Seq)
	}
	// From the middle: starts there, whichever segment that is.
	if got := all(t, dir, 990); len(got) != 11 || got[0].Seq != 990 {
		t.Errorf("from 990: %d records from %d", len(got), got[0].Seq)
	}
}

func TestWhatASinkHasNotTakenStaysHoweverMuchItIs(t *testing.T) {
	dir := t.TempDir()
	o := Options{MaxBytes: 128 << 10}
	w, entries := open(t, dir, o)
	w.KeepAfter(0)
	body := `"` + strings.Repeat("x", 2000) + `"`
	for range 6 { // 1.2 MB, nine times the bound
		add(t, w, entries, 50, body, body)
	}
	waitFor(t, w.Full)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := all(t, dir, 1); got[0].Seq != 1 || len(got) != 300 {
		t.Fatalf("kept from %d, %d records", got[0].Seq, len(got))
	}
	w, _ = open(t, dir, o) // the next process knows of it too
	w.KeepAfter(0)
	waitFor(t, w.Full)
	w.KeepAfter(290)
	waitFor(t, func() bool { return !w.Full() })
	if w.Owed() == 0 {
		t.Error("nothing is owed, though ten records are")
	}
	w.KeepAfter(300)
	waitFor(t, func() bool { return w.Owed() == 0 })
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := all(t, dir, 1)
	if got[0].Seq == 1 || got[len(got)-1].Seq != 300 {
		t.Errorf("records %d to %d stay", got[0].Seq, got[len(got)-1].Seq)
	}
}

func TestACommittedEntryIsReadableAtOnceAndStaysTheCallers(t *testing.T) {
	dir := t.TempDir()
	w, entries := open(t, dir, Options{MaxBytes: 512 << 10})
	long := strings.Repeat("7", 300<<10) // past the buffer, and into new segments
	for i, body := range []string{"{}", long, "{}", "{}", long, "{}"} {
		e := entries.Get()
		e.ID, e.Request = "mine", append(e.Request, body...)
		if err := w.Commit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if got := all(t, dir, uint64(i+1)); len(got) != 1 || got[0].Seq != uint64(i+1) {
			t.Fatalf("%d records after commit %d", len(got), i+1)
		}
		if e.ID != "mine" || string(e.Request) != body {
			t.Fatal("the entry was given to somebody else")
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context(), entries.Get()); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func TestTheLastEntryWaitsForNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // its clock stands: no tick helps
		dir := t.TempDir()
		w, entries := open(t, dir, Options{})
		add(t, w, entries, 3, "{}", "{}")
		synctest.Wait()
		if got := all(t, dir, 1); len(got) != 3 {
			t.Errorf("%d of 3 records are readable when the writer rests", len(got))
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestACommitWaitsForRoomAndEndsWithItsContext(t *testing.T) {
	entries := &Entries{}
	w := &Writer{dir: t.TempDir(), log: quiet, entries: entries, queue: make(chan *Entry, 1), flushed: make(chan struct{}, 1), done: make(chan struct{})}
	w.SetOptions(Options{})
	w.KeepAfter(0)
	w.queue <- entries.Get() // full, and nobody writes yet
	w.queued.Store(queueBytes)
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error, 2)
	go func() { results <- w.Commit(ctx, entries.Get()) }()
	go func() { results <- w.Commit(t.Context(), entries.Get()) }()
	cancel()
	if err := <-results; !errors.Is(err, context.Canceled) {
		t.Fatalf("first result %v", err)
	}
	go w.run()
	if err := <-results; err != nil {
		t.Errorf("after room was made: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := all(t, w.dir, 1); len(got) != 2 || w.Dropped() != 0 {
		t.Errorf("%d records, %d dropped", len(got), w.Dropped())
	}
}

func TestACommitToAFailingDiskIsAnError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "capture")
	w, entries := open(t, dir, Options{})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context(), entries.Get()); err == nil {
		t.Error("a record without a folder stands")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context(), entries.Get()); err != nil {
		t.Errorf("the folder is back: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNumbersThatASinkHasDoNotComeAgain(t *testing.T) {
	dir := t.TempDir()
	w, entries := open(t, dir, Options{After: 41}) // a power cut took 1 to 41
	add(t, w, entries, 1, "{}", "{}")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := all(t, dir, 42); len(got) != 1 || got[0].Seq != 42 {
		t.Errorf("records %+v", got)
	}
}

func TestAFullQueueDropsAndCounts(t *testing.T) {
	w, entries := open(t, t.TempDir(), Options{})
	w.queued.Store(queueBytes)
	if w.Add(entries.Get()) || w.Dropped() != 1 {
		t.Errorf("dropped %d", w.Dropped())
	}
	w.queued.Store(0)
	if !w.Add(entries.Get()) {
		t.Error("room was not used")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Add(entries.Get()) {
		t.Error("taken after close")
	}
}

func TestAReaderFollowsAWriter(t *testing.T) {
	dir := t.TempDir()
	r := NewReader(dir, 1)
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Fatalf("empty: %v", err)
	}
	w, entries := open(t, dir, Options{MaxBytes: 64 << 10})
	body := `"` + strings.Repeat("x", 3000) + `"`
	next := uint64(1)
	deadline := time.After(20 * time.Second)
	for range 20 {
		add(t, w, entries, 1, body, body)
		w.KeepAfter(0)
		for want := next + 1; next < want; {
			rec, err := r.Next()
			switch {
			case errors.Is(err, io.EOF):
				select {
				case <-w.Flushed():
				case <-deadline:
					t.Fatal("nothing was flushed")
				}
			case err != nil:
				t.Fatal(err)
			case rec.Seq != next:
				t.Fatalf("got %d, want %d", rec.Seq, next)
			default:
				next++
			}
		}
	}
	if err := errors.Join(r.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestASpoiltLineIsNamedAndSkipped(t *testing.T) {
	dir := t.TempDir()
	text := `{"seq":1}` + "\n" + `{"seq":` + "\n" + `{"seq":3}` + "\n"
	if err := os.WriteFile(filepath.Join(dir, segmentName(1)), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var seqs []uint64
	var bad []string
	for r, err := range Records(dir, 1) {
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		seqs = append(seqs, r.Seq)
	}
	if fmt.Sprint(seqs) != "[1 3]" || len(bad) != 1 || !strings.Contains(bad[0], "000001.jsonl:2") {
		t.Errorf("%v, %v", seqs, bad)
	}
}

func TestBodiesOfBothProtocolsGiveRows(t *testing.T) {
	nan := math.NaN()
	for name, tc := range map[string]struct {
		request, response string
		rows              []Instance
		predictions       []any
		err               string
	}{
		"v1 objects": {`{"instances":[{"a":1,"b":"x"}]}`, `{"predictions":[0.5]}`,
			[]Instance{{Named: map[string]any{"a": 1.0, "b": "x"}}}, []any{0.5}, ""},
		"v1 lists":       {`{"instances":[[1,2],[3,4]]}`, `{"predictions":[0,1]}`, []Instance{{Values: []any{1.0, 2.0}}, {Values: []any{3.0, 4.0}}}, []any{0.0, 1.0}, ""},
		"v1 bare values": {`{"instances":[1,null]}`, `{"predictions":["a","b"]}`, []Instance{{Values: []any{1.0}}, {Values: []any{nil}}}, []any{"a", "b"}, ""},
		"v1 empty":       {`{"instances":[]}`, `{"predictions":[]}`, []Instance{}, []any{}, ""},
		"v1 not finite":  {`{"instances":[[NaN]]}`, `{"predictions":[-Infinity]}`, []Instance{{Values: []any{nan}}}, []any{math.Inf(-1)}, ""},
		"v1 failed":      {`{"instances":[[1]]}`, `oops`, []Instance{{Values: []any{1.0}}}, nil, ""},
		"v2 one flat tensor": {`{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2,3,4]}]}`,
			`{"outputs":[{"name":"y","shape":[2],"data":[0,1]}]}`,
			[]Instance{{Values: []any{1.0, 2.0}}, {Values: []any{3.0, 4.0}}}, []any{0.0, 1.0}, ""},
		"v2 nested data": {`{"inputs":[{"name":"x","shape":[2,2],"data":[[1,2],[3,4]]}]}`, `{"outputs":[{"name":"p","shape":[2,2],"data":[1,0,0,1]}]}`,
			[]Instance{{Values: []any{1.0, 2.0}}, {Values: []any{3.0, 4.0}}}, []any{[]any{1.0, 0.0}, []any{0.0, 1.0}}, ""},
		"v2 named tensors": {`{"inputs":[{"name":"a","shape":[2,1],"data":[1,2]},{"name":"b","shape":[2],"data":["x","y"]}]}`, `{}`,
			[]Instance{{Named: map[string]any{"a": 1.0, "b": "x"}}, {Named: map[string]any{"a": 2.0, "b": "y"}}}, nil, ""},
		"v2 shape that lies":       {`{"inputs":[{"name":"x","shape":[2,3],"data":[1]}]}`, `{}`, nil, nil, "does not fit"},
		"v2 shape that overflows":  {`{"inputs":[{"name":"x","shape":[4294967296,4294967296],"data":[1]}]}`, `{}`, nil, nil, "does not fit"},
		"v2 negative shape":        {`{"inputs":[{"name":"x","shape":[-1,-1],"data":[1]}]}`, `{}`, nil, nil, "does not fit"},
		"v2 rows that differ":      {`{"inputs":[{"name":"a","data":[1]},{"name":"b","data":[1,2]}]}`, `{}`, nil, nil, "2 rows"},
		"v2 binary":                {`{"inputs":[{"name":"a","shape":[1],"parameters":{"binary_data_size":4}}]}`, `{}`, nil, nil, "binary"},
		"another request":          {`{"q":1}`, `{}`, nil, nil, ErrNotInference.Error()},
		"not JSON":                 {`hello`, `{}`, nil, nil, ErrNotInference.Error()},
		"no body":                  {``, `{}`, nil, nil, ErrNotInference.Error()},
		"instances of a odd kind":  {`{"instances":7}`, `{}`, nil, nil, ErrNotInference.Error()},
		"zero rows of some tensor": {`{"inputs":[{"name":"a","shape":[0,3],"data":[]}]}`, `{}`, []Instance{}, nil, ""},
	} {
		rec := Record{Seq: 1, Request: body(tc.request), Response: body(tc.response)}
		rows, preds, err := Instances(rec)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: error %v, want %q", name, err, tc.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		sameNaN := cmp.Comparer(func(x, y float64) bool { return x == y || math.IsNaN(x) && math.IsNaN(y) })
		if d := cmp.Diff(tc.rows, rows, sameNaN); d != "" {
			t.Errorf("%s: rows (-want +got)\n%s", name, d)
		}
		if d := cmp.Diff(tc.predictions, preds, sameNaN); d != "" {
			t.Errorf("%s: predictions (-want +got)\n%s", name, d)
		}
	}
}

func body(s string) Body {
	if json.Valid([]byte(s)) {
		return Body{JSON: []byte(s)}
	}
	return Body{Bytes: []byte(s)}
}

// receiver is a downstream that fails first.
type receiver struct {
	mu   sync.Mutex
	fail int // answers of 503 still to give
	ids  map[string]int
	got  chan struct{}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail > 0 {
		r.fail--
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var rec Record
	if err := json.NewDecoder(req.Body).Decode(&rec); err != nil || req.Header.Get("ML-Prediction-Id") != rec.ID {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	r.ids[fmt.Sprint(rec.Seq)]++
	if rec.Seq == 4 {
		w.WriteHeader(http.StatusUnprocessableEntity) // refused for good
	}
	r.got <- struct{}{}
}

func TestASinkSendsEachAnswerAtLeastOnce(t *testing.T) {
	dir := t.TempDir()
	w, entries := open(t, filepath.Join(dir, "capture"), Options{})
	add(t, w, entries, 6, "{}", "{}")
	e := entries.Get()
	e.Status = 500 // not an answer to send on
	w.Add(e)
	add(t, w, entries, 1, "{}", "{}")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	rec := &receiver{fail: 2, ids: map[string]int{}, got: make(chan struct{}, 100)}
	server := httptest.NewServer(rec)
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	run := func(want int) *Sink {
		s := NewSink(filepath.Join(dir, "capture"), filepath.Join(dir, "cursor"), Target{URL: server.URL}, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx, nil) }()
		for range want {
			select {
			case <-rec.got:
			case <-time.After(10 * time.Second):
				t.Fatal("nothing came")
			}
		}
		if want > 0 {
			waitFor(t, func() bool { return s.Acked() == 8 })
		}
		cancel()
		<-done
		return s
	}
	if s := run(7); s.stats.Sent.Load() != 6 || s.stats.Rejected.Load() != 1 {
		t.Errorf("sent %d, rejected %d", s.stats.Sent.Load(), s.stats.Rejected.Load())
	}
	if s := run(0); s.Acked() != 8 {
		t.Errorf("the cursor was lost: %d", s.Acked())
	}
	if want := "map[1:1 2:1 3:1 4:1 5:1 6:1 8:1]"; fmt.Sprint(rec.ids) != want {
		t.Errorf("received %v, want %s", rec.ids, want)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not happen")
		}
	}
}

func TestAFileSinkCutsATornLineAndSendsItsRecordAgain(t *testing.T) {
	dir := t.TempDir()
	w, entries := open(t, filepath.Join(dir, "capture"), Options{})
	add(t, w, entries, 3, "{}", "{}")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "out.jsonl")
	// A crash after one line and a half, before the cursor moved.
	if err := os.WriteFile(target, []byte("{\"seq\":1}\n{\"seq\":2,\"id\":\""+strings.Repeat("x", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := NewSink(filepath.Join(dir, "capture"), filepath.Join(dir, "cursor"), Target{File: target}, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx, nil) }()
	waitFor(t, func() bool { return s.Acked() == 3 })
	cancel()
	<-done
	data, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	var seqs []uint64
	for line := range strings.Lines(string(data)) {
		r, err := Decode([]byte(line))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		seqs = append(seqs, r.Seq)
	}
	if fmt.Sprint(seqs) != "[1 1 2 3]" {
		t.Errorf("lines %v", seqs)
	}
}

func TestASlowReceiverIsSentSeveralAtOnce(t *testing.T) {
	dir := t.TempDir()
	w, entries := open(t, filepath.Join(dir, "capture"), Options{})
	add(t, w, entries, 64, "{}", "{}")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	inside, together := 0, make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		if inside++; inside == 4 {
			close(together)
		}
		mu.Unlock()
		select {
		case <-together: // nobody is answered before four have come
		case <-time.After(5 * time.Second):
			w.WriteHeader(http.StatusGatewayTimeout)
		}
	}))
	defer server.Close()
	s := NewSink(filepath.Join(dir, "capture"), filepath.Join(dir, "cursor"), Target{URL: server.URL}, quiet)
	if err := s.Drain(t.Context()); err != nil || s.Acked() != 64 || s.stats.Sent.Load() != 64 {
		t.Errorf("%v, %d acknowledged, %d sent", err, s.Acked(), s.stats.Sent.Load())
	}
}

// Two deployments may name the same file.
func TestSinksThatShareAFileLoseNothing(t *testing.T) {
	target := filepath.Join(t.TempDir(), "out.jsonl")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 25 {
				if err := appendSynced(target, fmt.Appendf(nil, "%d.%d\n", i, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	data, err := os.ReadFile(target)
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		lines[line] = true
	}
	if len(lines) != 100 {
		t.Errorf("%d of 100 lines are there", len(lines))
	}
}

func TestADrainSendsTheRestOrGivesUpAtOnce(t *testing.T) {
	dir := t.TempDir()
	w, entries := open(t, filepath.Join(dir, "capture"), Options{})
	add(t, w, entries, 300, "{}", "{}")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	rec := &receiver{fail: 1, ids: map[string]int{}, got: make(chan struct{}, 1000)}
	server := httptest.NewServer(rec)
	defer server.Close()
	cursor := filepath.Join(dir, "cursor")
	if err := os.WriteFile(cursor, []byte("{torn"), 0o600); err != nil {
		t.Fatal(err) // as good as none: everything is sent again
	}
	s := NewSink(filepath.Join(dir, "capture"), cursor, Target{URL: server.URL}, quiet)
	if err := s.Drain(t.Context()); err == nil || s.Acked() > sinkWindow {
		t.Errorf("a receiver that fails once: %v, %d", err, s.Acked())
	}
	if err := s.Drain(t.Context()); err != nil || s.Acked() != 300 || len(rec.ids) != 300 {
		t.Errorf("a receiver that is back: %v, %d acknowledged, %d received", err, s.Acked(), len(rec.ids))
	}
	if seq, found, err := ReadCursor(cursor); seq != 300 || !found || err != nil {
		t.Errorf("cursor %d, %v, %v", seq, found, err)
	}
}

// FuzzCapture feeds the decoder of lines and of bodies.
func FuzzCapture(f *testing.F) {
	f.Add([]byte(`{"seq":1,"request":{"instances":[[NaN]]},"response":{"predictions":[1]}}`), []byte(`{"instances":[[NaN,"N\"aN"]]}`))
	f.Add([]byte(`{"seq":1,"request":{"$base64":"eyJhIjpOYU59"},"response":null}`), []byte(`{"inputs":[{"shape":[1e9,1e9],"data":[[[]]]}]}`))
	f.Add([]byte(`{"seq":18446744073709551615}`), []byte(`{"inputs":[{"name":"x","shape":[2,2],"data":[1,2,3,4]}]}`))
	f.Fuzz(func(t *testing.T, line, raw []byte) {
		for _, rec := range []Record{{Seq: 1, Request: Body{Bytes: raw}, Response: Body{Bytes: raw}}} {
			_, _, _ = Instances(rec)
		}
		rec, err := Decode(line)
		if err == nil {
			_, _, _ = Instances(rec)
			again, err := json.Marshal(rec)
			if err != nil {
				t.Fatalf("a decoded record cannot be encoded: %v", err)
			}
			if _, err := Decode(again); err != nil {
				t.Fatalf("a decoded record cannot be decoded again: %v", err)
			}
		}
		// Whatever a client and a server send becomes one line that gives the
		// same bytes back, up to white space.
		e := Entry{ID: string(raw[:min(len(raw), 20)]), Request: raw, Response: line}
		out := e.appendLine(nil, 7, DefaultMaxBody)
		if bytes.Count(out, []byte("\n")) != 1 {
			t.Fatalf("not one line: %q", out)
		}
		back, err := Decode(out)
		if err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		if got := back.Request.Content(); !bytes.Equal(strip(got), strip(raw)) {
			t.Fatalf("request %q came back as %q", raw, got)
		}
	})
}

// strip removes the white space that JSON allows between tokens, everywhere.
func strip(b []byte) []byte {
	var out []byte
	for _, c := range b {
		if !isSpace(c) {
			out = append(out, c)
		}
	}
	return out
}
