//go:build e2e

package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/continuo-ml/continuo/internal/fault"
)

// killed is a project in which ml, or the API server, is killed in the middle of an apply, once a round. Every round has other data,
// so that everything has to happen again, and exactly once.
type killed struct {
	*world
	round int
	jobs  *sightings
}

func newKilled(t *testing.T) *killed {
	k := &killed{world: newWorldOf(t, os.DirFS(filepath.Join("testdata", "kills")), "kubernetes")}
	k.jobs = k.watchJobs()
	return k
}

// sightings are the Jobs that were ever seen, by their UID: what the oracle goes by, whatever the state says.
type sightings struct {
	mu   sync.Mutex
	name map[string]string
}

// count says how many Jobs of a block there have been.
func (s *sightings) count(prefix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.name {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}

// watchJobs looks at the cluster all the time; that the API server is away for a while is part of the scenario.
func (k *killed) watchJobs() *sightings {
	s := &sightings{name: map[string]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for {
			list, err := k.cluster.typed.BatchV1().Jobs(k.namespace).List(ctx, metav1.ListOptions{})
			if err == nil {
				s.mu.Lock()
				for _, j := range list.Items {
					s.name[string(j.UID)] = j.Name
				}
				s.mu.Unlock()
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	k.Cleanup(func() { cancel(); <-done })
	return s
}

func (k *killed) newData() {
	k.Helper()
	k.round++
	var b strings.Builder
	b.WriteString("round,n\n")
	for i := range 20 {
		fmt.Fprintf(&b, "r%d,%d\n", k.round, i)
	}
	if err := os.WriteFile(filepath.Join(k.dir, "data.csv"), []byte(b.String()), 0o600); err != nil {
		k.Fatal(err)
	}
}

// apply runs one that something is going to happen to. It returns what it said and how it ended.
func (k *killed) apply(env string, hit func(*os.Process)) (string, error) {
	k.Helper()
	ctx, cancel := context.WithTimeout(k.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, here.bin, "apply", "-auto-approve")
	cmd.Dir, cmd.Env = k.dir, append(k.env[:len(k.env):len(k.env)], env)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		k.Fatal(err)
	}
	if hit != nil {
		hit(cmd.Process)
	}
	err := cmd.Wait()
	return out.String(), err
}

func wasKilled(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	ws, ok := exit.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL
}

// recovered applies again, as a person would, and compares the world with what must be.
func (k *killed) recovered() {
	k.Helper()
	k.ml("apply", "-auto-approve", "-lock-timeout=1m")
	if n := k.jobs.count("training-t"); n != k.round {
		k.Fatalf("round %d: %d trainings were started in all, want one a round", k.round, n)
	}
	var versions []struct {
		Version int
		Current bool
	}
	k.read(&versions, "versions", "training.t")
	if len(versions) != k.round || !versions[len(versions)-1].Current {
		k.Fatalf("round %d: versions %+v", k.round, versions)
	}
	k.unchanged()
	if got := k.answer(); got != fmt.Sprintf("r%d,0", k.round) {
		k.Fatalf("round %d: the service answers %q", k.round, got)
	}
	k.noOrphans()
}

// answer asks the service which model it has.
func (k *killed) answer() string {
	k.Helper()
	resp, err := http.Get(k.cluster.reach(k.T, k.status("deployment.m").Endpoint))
	if err != nil {
		k.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		k.Fatalf("%d %s, %v", resp.StatusCode, text, err)
	}
	return string(text)
}

// noOrphans wants no Job that is still there, and one version's servers beside the router.
func (k *killed) noOrphans() {
	k.Helper()
	ctx, cancel := context.WithTimeout(k.Context(), time.Minute)
	defer cancel()
	var left []string
	until(ctx, k.T, fmt.Sprintf("round %d to leave no orphan", k.round), func() bool {
		left = left[:0]
		deployments := 0
		for _, o := range k.cluster.left(k.T, k.namespace) {
			switch {
			case strings.HasPrefix(o, "jobs/"), strings.HasPrefix(o, "pods/training-t"):
				left = append(left, o)
			case strings.HasPrefix(o, "deployments/"):
				deployments++
			}
		}
		if deployments != 2 {
			left = append(left, fmt.Sprintf("%d deployments", deployments))
		}
		return len(left) == 0
	})
	if len(left) > 0 {
		k.Fatalf("round %d: left behind: %s", k.round, strings.Join(left, ", "))
	}
}

// counted is a number of repetitions: few in the gate, many in make e2e-full.
func counted(t *testing.T, variable string, few int) int {
	t.Helper()
	s := os.Getenv(variable)
	if s == "" {
		return few
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no number above 0", variable, s)
	}
	return n
}

// journal are the points between two durable steps of an apply.
var journal = []string{
	fault.EngineIntentAfter, fault.EngineActed, fault.EngineDoneBefore, fault.EngineDoneAfter, fault.EngineIntentBefore,
	fault.StateCommitBefore, fault.StateCommitAfter, fault.StateLeaseAcquired,
}

// killsALane is how many kills one project takes; more of them go on in others beside it, for they mostly wait for pods.
const killsALane = 13

// TestD kills ml with SIGKILL in the middle of an apply, by turns at each point of its journal and at random times while pods run:
// no orphan, no second training, and the next apply finishes.
func TestD(t *testing.T) {
	t.Parallel()
	want := counted(t, "ML_E2E_KILLS", 5)
	lanes := (want + killsALane - 1) / killsALane
	for lane := range lanes {
		t.Run(fmt.Sprintf("%d of %d", lane+1, lanes), func(t *testing.T) {
			t.Parallel()
			killML(t, (want+lane)/lanes, lane, lanes) // the shares add up to want
		})
	}
}

// killML kills ml as often as wanted. Lanes take the points by turns, so that together they reach all of them.
func killML(t *testing.T, want, lane, lanes int) {
	k := newKilled(t)
	k.newData()
	k.ml("apply", "-auto-approve")
	k.recovered()
	done := 0
	for turn := 0; done < want; turn++ {
		if turn > 4*want+40 {
			t.Fatalf("%d kills in %d rounds: the points are not reached", done, turn)
		}
		k.newData()
		var out string
		var err error
		if turn%2 == 0 {
			after := time.Duration(rand.Int64N(int64(12 * time.Second)))
			out, err = k.apply("ML_NOTHING=", func(p *os.Process) {
				timer := time.AfterFunc(after, func() { _ = p.Kill() }) // it may have ended: then there is nothing to kill
				k.Cleanup(func() { timer.Stop() })
			})
		} else {
			n := turn/2*lanes + lane
			out, err = k.apply(fmt.Sprintf("%s=%s:%d", fault.Variable, journal[n%len(journal)], 1+n/len(journal)%3), nil)
		}
		switch {
		case wasKilled(err):
			done++
		case err != nil:
			t.Fatalf("turn %d: %v\n%s", turn, err, out)
		}
		k.recovered()
	}
	t.Logf("%d kills of ml, %d rounds: no orphan, no second training", done, k.round)
	k.ml("destroy", "-auto-approve")
	k.gone()
}

// TestDAPIServer kills the API server in the middle of an apply, which goes on when it is back.
func TestDAPIServer(t *testing.T) {
	if os.Getenv("ML_E2E_DIR") == "" {
		t.Fatal("the API server of a cluster that is not ours cannot be killed: run this on the cluster of make cluster")
	}
	k := newKilled(t)
	k.newData()
	k.ml("apply", "-auto-approve")
	k.recovered()
	want := counted(t, "ML_E2E_API_KILLS", 1)
	for range want {
		k.newData()
		after := time.Duration(rand.Int64N(int64(8 * time.Second)))
		var restart *exec.Cmd
		out, err := k.apply("ML_NOTHING=", func(*os.Process) {
			restart = k.restartAPIServer(after)
		})
		if werr := restart.Wait(); werr != nil {
			t.Fatalf("restart the API server: %v", werr)
		}
		if err != nil {
			t.Logf("the apply ended with: %v\n%s", err, out) // a clear error is allowed; the next apply must finish
		}
		k.recovered()
	}
	t.Logf("%d kills of the API server: no orphan, no second training", want)
	k.ml("destroy", "-auto-approve")
	k.gone()
}

// restartAPIServer kills the API server after a while and starts it again.
func (k *killed) restartAPIServer(after time.Duration) *exec.Cmd {
	k.Helper()
	cmd := exec.Command("sh", "-c", fmt.Sprintf("sleep %.2f; exec go run github.com/continuo-ml/continuo/e2e/cluster restart kube-apiserver", after.Seconds()))
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		k.Fatal(err)
	}
	return cmd
}
