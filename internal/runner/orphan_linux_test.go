package runner

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/proc"
)

// A grand-child in a session of its own belongs to no recorded group; its environment gives it away.
func TestACancelledLostRunTakesAlongWhatLeftItsGroup(t *testing.T) {
	dir := folderFor(t)
	spec := shell(t, `setsid `+stubborn+`wait; exec sleep 60`)
	mustStart(t, dir, spec)
	child := pidFrom(t, filepath.Join(spec.Dir, "child"))
	st, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.Kill(st.Runner, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the run is lost", func() bool {
		st, err = Read(dir)
		return err == nil && st.Phase == Lost
	})
	if !child.Alive() {
		t.Fatal("the grand-child is dead already, so this would prove nothing")
	}
	if err := Cancel(within(t), dir, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if child.Alive() {
		t.Error("the grand-child lives after Cancel returned")
	}
}
