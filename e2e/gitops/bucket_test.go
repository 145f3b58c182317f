//go:build e2e && linux

package gitops

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/e2e/cluster/stores"
	"github.com/continuo-ml/continuo/internal/fault"
)

const stateBucket = "ml-state"

// bucket is an empty bucket of a real S3 server.
type bucket struct {
	folder string   // in which its objects are files
	env    []string // of those who use it
}

func newBucket(t *testing.T) bucket {
	t.Helper()
	dir := t.TempDir()
	b := bucket{folder: filepath.Join(dir, "data", stateBucket), env: []string{"AWS_EC2_METADATA_DISABLED=true"}}
	srv, err := stores.S3(t.Context(), dir, "127.0.0.1")
	ok(t, err)
	t.Cleanup(func() { ok(t, srv.Stop()) })
	for name, value := range srv.Env {
		b.env = append(b.env, name+"="+value)
	}
	ok(t, os.Mkdir(b.folder, 0o755)) // a bucket, to this server
	return b
}

const inBucket = `
ml {
  backend "s3" {
    bucket = "` + stateBucket + `"
    prefix = "r"
  }
}
`

// newKilled is a daemon whose state is in the bucket.
func (b bucket) newKilled(t *testing.T) *killed {
	t.Helper()
	k := newKilled(t)
	k.more, k.env = inBucket, b.env
	return k
}

// TestADaemonWithItsStateInABucketIsKilled kills a daemon whose state is in a real S3 server: the next one of its folder goes on at once, and a plan in
// another place reads what it wrote.
func TestADaemonWithItsStateInABucketIsKilled(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	k := b.newKilled(t)
	for _, point := range []string{fault.StateLeaseAcquired, fault.EngineIntentAfter, fault.EngineActed, fault.EngineDoneBefore, fault.DaemonKeepBefore} {
		k.newRound()
		k.start(point + ":1")
		if !k.diesOr("it dies", k.applied(k.commit)) {
			t.Fatalf("%s was not reached:\n%s", point, k.said)
		}
		k.recovered()
	}
	if n := len(filesIn(t, b.folder)); n == 0 {
		t.Errorf("the bucket is empty")
	}
	if _, err := os.Stat(filepath.Join(k.work(), ".ml", "state.db")); !os.IsNotExist(err) {
		t.Errorf("there is a state beside it: %v", err)
	}
	clone := filepath.Join(k.dir, "clone")
	k.git("clone", "--quiet", k.repo, clone)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.bin, "-chdir", clone, "plan", "-detailed-exitcode")
	cmd.Env = append(os.Environ(), k.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("a plan in another folder: %v\n%s", err, out)
	}
}

// filesIn gives what is in the files of a folder, by name.
func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	ok(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, dir+"/")] = fmt.Sprintf("%x", sha256.Sum256(raw))
		return err
	}))
	return out
}

// TestAFormerLeaderWritesNothingToABucket stops the one of two daemons that leads in front of a commit to a bucket, until the other one has done the work,
// and stops that one, too: what the first writes then is seen in the bucket.
func TestAFormerLeaderWritesNothingToABucket(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	hits := []int{3}
	if full {
		hits = []int{1, 2, 3, 4, 5, 6, 7, 8}
	}
	for _, hit := range hits {
		k := b.newKilled(t)
		k.more = strings.ReplaceAll(inBucket, `"r"`, fmt.Sprintf(`"r%d"`, hit))
		k.newRound()
		second := k.second("leader { duration = \"2s\" }\n")
		k.start(fmt.Sprintf("%s:%d:stop", fault.StateCommitBefore, hit))
		k.until("the first is stopped", k.stopped)
		second.start("")
		second.until("the second has done the work", second.applied(k.commit))
		ok(t, second.cmd.Process.Signal(syscall.SIGSTOP))
		second.until("the second is stopped", second.stopped)
		before := filesIn(t, b.folder)
		ok(t, k.cmd.Process.Signal(syscall.SIGCONT))
		select {
		case err := <-k.over:
			if k.cmd = nil; err == nil || !strings.Contains(k.said.String(), "does not lead any more") {
				t.Errorf("hit %d: the former leader ended with %v:\n%s", hit, err, k.said)
			}
		case <-time.After(patience):
			t.Errorf("hit %d: the former leader goes on:\n%s", hit, k.said)
		}
		after := filesIn(t, b.folder)
		for name, now := range after {
			if before[name] != now {
				t.Errorf("hit %d: the former leader wrote %s", hit, name)
			}
		}
		if len(after) != len(before) {
			t.Errorf("hit %d: %d objects, then %d", hit, len(before), len(after))
		}
		ok(t, second.cmd.Process.Signal(syscall.SIGCONT))
		second.stop()
		k.recovered() // the training ran once
	}
}
