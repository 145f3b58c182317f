//go:build e2e

package state

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/remote"
	"github.com/continuo-ml/continuo/state/remote/s3"
)

// thousand measures a state of 1,000 records of about 1 KB: a read by who has
// seen nothing, commits of one record one after the other, and 64 at a time.
func thousand(t *testing.T, place remote.Blobs) {
	t.Helper()
	s := remote.Open(place, remote.Options{Dir: t.TempDir()})
	_, release, err := s.Acquire(t.Context(), "measure")
	if err != nil {
		t.Fatal(err)
	}
	var ops []state.Op
	for i := range 1000 {
		ops = append(ops, state.Op{PutRecord: record(i, noise(i, 900))})
	}
	began := time.Now()
	if _, err := s.Commit(t.Context(), 0, ops...); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: 1,000 records in one commit: %d ms", place.Where(), time.Since(began).Milliseconds())
	began = time.Now()
	if snap, err := remote.Open(place, remote.Options{Dir: t.TempDir()}).Snapshot(t.Context()); err != nil || len(snap.Records) != 1000 {
		t.Fatal(err)
	}
	t.Logf("%s: read by who has seen nothing: %d ms", place.Where(), time.Since(began).Milliseconds())
	var took []time.Duration
	for i := range 100 {
		began := time.Now()
		if _, err := s.Commit(t.Context(), 0, state.Op{PutRecord: record(i, noise(i+5000, 900))}); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("%s: a commit of one record: median %.1f ms, p95 %.1f ms", place.Where(), ms(took[50]), ms(took[95]))
	began = time.Now()
	errs := make(chan error)
	for i := range 64 {
		go func() {
			var err error
			for j := range 10 {
				if _, cerr := s.Commit(t.Context(), 0, state.Op{PutRecord: record(i*10+j, noise(i+9000, 900))}); cerr != nil {
					err = cerr
				}
			}
			errs <- err
		}()
	}
	for range 64 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	t.Logf("%s: 640 commits by 64 at a time: %d ms", place.Where(), time.Since(began).Milliseconds())
	if err := release(); err != nil {
		t.Error(err)
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func TestHowLongAThousandRecordsTake(t *testing.T) {
	newServer(t)
	t.Run("S3", func(t *testing.T) { thousand(t, s3.New(s3.Options{Bucket: bucketName, Prefix: "thousand"})) })
	t.Run("ml plan", func(t *testing.T) {
		p := &project{T: t, dir: t.TempDir(), ml: buildProgram(t)}
		p.write("main.ml.hcl", "notifier \"n\" {\n  count = 1000\n  type  = \"webhook\"\n  url   = \"http://127.0.0.1:9/${count.index}\"\n}\n")
		p.run(0, ml("apply", "-auto-approve"))
		plan := func(where string) {
			var took []time.Duration
			for range 5 {
				began := time.Now()
				p.run(0, ml("plan"), "No changes")
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			t.Logf("ml plan of 1,000 blocks, state %s: median %d ms", where, took[2].Milliseconds())
		}
		plan("in a file")
		p.write("backend.ml.hcl", inBucket)
		p.run(0, ml("init", "-migrate-state"))
		plan("in S3")
		if os.Getenv("ML_E2E_KUBECONFIG") == "" {
			return
		}
		n := newNamespace(t)
		p.write("backend.ml.hcl", fmt.Sprintf("ml {\n  backend \"kubernetes\" {\n    name       = \"thousand\"\n    namespace  = %q\n    kubeconfig = %q\n  }\n}\n", n.name, filepath.ToSlash(n.kubeconfig)))
		p.run(0, ml("init", "-migrate-state"), "from s3://ml-state/story")
		plan("in Secrets")
	})
}

func TestHowLongAThousandRecordsTakeInACluster(t *testing.T) {
	n := newNamespace(t)
	thousand(t, n.place("thousand"))
}
