package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/continuo-ml/continuo/daemon/internal/status"
	"github.com/continuo-ml/continuo/resource"
)

// BenchmarkIdleCycle measures a cycle of 1,000 applied blocks in which nothing
// has moved: fetch, files, state, live objects, sources, plan, status. It
// reports the processor time of the whole process, which is what a machine pays.
func BenchmarkIdleCycle(b *testing.B) {
	files := map[string]string{"train.sh": train}
	var text strings.Builder
	for i := range 250 {
		fmt.Fprintf(&text, `
dataset "d%[1]d" { source = "data/%[1]d.csv" }
dataset "e%[1]d" { source = "data/%[1]d.csv" }
training "t%[1]d" {
  command = ["sh", "train.sh"]
  inputs  = { data = dataset.d%[1]d }
}
validation "v%[1]d" {
  model = training.t%[1]d.model
  threshold "rows" { min = 3 }
}
`, i)
		files[fmt.Sprintf("data/%d.csv", i)] = data
	}
	files["p.ml.hcl"] = text.String()
	tm := newTeam(b, files)
	r := newDaemon(b, b.TempDir(), repository(tm, ""), Options{Forges: NewForge}).repos[0]
	ctx := context.Background()
	if err := r.cycle(ctx); err != nil {
		b.Fatal(err)
	}
	peak := memory(b, "VmHWM:")
	before := cpu(b)
	b.ResetTimer()
	for b.Loop() {
		if err := r.cycle(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric((cpu(b)-before)/float64(b.N), "cpu-s/op")
	b.ReportMetric(peak, "MB-at-the-first-apply")
	b.ReportMetric(memory(b, "VmRSS:"), "MB-at-rest")
	if s := r.look(); s.Phase != status.Synced || len(s.Blocks) != 1000 {
		b.Fatalf("%s with %d blocks", s.Phase, len(s.Blocks))
	}
}

// cpu is the processor time that this process has used, in seconds.
func cpu(tb testing.TB) float64 {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// memory reads a line of this process's status, in MB.
func memory(tb testing.TB, line string) float64 {
	tb.Helper()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Skip("there is no /proc here to read memory from: ", err)
	}
	_, rest, _ := strings.Cut(string(raw), line)
	var kb float64
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		tb.Fatal(err)
	}
	return kb / 1024
}

func TestACycleTellsOfTheBlocksWhatALookWould(t *testing.T) {
	tm := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data})
	r := newDaemon(t, t.TempDir(), repository(tm, ""), Options{Forges: NewForge}).repos[0]
	ctx := context.Background()
	compare := func(ready int) {
		t.Helper()
		if err := r.cycle(ctx); err != nil {
			t.Fatal(err)
		}
		w, err := r.reopen(ctx)
		if err != nil {
			t.Fatal(err)
		}
		snap, err := w.Store.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want, err := w.Engine.Status(ctx, snap)
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		got := r.look().Blocks
		if !reflect.DeepEqual(got, want) {
			t.Errorf("the cycle told\n%+v\na look tells\n%+v", got, want)
		}
		is := 0
		for _, row := range got {
			if row.Phase == resource.PhaseReady {
				is++
			}
		}
		if is != ready {
			t.Errorf("%d of the blocks are ready, want %d: %+v", is, ready, got)
		}
	}
	compare(3) // what was done is read again
	compare(3) // nothing to do
	r.conf.Mode = Plan
	if err := os.RemoveAll(filepath.Join(r.work, ".ml", "artifacts")); err != nil {
		t.Fatal(err)
	}
	compare(2) // the model is gone, and only planned for
}

func TestAWatchIsBegunAnewForOtherObjectsAndNotForALease(t *testing.T) {
	tm := newTeam(t, map[string]string{"p.ml.hcl": project, "train.sh": train, "data.csv": data})
	r := newDaemon(t, t.TempDir(), repository(tm, ""), Options{Forges: NewForge}).repos[0]
	of := func() (objects, root string) {
		t.Helper()
		if err := r.cycle(t.Context()); err != nil {
			t.Fatal(err)
		}
		w, err := r.reopen(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		snap, err := w.Store.Snapshot(t.Context())
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return objectsOf(snap), string(snap.Root)
	}
	first, root := of()
	if second, now := of(); second != first || now == root {
		t.Errorf("of an idle cycle: other objects %v, another state %v", second != first, now != root)
	}
	tm.push("more", map[string]string{"data.csv": data + "7,8\n"})
	if third, _ := of(); third == first {
		t.Error("another version is the same objects")
	}
}
