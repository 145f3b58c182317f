// Package fault lets a test kill this process, or make a call fail, at a named
// point between two durable steps.
//
// A point does nothing unless the environment variable ML_FAULT was set when the
// process started: "state.commit.before:3" kills the process with SIGKILL (no
// deferred call runs, as when the power fails) at the third hit of that name,
// "state.commit.before:3:stop" stops it there as SIGSTOP does, until somebody lets it
// go on, and "state.commit.sync:1:error" makes [Err] return [ErrInjected] there instead.
// Unset, a point costs one comparison. The names are kept in points.go.
//
// It is no way to configure anything, and no product code may depend on it.
package fault

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// Variable is the environment variable that arms a point.
const Variable = "ML_FAULT"

// ErrInjected is what [Err] returns at the armed hit.
var ErrInjected = errors.New("injected fault")

// armed is read once, before main: a point must behave alike for the whole life
// of a process. It is nil in every run that is not a test of crashes.
var armed, malformed = parse(os.Getenv(Variable))

type trap struct {
	name string
	hit  int64
	err  bool
	stop bool
	hits atomic.Int64
}

func parse(spec string) (*trap, error) {
	if spec == "" {
		return nil, nil
	}
	name, rest, _ := strings.Cut(spec, ":")
	count, mode, _ := strings.Cut(rest, ":")
	n, err := strconv.ParseInt(count, 10, 64)
	if name == "" || err != nil || n < 1 || mode != "" && mode != "error" && mode != "stop" {
		return nil, fmt.Errorf("%s=%q is not NAME:HIT, NAME:HIT:stop or NAME:HIT:error with a hit from 1", Variable, spec)
	}
	return &trap{name: name, hit: n, err: mode == "error", stop: mode == "stop"}, nil
}

// Armed returns the point that is armed, "" in normal life. It errors when
// ML_FAULT is set to something that is not understood, which arms nothing.
func Armed() (string, error) {
	if armed == nil {
		return "", malformed
	}
	return armed.name, nil
}

// Point marks a place where the process may die. It kills the process when name
// is armed to and this is the armed hit.
func Point(name string) {
	if armed == nil {
		return
	}
	if !armed.err && armed.reached(name) {
		if armed.stop {
			pause()
			return
		}
		kill()
	}
}

// Err marks a place where a call may fail: it returns [ErrInjected] at the armed
// hit of name, once, and nil otherwise.
func Err(name string) error {
	if armed == nil {
		return nil
	}
	if armed.err && armed.reached(name) {
		return fmt.Errorf("%w at %s", ErrInjected, name)
	}
	return nil
}

func (t *trap) reached(name string) bool {
	return t.name == name && t.hits.Add(1) == t.hit
}

// kill ends the process the way a crash does and never returns.
func kill() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault: kill the own process:", err)
		os.Exit(137)
	}
	select {} // the signal is on its way; nothing after the point may happen
}
