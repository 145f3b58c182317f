//go:build e2e && linux

package gitops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/continuo-ml/continuo/internal/fault"
)

// full says whether everything is tried, as make e2e-gitops-full does, or a part that shows that the rest can work.
var full = os.Getenv("ML_GITOPS_FULL") != ""

// Every command appends its name, the round's token and its run id to the oracle before it does anything: what the state says is not asked.
const killedFiles = `
dataset "d" {
  source = "data.csv"
  expect "rows" { row_count = { min = 1 } }
}
check "c" {
  command = ["sh", "step.sh", "check"]
  sources = ["step.sh"]
  env     = { ORACLE = "ORACLE_PATH" }
  inputs  = { data = dataset.d }
}
training "t" {
  depends_on = [check.c]
  command    = ["sh", "step.sh", "train"]
  sources    = ["step.sh"]
  env        = { ORACLE = "ORACLE_PATH" }
  inputs     = { data = dataset.d }
}
validation "t" {
  model   = training.t.model
  command = ["sh", "step.sh", "validate"]
  sources = ["step.sh"]
  env     = { ORACLE = "ORACLE_PATH" }
  inputs  = { data = dataset.d }
  threshold "score" { min = 0.5 }
}
`

const killedStep = `set -e
token=$(sed -n 2p "$ML_INPUT_DATA" | cut -d, -f1)
echo "$1 $token $ML_RUN_ID start" >> "$ORACLE"
case "$1" in train*) echo "$token" > "$ML_MODEL_DIR/model";; esac
if [ -n "$ML_METRICS" ]; then echo '{"score": 0.9}' > "$ML_METRICS"; fi
echo "$1 $token $ML_RUN_ID end" >> "$ORACLE"
`

// killed is a daemon, the real program, over a plain git repository, that is killed once a round. Each round has other data, so that
// everything has to happen again, and exactly once.
type killed struct {
	plain
	oracle string
	round  int
	commit string // the round's
	extra  bool   // the dataset that comes and goes is there
	more   string // of the project's files
}

func newKilled(t *testing.T) *killed {
	t.Helper()
	k := &killed{plain: newPlain(t, allowAll)}
	k.oracle = filepath.Join(k.dir, "oracle.log")
	return k
}

// newRound pushes other data, and adds or takes away a dataset that nothing needs.
func (k *killed) newRound() {
	k.t.Helper()
	k.round++
	k.extra = !k.extra
	var b strings.Builder
	b.WriteString("token,n\n")
	for i := range 20 {
		fmt.Fprintf(&b, "r%d,%d\n", k.round, i)
	}
	main := k.more + strings.ReplaceAll(killedFiles, "ORACLE_PATH", k.oracle)
	if k.extra {
		main += "dataset \"extra\" { source = \"data.csv\" }\n"
	}
	k.commit = k.push(map[string]string{"main.ml.hcl": main, "step.sh": killedStep, "data.csv": b.String()})
}

// recovered starts the daemon as a machine would, and compares the world with the oracle and the commit.
func (k *killed) recovered() {
	k.t.Helper()
	k.start("")
	k.until("the commit is applied", k.applied(k.commit))
	k.stop()
	raw := must[[]byte](k.t)(os.ReadFile(k.oracle))
	seen := map[string]int{}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) != 4 {
			k.t.Fatalf("a torn line in the oracle: %q", line)
		}
		if f[1] == fmt.Sprintf("r%d", k.round) {
			seen[f[0]+" "+f[3]]++
		}
	}
	for _, what := range []string{"check", "train", "validate"} {
		if seen[what+" start"] != 1 || seen[what+" end"] != 1 {
			k.t.Fatalf("round %d: %s started %d times and ended %d times, want once each; the daemon said\n%s", k.round, what, seen[what+" start"], seen[what+" end"], k.said)
		}
	}
	out, err := k.ml("versions", "training.t", "-json")
	ok(k.t, err)
	var versions []struct {
		Version int
		Current bool
	}
	ok(k.t, json.Unmarshal([]byte(out), &versions))
	if len(versions) != k.round || !versions[len(versions)-1].Current {
		k.t.Fatalf("round %d: versions %+v", k.round, versions)
	}
	for i, v := range versions {
		if v.Version != i+1 {
			k.t.Fatalf("round %d: versions out of order: %+v", k.round, versions)
		}
	}
	if out, err := k.ml("plan", "-detailed-exitcode"); err != nil {
		k.t.Fatalf("round %d: the plan after it must be empty: %v\n%s", k.round, err, out)
	}
	if out, err := k.ml("state", "list"); err != nil || strings.Contains(out, "dataset.extra") != k.extra {
		k.t.Fatalf("round %d: dataset.extra there: want %v; %v\n%s", k.round, k.extra, err, out)
	}
	k.noOrphans()
}

// TestADaemonKilledAtEveryJournalPoint kills a daemon with SIGKILL at each named point, at its first, second, … hit, and starts it again.
func TestADaemonKilledAtEveryJournalPoint(t *testing.T) {
	points, hits := shown, 1
	if full {
		points, hits = fault.Points(), 4
	}
	var done atomic.Int64
	t.Run("points", func(t *testing.T) {
		for _, point := range points {
			switch {
			case strings.HasPrefix(point, "state.restore"), point == fault.StateCommitSync, point == fault.EngineSettleBefore, strings.HasPrefix(point, "daemon.approve"):
				continue // no daemon restores; the others have tests of their own below
			}
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				k := newKilled(t)
				reached := 0
				for hit := 1; hit <= hits; hit++ {
					k.newRound()
					if strings.HasPrefix(point, "engine.delete") && k.extra {
						k.recovered() // what is taken away has to be there first
						k.newRound()
					}
					k.start(fmt.Sprintf("%s:%d", point, hit))
					if k.diesOr("it dies, or the commit is applied", k.applied(k.commit)) {
						reached++
						done.Add(1)
					} else {
						k.stop()
					}
					k.recovered()
				}
				if reached == 0 {
					t.Fatal("the point was never reached: the test would pass whatever the code did")
				}
				t.Logf("%d kills", reached)
			})
		}
	})
	t.Logf("%d kills of the daemon at %d journal points: every training ran once, no orphan, versions in order", done.Load(), len(points))
}

// TestADaemonKilledWhileItSettles kills a daemon, and then the one that settles after it.
func TestADaemonKilledWhileItSettles(t *testing.T) {
	t.Parallel()
	k := newKilled(t)
	k.newRound()
	for _, faults := range []string{fault.EngineActed + ":2", fault.EngineSettleBefore + ":1"} {
		k.start(faults)
		if !k.diesOr("it dies", k.applied(k.commit)) {
			t.Fatalf("%s was not reached:\n%s", faults, k.said)
		}
	}
	k.recovered()
}

// TestADaemonWhoseSyncFailsEnds lets an fsync of the state fail: what is on the disk is not known to that process any more, so it says so
// and ends, and the next one finishes.
func TestADaemonWhoseSyncFailsEnds(t *testing.T) {
	t.Parallel()
	hits := []int{4}
	if full {
		hits = []int{1, 2, 3, 5, 8}
	}
	k := newKilled(t)
	for _, hit := range hits {
		k.newRound()
		k.start(fmt.Sprintf("%s:%d:error", fault.StateCommitSync, hit))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		select {
		case err := <-k.over:
			k.cmd = nil
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(k.said.String(), "the state is read-only after a failed write") {
				t.Fatalf("hit %d: it ended with %v:\n%s", hit, err, k.said)
			}
		case <-ctx.Done():
			t.Fatalf("hit %d: it goes on:\n%s", hit, k.said)
		}
		k.recovered()
	}
}

// TestAnApprovalOutlivesAKill kills the daemon around an approval: it is given, or it can be given again; what it lets run runs once.
func TestAnApprovalOutlivesAKill(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		faults string
		given  bool // it is recorded when the daemon dies
	}{
		{fault.DaemonApproveBefore + ":1", false},
		{fault.DaemonApproveAfter + ":1", true},
		{fault.EngineDeleteIntentAfter + ":1", true},
		{fault.EngineDeleteActed + ":1", true},
	} {
		t.Run(c.faults, func(t *testing.T) {
			t.Parallel()
			k := &killed{plain: newPlain(t, "")} // deletions wait
			k.oracle = filepath.Join(k.dir, "oracle.log")
			k.newRound()
			k.recovered()
			k.extra = false
			k.commit = k.push(map[string]string{"main.ml.hcl": strings.ReplaceAll(killedFiles, "ORACLE_PATH", k.oracle)})
			k.start(c.faults)
			k.until("the plan waits", func() bool { return k.status().Held != nil })
			id := k.status().Held.ID
			code, body := k.post("/api/v1/repositories/r/approve/" + id)
			if !k.diesOr("it dies", k.applied(k.commit)) {
				t.Fatalf("%d %s: the point was not reached", code, body)
			}
			k.start("")
			if !c.given {
				k.until("the plan waits again", func() bool { return k.status().Held != nil })
				if again := k.status().Held; again.ID != id {
					t.Fatalf("the plan %s is %s after the kill", id, again.ID)
				}
				if code, body := k.post("/api/v1/repositories/r/approve/" + id); code != http.StatusOK {
					t.Fatalf("%d %s", code, body)
				}
			}
			k.until("it is applied", k.applied(k.commit))
			k.stop()
			k.recovered()
		})
	}
}
