//go:build linux || darwin

package runner

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// The moments are spread over the 40 ms or so that a start takes; the oracle is a file that the command itself appends to.
const moments = 12

func TestAStarterKilledAtAnyMomentLeavesARunThatHappensOnce(t *testing.T) {
	for i := range moments {
		dir := folderFor(t)
		spec := shell(t, "echo ran >> oracle")
		cmd, in, out := other(t, "start-and-stay", dir)
		if err := json.NewEncoder(in).Encode(spec); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(i) * 4 * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		said, _ := out.ReadString('\n') // An error only means that it died before.
		if err := cmd.Wait(); err == nil {
			t.Fatal("the starter was not killed")
		}
		if st := outcome(t, dir, spec); st.Phase != Succeeded {
			t.Errorf("killed after %d ms (said %q): %+v", i*4, said, st)
		}
		if got := content(t, filepath.Join(spec.Dir, "oracle")); got != "ran\n" {
			t.Errorf("killed after %d ms (said %q): oracle %q", i*4, said, got)
		}
	}
}

func TestARunnerKilledAtAnyMomentRunsTheCommandAtMostOnce(t *testing.T) {
	phases := map[Phase]int{}
	for i := range moments {
		dir := folderFor(t)
		spec := shell(t, "echo ran >> oracle")
		f := folder(dir)
		full, err := spec.resolve(dir)
		if err := orElse(err, f.make, func() error { return f.prepare(full) }); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], Subcommand, dir)
		cmd.Env = spec.carried(os.Environ())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(i) * 4 * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // Killed, or finished a moment before.
		st := outcome(t, dir, spec)
		phases[st.Phase]++
		got := content(t, filepath.Join(spec.Dir, "oracle"))
		if st.Phase == Succeeded && got != "ran\n" || st.Phase == Lost && got != "" && got != "ran\n" || st.Phase != Succeeded && st.Phase != Lost {
			t.Errorf("killed after %d ms: oracle %q, %+v", i*4, got, st)
		}
	}
	t.Log(phases)
}
