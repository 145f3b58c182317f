package site

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/state"
)

// said reads server-sent events until one of a kind, and gives its data.
func said(t *testing.T, lines *bufio.Scanner, kind string) string {
	t.Helper()
	is := ""
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			is = name
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && is == kind {
			return data
		}
	}
	t.Fatalf("the stream ended before %q: %v", kind, lines.Err())
	return ""
}

func TestARunIsFollowedWhileItRuns(t *testing.T) {
	l, srv := seeded(t)
	dir := l.RunFolder("01RUN4")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tell := func(step int) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, "progress.jsonl"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = fmt.Fprintf(f, "{\"step\":%d,\"of\":10,\"loss\":0.5}\n", step); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	out, done := make(chan string, 1), make(chan error)
	l.log = func(follow bool, to io.Writer) error {
		if !follow {
			return errors.New("a run that goes on is followed")
		}
		for {
			select {
			case text := <-out:
				fmt.Fprint(to, text)
			case err := <-done:
				return err
			}
		}
	}
	client := &http.Client{Timeout: 20 * time.Second}
	resp, err := client.Get(srv.URL + "/api/v1/repositories/r/follow/01RUN4") //nolint:noctx // bounded by the client
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	out <- "\x1b[31mone\x1b[0m\ntwo <b>\nthr"
	if got := said(t, lines, "log"); got != `{"dropped":0,"lines":["one","two \u003cb\u003e"]}` {
		t.Errorf("log: %s", got)
	}
	tell(3)
	var p progress
	if err := json.Unmarshal([]byte(said(t, lines, "progress")), &p); err != nil || p.Step != 3 || p.Percent != 30 || p.Values["loss"] != 0.5 {
		t.Errorf("progress: %+v, %v", p, err)
	}
	done <- errors.New("the disk is gone")
	if got := said(t, lines, "log"); !strings.Contains(got, `"thr"`) {
		t.Errorf("the end of the log: %s", got)
	}
	if got := said(t, lines, "end"); got != `{"error":"the disk is gone"}` {
		t.Errorf("end: %s", got)
	}
	if lines.Scan(); lines.Scan() {
		t.Errorf("the stream goes on: %q", lines.Text())
	}
	srv.Close() // every answer is over
	if l.places != 0 {
		t.Errorf("%d places are taken", l.places)
	}
}

func TestTooManyReadersOfLogsAreTurnedAway(t *testing.T) {
	l, srv := seeded(t)
	l.full = true
	if code, _ := readPage(t, srv, "/api/v1/repositories/r/follow/01RUN4"); code != http.StatusServiceUnavailable {
		t.Errorf("%d", code)
	}
}

func TestPerformanceAndLatencyAreDrawnAgainstTheirBounds(t *testing.T) {
	var b bounds
	if err := json.Unmarshal([]byte(`{"performance":{"metric":[{"name":"recall","min":0.9},{"name":"mae","max":2}]},"latency":{"p99":"200ms","error_rate":0.1}}`), &b); err != nil {
		t.Fatal(err)
	}
	list := []state.Window{{Evidence: []byte(`{"window":{"end":"2026-01-01T00:00:00Z"},"metrics":{"recall":0.95,"mae":1}}`)}, {Evidence: []byte(`{"window":{"end":"2026-01-01T00:01:00Z"},"metrics":{"recall":0.8,"mae":1}}`)}, {Evidence: []byte(`"what is this"`)}, {}}
	for title, want := range map[string]string{"recall": "[0.95 0.8] [0.9 0.9] true", "mae": "[1 1] [2 2] false"} {
		if got := drawnAs(windowAlbum("performance", list, b), title); got != want {
			t.Errorf("%s: %s, want %s", title, got, want)
		}
	}
	list = []state.Window{{Evidence: []byte(`{"window":{"end":"2026-01-01T00:00:00Z"},"p50_ms":10,"p95_ms":100,"p99_ms":250,"error_rate":0.05}`)}}
	for title, want := range map[string]string{"p50": "[10] false", "p99": "[250] [200] true", "Failed requests": "[0.05] [0.1] false"} {
		if got := drawnAs(windowAlbum("latency", list, b), title); got != want {
			t.Errorf("%s: %s, want %s", title, got, want)
		}
	}
}

func drawnAs(doc charts, title string) string {
	for _, c := range doc.Charts {
		if c.Title == title {
			text := ""
			for _, s := range c.Series {
				text += fmt.Sprint(values(s)) + " "
			}
			return text + fmt.Sprint(c.Bad)
		}
	}
	return "not there"
}
