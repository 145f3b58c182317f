//go:build linux || darwin

package runner

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/internal/proc"
)

// claimTime bounds how long a runner tries for the lock of a run that has not begun.
const claimTime = 10 * time.Second

// Main is the detached process: it runs the command of the run folder dir, unless it has begun before, and returns an exit code. It
// belongs on the main goroutine of a process of its own (see [Subcommand]); it changes signal handling and closes inherited files.
func Main(dir string) int {
	// The kernel ends the command when the thread that started it ends, so this one has to stay.
	runtime.LockOSThread()
	say, err := takeHandshake()
	if err != nil {
		return complain(err)
	}
	f, err := openFolder(dir)
	if err != nil {
		return complain(errors.Join(err, say.close(err.Error())))
	}
	lock, said, err := f.claim()
	if err != nil {
		return complain(errors.Join(err, say.close(err.Error())))
	}
	if lock == nil {
		if err := say.close(said); err != nil {
			return complain(err)
		}
		return 0
	}
	// No release before the process ends: whoever sees the lock free must also see the outcome, and nothing may run after it.
	defer runtime.KeepAlive(lock)
	if err := f.runOnce(say); err != nil {
		return complain(err)
	}
	return 0
}

// complain writes to the runner's log; stderr is that file.
func complain(err error) int {
	fmt.Fprintf(os.Stderr, "%s runner: %v\n", time.Now().UTC().Format(time.RFC3339), err)
	return 1
}

// claim takes the run's lock. Without an error, a nil lock means that there is nothing to do and said tells why.
func (f folder) claim() (lock *flock.Flock, said string, err error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(claimTime)
	l := f.lock()
	for {
		ok, err := l.TryLock()
		if err != nil {
			return nil, "", fmt.Errorf("lock %s: %w", l.Path(), err)
		}
		for _, name := range []string{startedFile, statusFile} {
			there, err := f.has(name)
			if err != nil || there {
				return nil, saidExists, errors.Join(err, l.Close())
			}
		}
		if ok {
			return l, "", nil
		}
		select { // A reader looking at the lock is as good as gone, a runner will begin.
		case <-tick.C:
		case <-late:
			return nil, saidBusy, nil
		}
	}
}

// runOnce has the lock and knows that nothing was executed.
func (f folder) runOnce(say *handshake) error {
	self, err := proc.Self()
	if err != nil {
		return errors.Join(err, say.close(err.Error()))
	}
	var spec Spec
	if err := f.read(specFile, &spec); err != nil {
		return errors.Join(err, say.close(err.Error()))
	}
	// Notify, not Ignore: an ignored signal would stay ignored in the command.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)
	if asked, err := f.has(cancelFile); err != nil || asked {
		if err == nil {
			err = f.write(statusFile, notBegun(spec.ID))
		}
		return errors.Join(err, say.close(saidExists))
	}
	at := time.Now().UTC()
	if err := f.create(startedFile, begun{Runner: self, At: at}); err != nil {
		return errors.Join(err, say.close(err.Error()))
	}
	// The starter may be dead by now; the run goes on without it.
	if err := say.close(saidStarted); err != nil && !errors.Is(err, syscall.EPIPE) {
		complain(err)
	}
	s := &supervisor{folder: f, spec: spec, self: self, signals: signals}
	st := s.run()
	st.ID, st.Started, st.Finished = spec.ID, at, time.Now().UTC()
	return f.record(st)
}

// record writes the outcome. A full disk is often full because of the run itself, and someone will make room: it keeps trying for some minutes.
func (f folder) record(st Status) error {
	err := f.write(statusFile, st)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 0; err != nil && n < 300; n++ {
		<-tick.C
		err = f.write(statusFile, st)
	}
	return err
}

// handshake is the pipe to the starter; nil if there is none.
type handshake struct{ w *os.File }

// takeHandshake finds the pipe, and closes every other file that the starter's own parents have let through to us: we would
// hold, for hours, locks and pipes that are not ours.
func takeHandshake() (*handshake, error) {
	var h *handshake
	keep := -1
	if os.Getenv(handshakeVar) != "" {
		keep = 3
		h = &handshake{w: os.NewFile(3, "handshake")}
	}
	return h, closeInherited(keep)
}

func (h *handshake) close(said string) error {
	if h == nil {
		return nil
	}
	_, err := h.w.WriteString(said + "\n")
	return errors.Join(err, h.w.Close())
}
