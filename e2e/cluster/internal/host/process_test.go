//go:build linux

package host

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/proc"
)

func sleeper() Component {
	return Component{Name: "sleeper", Args: []string{"sleep", "600"}, Deadline: 10 * time.Second}
}

func started(t *testing.T, c Component) (Dir, proc.Identity) {
	t.Helper()
	d := Dir(t.TempDir())
	if err := d.Start(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background(), c.Name); err != nil {
			t.Error(err)
		}
	})
	r, err := d.read(c.Name)
	if err != nil {
		t.Fatal(err)
	}
	return d, r.Process
}

func TestAComponentRunsUntilItIsStopped(t *testing.T) {
	d, id := started(t, sleeper())
	if !id.Alive() {
		t.Fatal("it does not run")
	}
	if err := d.Start(t.Context(), sleeper()); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("a second start: %v", err)
	}
	if names, err := d.Running(); err != nil || len(names) != 1 || names[0] != "sleeper" {
		t.Errorf("running: %v, %v", names, err)
	}
	if err := d.Stop(t.Context(), "sleeper"); err != nil {
		t.Fatal(err)
	}
	if id.Alive() {
		t.Error("it still runs")
	}
	if err := d.Stop(t.Context(), "sleeper"); err != nil {
		t.Errorf("a second stop: %v", err)
	}
}

func TestAStrangerWithTheSamePidIsLeftAlone(t *testing.T) {
	d, id := started(t, sleeper())
	r, err := d.read("sleeper")
	if err != nil {
		t.Fatal(err)
	}
	whole := r
	r.Process.Start += "1" // the pid file of a process that ended before: its pid is another's now
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.pidFile("sleeper"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if names, err := d.Running(); err != nil || len(names) != 0 {
		t.Errorf("running: %v, %v", names, err)
	}
	if err := d.Stop(t.Context(), "sleeper"); err != nil {
		t.Fatal(err)
	}
	if !id.Alive() {
		t.Fatal("the stranger was killed")
	}
	if b, err = json.Marshal(whole); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.pidFile("sleeper"), b, 0o600); err != nil { // for the cleanup
		t.Fatal(err)
	}
}

func TestAComponentThatEndsIsNamedWithItsLastLine(t *testing.T) {
	d := Dir(t.TempDir())
	c := Component{Name: "short", Args: []string{"sh", "-c", "echo first; echo cannot bind; sleep 0.3; exit 1"}, Deadline: 10 * time.Second,
		Ready: func(context.Context) error { return errors.New("not yet") }}
	err := d.Start(t.Context(), c)
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"start short", "cannot bind", d.Log("short")} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), "not ready after") {
		t.Errorf("%q: it waited for what had ended", err)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is more than one line", err)
	}
}

func TestAComponentThatIsNotReadyInTimeIsNamedWithTheReason(t *testing.T) {
	c := sleeper()
	c.Deadline = 300 * time.Millisecond
	c.Ready = func(context.Context) error { return errors.New("port is closed") }
	d := Dir(t.TempDir())
	err := d.Start(t.Context(), c)
	t.Cleanup(func() {
		if err := d.Stop(context.Background(), c.Name); err != nil {
			t.Error(err)
		}
	})
	if err == nil || !strings.Contains(err.Error(), "port is closed") || !strings.Contains(err.Error(), "300ms") {
		t.Fatalf("got %v", err)
	}
}

func TestAComponentStartsAgainAsItWasStarted(t *testing.T) {
	d, first := started(t, sleeper())
	if err := d.Restart(t.Context(), "sleeper", nil); err != nil {
		t.Fatal(err)
	}
	r, err := d.read("sleeper")
	if err != nil {
		t.Fatal(err)
	}
	if first.Alive() || !r.Process.Alive() || r.Process == first {
		t.Errorf("first %v alive %v, second %v alive %v", first, first.Alive(), r.Process, r.Process.Alive())
	}
	if strings.Join(r.Args, " ") != "sleep 600" {
		t.Errorf("it runs %v", r.Args)
	}
}
