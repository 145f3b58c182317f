//go:build linux || darwin

package pod

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/goleak"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/oci/ocitest"
	"github.com/continuo-ml/continuo/internal/proc"
	"github.com/continuo-ml/continuo/internal/runner"
)

// TestMain lets this test binary be `ml pod`, the detached runner, and a command with two ranks.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == runner.Subcommand:
		os.Exit(runner.Main(os.Args[2]))
	case len(os.Args) > 2 && os.Args[1] == "pod":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := Main(ctx, os.Args[2:], Options{Stdout: os.Stdout, Stderr: os.Stderr, Client: quick(), Patience: 300 * time.Millisecond, Cgroup: os.Getenv("TEST_CGROUP")})
		stop()
		os.Exit(code)
	case len(os.Args) == 2 && os.Args[1] == "roots":
		before, err := x509.SystemCertPool()
		none := err != nil || before.Equal(x509.NewCertPool())
		fmt.Println(none)
		os.Exit(0)
	case len(os.Args) == 2 && os.Args[1] == "fallback":
		err := trustRoots()
		pool, perr := x509.SystemCertPool()
		fmt.Println(errors.Join(err, perr) == nil && !pool.Equal(x509.NewCertPool()))
		os.Exit(0)
	case len(os.Args) == 2 && os.Args[1] == "meet":
		if err := meet(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(patientMain{m})
}

// patientMain lets connections go and the last runners end before goleak looks.
type patientMain struct{ m *testing.M }

func (p patientMain) Run() int {
	code := p.m.Run()
	if tr, ok := remote.DefaultTransport.(*http.Transport); ok {
		tr.CloseIdleConnections()
	}
	ours := func(q proc.Process) bool { return q.Parent == os.Getpid() }
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(20 * time.Second); ; {
		all, err := proc.List()
		if err == nil && !slices.ContainsFunc(all, ours) {
			return code
		}
		select {
		case <-tick.C:
		case <-late:
			fmt.Fprintln(os.Stderr, "children of the tests do not end:", err)
			return 1
		}
	}
}

// meet is a command whose ranks find each other: rank 0 listens, the others greet it and name their rank.
func meet() error {
	addr := net.JoinHostPort(os.Getenv("MASTER_ADDR"), os.Getenv("MASTER_PORT"))
	rank := os.Getenv("RANK") + " of " + os.Getenv("WORLD_SIZE")
	if os.Getenv("RANK") != "0" {
		var conn net.Conn
		err := errors.New("not tried")
		for late := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(late); {
			conn, err = net.DialTimeout("tcp", addr, time.Second)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(conn, rank)
		return errors.Join(err, conn.Close())
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	var met []string
	for range 3 {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(conn); err != nil {
			return err
		}
		met = append(met, strings.TrimSpace(b.String()))
	}
	slices.Sort(met)
	text := fmt.Sprintf("%q", append([]string{rank}, met...))
	fmt.Println(text)
	return os.WriteFile(filepath.Join(os.Getenv("ML_MODEL_DIR"), "model"), []byte(text), 0o600)
}

type none struct{}

func (none) Resolve(authn.Resource) (authn.Authenticator, error) { return authn.Anonymous, nil }

func quick() *oci.Client {
	return oci.New(oci.Options{Keychain: none{}, Wait: time.Millisecond, Attempts: 3})
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func tree(t *testing.T, contents map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range contents {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// cluster is a registry and a client.
type cluster struct {
	*ocitest.Registry
	c *oci.Client
}

func newCluster(t *testing.T) cluster { return cluster{ocitest.Start(t, "", ""), quick()} }

// task is one whose command is a script, with its code in the registry.
func (k cluster) task(t *testing.T, script string) Task {
	t.Helper()
	code, err := PushCode(within(t), k.c, k.Repo("code"), tree(t, map[string]string{"train.sh": script}), nil)
	if err != nil {
		t.Fatal(err)
	}
	return Task{
		V: TaskVersion, ID: "01RUN", Address: "training.x", Command: []string{"sh", "train.sh"}, Grace: 2 * time.Second, Code: &code,
		Results: k.Repo("runs"), Models: &ModelPlace{Repo: k.Repo("models/x")},
	}
}

func (k cluster) data(t *testing.T, path string) Artifact {
	t.Helper()
	a, err := PushData(within(t), k.c, k.Repo("data"), path)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// podProcess is one container.
type podProcess struct {
	t       *testing.T
	cmd     *exec.Cmd
	out     string // file
	errs    bytes.Buffer
	message string
}

// start starts `ml pod run` as a process of its own, in the folder work.
func start(t *testing.T, task Task, work string, env ...string) *podProcess {
	t.Helper()
	text, err := json.Marshal(task)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := &podProcess{t: t, message: filepath.Join(dir, "termination-log"), out: filepath.Join(dir, "stdout")}
	out, err := os.Create(p.out)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd = exec.Command(os.Args[0], "pod", "run")
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), TaskVar + "=" + string(text), WorkVar + "=" + work, MessageVar + "=" + p.message}, env...)
	p.cmd.Stdout, p.cmd.Stderr = out, &p.errs
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		runs, _ := filepath.Glob(work + "/attempt-*/run")
		for _, dir := range runs {
			if err := runner.Cancel(context.Background(), dir, time.Second); err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
	})
	return p
}

// end waits for the exit code and the last word.
func (p *podProcess) end() (int, Termination) {
	p.t.Helper()
	done := make(chan struct{})
	go func() {
		_ = p.cmd.Wait() // the exit code is looked at below
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(60 * time.Second):
		p.t.Fatalf("the pod does not end: %s", read(p.t, p.out))
	}
	b, err := os.ReadFile(p.message)
	if err != nil {
		p.t.Fatalf("%v: %s", err, &p.errs)
	}
	term, err := ParseTermination(b)
	if err != nil || len(b) > maxMessage {
		p.t.Fatalf("%d bytes: %v", len(b), err)
	}
	return p.cmd.ProcessState.ExitCode(), term
}

// mustEnd is end with an exit code and a part of the message that are wanted.
func (p *podProcess) mustEnd(code int, phase runner.Phase, says string) Termination {
	p.t.Helper()
	got, term := p.end()
	if got != code || term.Phase != phase || !strings.Contains(term.Message, says) {
		p.t.Fatalf("exit code %d, phase %s, message %q; want %d, %s, %q\nstdout: %s\nstderr: %s", got, term.Phase, term.Message, code, phase, says, read(p.t, p.out), &p.errs)
	}
	return term
}

// lines takes a pod's log apart.
func (p *podProcess) lines() (text []string, progress []runner.Progress) {
	p.t.Helper()
	err := SplitLog(strings.NewReader(read(p.t, p.out)), func(s string) { text = append(text, s) }, func(q runner.Progress) { progress = append(progress, q) })
	if err != nil {
		p.t.Fatal(err)
	}
	return text, progress
}

func digestOf(t *testing.T, dir string) string {
	t.Helper()
	d, _, err := files.DigestDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
