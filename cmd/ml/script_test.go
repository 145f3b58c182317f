package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/continuo-ml/continuo/internal/proc/proctest"
)

// The test binary is also the program: under the name ml it is started by the
// scripts, and by itself as runner, gateway and evaluator. Under the name exits
// it runs another command and wants a certain exit code of it.
// asProgram makes this test binary the program, for those who need it as a process.
const asProgram = "ML_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	// The program starts itself by its own file, whatever that is called.
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "__") {
		os.Exit(run())
	}
	if os.Getenv(asProgram) != "" {
		os.Exit(run())
	}
	testscript.Main(m, map[string]func(){
		"ml":    func() { os.Exit(run()) },
		"exits": func() { os.Exit(exits(os.Args[1:])) },
	})
}

// exits runs a command and succeeds when it ends with the code wanted.
func exits(args []string) int {
	want, err := strconv.Atoi(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, "usage: exits CODE COMMAND…")
		return 1
	}
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		fmt.Fprintf(os.Stderr, "exit code %d, want %d\n", got, want)
		return 1
	}
	return 0
}

func TestScripts(t *testing.T) {
	var mu sync.Mutex
	var folders []string
	schemas := publishedSchemas(t)
	t.Run("of", func(t *testing.T) {
		testscript.Run(t, testscript.Params{
			Dir: "testdata/script",
			Setup: func(env *testscript.Env) error {
				mu.Lock()
				defer mu.Unlock()
				folders = append(folders, env.WorkDir)
				env.Setenv("GORACE", os.Getenv("GORACE")) // see make test
				return nil
			},
			Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"json": cmdJSON, "keys": cmdKeys, "events": cmdEvents,
				"last": cmdLast, "absent": cmdAbsent, "damage": cmdDamage, "until": cmdUntil, "waiting": cmdWaiting, "stuck": cmdStuck,
				"schema": schemas.check, "registry": cmdRegistry, "pipelines": cmdPipelines, "forge": cmdForge,
				"daemon": cmdDaemon, "elsewhere": cmdElsewhere, "same": cmdSame,
			},
		})
	})
	if flag.Lookup("test.run").Value.String() == "" {
		schemas.unused(t)
	}
	for _, dir := range folders {
		if left := leftIn(dir); len(left) > 0 {
			t.Errorf("processes stayed behind %s:\n  %s", filepath.Base(dir), strings.Join(left, "\n  "))
			end(t, left)
		}
	}
}

// end kills what a failed script left, so that it does not outlive the tests.
func end(t *testing.T, lines []string) {
	for _, line := range lines {
		pid, _, _ := strings.Cut(line, " ")
		n, err := strconv.Atoi(pid)
		if err != nil {
			continue
		}
		if p, err := os.FindProcess(n); err == nil {
			if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Error(err)
			}
		}
	}
}

// leftIn lists the processes that still belong to a script's folder after some
// seconds: a gateway needs a moment to end after its deployment is gone.
func leftIn(dir string) []string {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for {
		left, err := proctest.In(dir)
		if err != nil {
			return []string{err.Error()}
		}
		if len(left) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-late:
			return left
		}
	}
}
