//go:build linux || darwin

package proc

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sleeper starts a process that leads its own group and stays until the test ends.
func sleeper(t *testing.T, script string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	return cmd, bufio.NewReader(out)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func TestAnIdentityIsAliveOnlyForItsOwnProcess(t *testing.T) {
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	if self.PID != os.Getpid() || self.Start == "" || self.Boot == "" {
		t.Fatalf("incomplete identity %+v", self)
	}
	other := self
	other.Start += "0"
	rebooted := self
	rebooted.Boot = "another"
	for name, c := range map[string]struct {
		id   Identity
		want bool
	}{
		"itself":                              {self, true},
		"same pid, another start":             {other, false},
		"same pid and start, before reboot":   {rebooted, false},
		"the zero identity":                   {Identity{}, false},
		"a negative pid is nobody":            {Identity{PID: -1, Start: self.Start, Boot: self.Boot}, false},
		"the parent with our start is nobody": {Identity{PID: os.Getppid(), Start: self.Start, Boot: self.Boot}, false},
	} {
		if got := c.id.Alive(); got != c.want {
			t.Errorf("%s: alive = %v", name, got)
		}
	}
}

func TestAZombieIsDead(t *testing.T) {
	cmd, out := sleeper(t, "echo up; exec sleep 60")
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	id, err := Of(cmd.Process.Pid)
	if err != nil || !id.Alive() {
		t.Fatalf("%v is not alive: %v", id, err)
	}
	if err := Kill(id, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the killed, unreaped child counts as dead", func() bool { return !id.Alive() })
	if p, err := Lookup(id.PID); err != nil || !p.Zombie {
		t.Errorf("the child is not a zombie any more (%+v, %v), so this test proved nothing", p, err)
	}
	if _, err := Of(id.PID); !errors.Is(err, ErrGone) {
		t.Errorf("Of a zombie: %v", err)
	}
	if err := Kill(id, syscall.SIGTERM); !errors.Is(err, ErrGone) {
		t.Errorf("Kill of a zombie: %v", err)
	}
}

func TestASignalNeverReachesAnotherProcessWithTheSamePID(t *testing.T) {
	cmd, out := sleeper(t, "echo up; exec sleep 60")
	if _, err := out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	id, err := Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	old := id
	old.Start = "1"
	if err := Kill(old, syscall.SIGKILL); !errors.Is(err, ErrGone) {
		t.Errorf("Kill: %v", err)
	}
	if err := KillGroup(old, syscall.SIGKILL); !errors.Is(err, ErrGone) {
		t.Errorf("KillGroup: %v", err)
	}
	for _, pid := range []int{-1, 0, 1} {
		if err := KillGroup(Identity{PID: pid}, syscall.Signal(0)); err == nil || errors.Is(err, ErrGone) {
			t.Errorf("group %d was not refused: %v", pid, err)
		}
		if err := Kill(Identity{PID: pid}, syscall.Signal(0)); err == nil || errors.Is(err, ErrGone) {
			t.Errorf("pid %d was not refused: %v", pid, err)
		}
	}
	if !id.Alive() {
		t.Error("the process was hit by a signal for another")
	}
}

func TestAGroupIsKilledAfterItsLeaderIsGone(t *testing.T) {
	cmd, out := sleeper(t, `sleep 60 & echo $!`)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	childID, err := Of(child)
	if err != nil {
		t.Fatal(err)
	}
	leader, err := Lookup(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.Process.Wait(); err != nil { // Reaped: its pid is free, only the group holds it.
		t.Fatal(err)
	}
	if err := KillGroup(leader.Identity, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the grand-child is dead", func() bool { return !childID.Alive() })
	eventually(t, "the emptied group is gone", func() bool { return errors.Is(KillGroup(leader.Identity, 0), ErrGone) })
}

func TestAMemberThatLeadsNoGroupIsNotTakenForALeader(t *testing.T) {
	_, out := sleeper(t, `sleep 60 & echo $!; wait`)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	id, err := Of(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := KillGroup(id, 0); err == nil || !strings.Contains(err.Error(), "leads no group") {
		t.Errorf("error %v", err)
	}
}

func TestTheListHoldsThisProcessAndIsOrdered(t *testing.T) {
	all, err := List()
	if err != nil {
		t.Fatal(err)
	}
	self, err := Self()
	if err != nil {
		t.Fatal(err)
	}
	found, last := false, -1
	for _, p := range all {
		if p.PID <= last {
			t.Fatalf("%d after %d", p.PID, last)
		}
		last = p.PID
		found = found || p.Identity == self && p.Parent == os.Getppid() && p.Group == syscall.Getpgrp()
	}
	if !found {
		t.Error("this process is not in the list")
	}
}
