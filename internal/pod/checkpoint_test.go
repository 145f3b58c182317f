//go:build linux || darwin

package pod

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/runner"
)

func TestAKilledPodGoesOnFromItsCheckpoint(t *testing.T) {
	k := newCluster(t)
	task := k.task(t, `trap 'echo 2 > $ML_CHECKPOINT_DIR/step; exit 1' TERM
if [ -e $ML_CHECKPOINT_DIR/step ]; then echo "resumed at $(cat $ML_CHECKPOINT_DIR/step)"; echo x > $ML_MODEL_DIR/x; exit 0; fi
echo 1 > $ML_CHECKPOINT_DIR/step; echo begun; while :; do sleep 0.05; done`)
	task.NeedModel, task.Checkpoint = true, &Checkpoint{Repo: k.Repo("checkpoints"), Interval: 50 * time.Millisecond}
	p := start(t, task, t.TempDir())
	at := filepath.Join(t.TempDir(), "seen")
	eventually(t, "a checkpoint while it runs", func() bool {
		return k.c.PullDir(within(t), k.Repo("checkpoints")+":"+task.ID, CheckpointPrefix, at) == nil
	})
	if s := read(t, at+"/step"); s != "1\n" {
		t.Errorf("checkpoint %q", s)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	term := p.mustEnd(ExitLost, runner.Cancelled, "cancelled")
	if term.Result != "" {
		t.Error("a cancelled run has a result: another pod would not go on")
	}
	if _, err := ReadResult(within(t), k.c, task.Results, task.ID); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("%v", err)
	}
	second := start(t, task, t.TempDir())
	second.mustEnd(ExitDone, runner.Succeeded, "")
	if text, _ := second.lines(); strings.Join(text, "|") != "resumed at 2" {
		t.Errorf("%q", text)
	}
}

// hang lets requests to a repository wait until the test ends, and says when the first came.
func hang(t *testing.T, k cluster, repo string) (came func() bool) {
	t.Helper()
	var n atomic.Int32
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	k.Between(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.Method == http.MethodPost && strings.Contains(q.URL.Path, "/"+repo+"/") {
				n.Add(1)
				select {
				case <-stop:
				case <-q.Context().Done():
				}
				return
			}
			next.ServeHTTP(w, q)
		})
	})
	return func() bool { return n.Load() > 0 }
}

func TestACheckpointThatCannotBeStoredHoldsNothingUp(t *testing.T) {
	k := newCluster(t)
	mark := filepath.Join(t.TempDir(), "mark")
	task := k.task(t, `echo 1 > $ML_CHECKPOINT_DIR/step; while [ ! -e $MARK ]; do sleep 0.02; done; echo done`)
	task.Env, task.Checkpoint = map[string]string{"MARK": mark}, &Checkpoint{Repo: k.Repo("checkpoints"), Interval: 20 * time.Millisecond}
	came := hang(t, k, "checkpoints")
	p := start(t, task, t.TempDir())
	eventually(t, "a checkpoint is being sent", came)
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.mustEnd(ExitDone, runner.Succeeded, "")
	if took := time.Since(began); took > 15*time.Second { // a request that stalls would take minutes
		t.Errorf("it ended %s after its command", took)
	}
}

func TestAPodThatIsKilledWhileItStoresHasLeftAWord(t *testing.T) {
	k := newCluster(t)
	for repo, c := range map[string]struct {
		phase runner.Phase
		says  string
	}{
		"checkpoints": {runner.Cancelled, "cancelled; the pod was killed while it stored the checkpoint"},
		"runs":        {runner.Lost, "the command ended (succeeded), and the pod was killed while it stored what it made"},
	} {
		t.Run(repo, func(t *testing.T) {
			task := k.task(t, `echo 1 > $ML_CHECKPOINT_DIR/step; echo begun; if [ $SLEEP = 1 ]; then exec sleep 60; fi`)
			task.Env = map[string]string{"SLEEP": strconv.Itoa(len(repo) / 8)}
			task.Checkpoint = &Checkpoint{Repo: k.Repo("checkpoints"), Interval: time.Hour}
			came := hang(t, k, repo)
			p := start(t, task, t.TempDir())
			eventually(t, "the command runs", func() bool { return read(t, p.out) == "begun\n" })
			if repo == "checkpoints" {
				if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "it is being stored", came)
			if err := p.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if _, term := p.end(); term.Phase != c.phase || term.Message != c.says || strings.Join(term.Tail, "|") != "begun" {
				t.Errorf("%+v", term)
			}
		})
	}
}

func TestACommandThatWritesFasterThanTheNetworkHasACheckpointToo(t *testing.T) {
	for name, write := range map[string]string{
		"new files renamed": `echo $i > $ML_CHECKPOINT_DIR/.new; mv $ML_CHECKPOINT_DIR/.new $ML_CHECKPOINT_DIR/step`,
		"written in place":  `echo $i > $ML_CHECKPOINT_DIR/step`,
	} {
		t.Run(name, func(t *testing.T) {
			k := newCluster(t)
			task := k.task(t, `i=0; while [ ! -e $MARK ]; do i=$((i+1)); `+write+`; sleep 0.02; done`)
			mark := filepath.Join(t.TempDir(), "mark")
			task.Env, task.Checkpoint = map[string]string{"MARK": mark}, &Checkpoint{Repo: k.Repo("checkpoints"), Interval: 100 * time.Millisecond}
			k.Between(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
					if q.Method == http.MethodPost { // a write or two happen meanwhile
						select {
						case <-time.After(200 * time.Millisecond):
						case <-q.Context().Done():
						}
					}
					next.ServeHTTP(w, q)
				})
			})
			p := start(t, task, t.TempDir())
			at := filepath.Join(t.TempDir(), "seen")
			eventually(t, "a checkpoint while it runs", func() bool {
				return k.c.PullDir(within(t), k.Repo("checkpoints")+":"+task.ID, CheckpointPrefix, at) == nil
			})
			if n, err := strconv.Atoi(strings.TrimSpace(read(t, at+"/step"))); err != nil || n == 0 {
				t.Errorf("%d %v", n, err)
			}
			if err := os.WriteFile(mark, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			p.mustEnd(ExitDone, runner.Succeeded, "")
			if strings.Contains(p.errs.String(), "checkpoint") {
				t.Errorf("it complains: %s", &p.errs)
			}
		})
	}
}
