package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/continuo-ml/continuo/internal/proc"
)

// killGrace is how long a server may take to end after SIGTERM.
const killGrace = 5 * time.Second

// spawner starts processes from one thread that lives as long as the gateway:
// the kernel ties "die with your parent" to the thread that forked.
type spawner struct{ jobs chan spawnJob }

type spawnJob struct {
	cmd  *exec.Cmd
	done chan error
}

func newSpawner() *spawner {
	s := &spawner{jobs: make(chan spawnJob)}
	go func() {
		// Never unlocked: when jobs closes, the thread ends with the goroutine.
		runtime.LockOSThread()
		for j := range s.jobs {
			j.done <- j.cmd.Start()
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	j := spawnJob{cmd: cmd, done: make(chan error, 1)}
	s.jobs <- j
	return <-j.done
}

// close ends the thread; every process it started must have been stopped.
func (s *spawner) close() { close(s.jobs) }

// process is one running server process.
type process struct {
	id     proc.Identity
	port   int
	exited chan struct{} // closed when it has been waited for
	err    error         // how it ended; valid after exited
	logAt  int64         // where its output begins in the log
	log    string
}

// startProcess runs s on a free port, with its output appended to logName.
func startProcess(sp *spawner, s Server, env map[string]string, logName string) (*process, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	logFile, err := os.OpenFile(logName, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open server log: %w", err)
	}
	p := &process{port: port, exited: make(chan struct{}), log: logName}
	if info, err := logFile.Stat(); err == nil {
		p.logAt = info.Size()
	}
	cmd := exec.Command(lookUp(s.Command[0], s.Env["PATH"]), s.Command[1:]...)
	cmd.Dir = s.Dir
	cmd.Env = environment(s, env, port)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = ownGroup()
	err = sp.start(cmd)
	// The server has its own copy of the descriptor; nothing was written here.
	_ = logFile.Close()
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	// Even when it has died already it is still ours to wait for, so the pid
	// cannot have been given away.
	found, lookErr := proc.Lookup(cmd.Process.Pid)
	p.id = found.Identity
	if lookErr != nil {
		p.id = proc.Identity{PID: cmd.Process.Pid}
	}
	go func() {
		p.err = cmd.Wait()
		// What it started goes with it.
		_ = proc.KillGroup(p.id, syscall.SIGKILL)
		close(p.exited)
	}()
	return p, nil
}

// lookUp finds a bare command name in the declared PATH, as a shell would (a
// virtual environment's python3, for example). What is not found there is left
// to exec, which knows the gateway's own PATH and words the error.
func lookUp(name, path string) string {
	if path == "" || filepath.Base(name) != name {
		return name
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return found
		}
	}
	return name
}

// environment is clean but for PATH, HOME and LANG, so that a server sees the
// same on every machine. Later names win; the result is sorted.
func environment(s Server, own map[string]string, port int) []string {
	declared, vars := s.Env, map[string]string{"HOST": "127.0.0.1"}
	for _, name := range append([]string{"PATH", "HOME", "LANG"}, s.PassEnv...) {
		if v, ok := os.LookupEnv(name); ok {
			vars[name] = v
		}
	}
	for k, v := range declared {
		vars[k] = v
	}
	for k, v := range own {
		if _, set := declared[k]; !set || k == "PREDICTOR_HOST" {
			vars[k] = v
		}
	}
	vars["PORT"] = strconv.Itoa(port)
	list := make([]string, 0, len(vars))
	for k, v := range vars {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}

// stop ends the process and its group: SIGTERM, then SIGKILL after the grace.
func (p *process) stop(grace time.Duration) {
	select {
	case <-p.exited:
		return
	default:
	}
	// Gone is fine, and for anything else the kill below remains.
	_ = proc.KillGroup(p.id, syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
		_ = proc.KillGroup(p.id, syscall.SIGKILL)
		<-p.exited
	}
}

// lostPort reports whether the server died because somebody else has its port.
func (p *process) lostPort() bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)))
	if err != nil {
		return errors.Is(err, syscall.EADDRINUSE)
	}
	return l.Close() != nil
}

// tail returns the last lines that the process wrote, 2 KiB at most.
func (p *process) tail() string {
	const limit = 2 << 10
	f, err := os.Open(p.log)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	from := max(info.Size()-limit, min(p.logAt, info.Size()))
	data, err := io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(bytes.ToValidUTF8(data, []byte("?")))), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

// freePort asks the kernel for a port. Somebody else may take it before the
// server does; the server then fails to bind and is started on another.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	if !ok {
		return 0, errors.New("find a free port: not a TCP address")
	}
	return addr.Port, nil
}

// loopback writes a port as an address.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// awaitReady polls until the server is ready, dies, or takes too long.
func (p *process) awaitReady(ctx context.Context, r Readiness) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	last := errors.New("no answer")
	for {
		select {
		case <-p.exited:
			return p.death()
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%w within %v (%w)%s", errNotReady, r.Timeout, last, p.lastLines())
			}
			return ctx.Err()
		case <-tick.C:
		}
		if err := probe(ctx, p.port, r.Path); err == nil {
			return nil
		} else if ctx.Err() == nil {
			last = err
		}
	}
}

// errNotReady says that a server runs but did not become ready in time.
var errNotReady = errors.New("not ready")

// death describes how the process ended, with its last words.
func (p *process) death() error {
	how := "exit status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("server ended (%s)%s", how, p.lastLines())
}

// lastLines is tail as the end of a message.
func (p *process) lastLines() string {
	if tail := p.tail(); tail != "" {
		return "; its last lines:\n" + tail
	}
	return ", without output"
}
