//go:build e2e

package state

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/continuo-ml/continuo/e2e/cluster/stores"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/remote"
	"github.com/continuo-ml/continuo/state/remote/remotetest"
	"github.com/continuo-ml/continuo/state/remote/s3"
	"github.com/continuo-ml/continuo/state/statetest"
)

const bucketName = "ml-state"

// server is an S3 server with a bucket.
type server struct {
	*stores.Server
	client *awss3.Client
	// data is the folder in which its objects stand as files.
	data string
}

func newServer(t testing.TB) *server {
	t.Helper()
	dir := t.TempDir()
	s, err := stores.S3(t.Context(), dir, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	setenv(t, s.Env)
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	srv := &server{Server: s, data: filepath.Join(dir, "data", bucketName), client: awss3.NewFromConfig(cfg, func(o *awss3.Options) { o.UsePathStyle = true })}
	name := bucketName
	if _, err := srv.client.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	return srv
}

// setenv gives a test an environment without anybody's credentials but these.
func setenv(t testing.TB, env map[string]string) {
	t.Helper()
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for name, value := range env {
		t.Setenv(name, value)
	}
}

// options are a store's, with waits that a test can afford.
func options(t testing.TB, dir string) remote.Options {
	return remote.Options{Dir: dir, Holder: "ada@host", Poll: 10 * time.Millisecond, LeaseFor: 3 * time.Second, Patience: 3 * time.Second,
		Warn: func(err error) { t.Log("warning:", err) }}
}

func TestABucketIsAPlaceForAState(t *testing.T) {
	newServer(t)
	remotetest.Run(t, s3.New(s3.Options{Bucket: bucketName, Prefix: "contract"}))
}

func TestAStateInS3KeepsEveryPromise(t *testing.T) {
	newServer(t)
	var n atomic.Int32
	statetest.Run(t, func(t *testing.T) state.Store {
		s := remote.Open(s3.New(s3.Options{Bucket: bucketName, Prefix: fmt.Sprintf("p/%d", n.Add(1))}), options(t, t.TempDir()))
		t.Cleanup(func() {
			if _, err := s.Verify(context.WithoutCancel(t.Context())); err != nil {
				t.Error("after the test:", err)
			}
		})
		return s
	})
}

// noise is a text that cannot be made much smaller.
func noise(seed, n int) json.RawMessage {
	b := make([]byte, n)
	rnd := rand.New(rand.NewPCG(uint64(seed), 1))
	for i := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[rnd.IntN(36)]
	}
	return json.RawMessage(`"` + string(b) + `"`)
}

// large checks a state of several megabytes, with an entry larger than an object may be.
func large(t *testing.T, place remote.Blobs) {
	t.Helper()
	s := remote.Open(place, options(t, t.TempDir()))
	var ops []state.Op
	for i := range 60 {
		ops = append(ops, state.Op{PutRecord: record(i, noise(i, 30_000))})
	}
	ops = append(ops, state.Op{PutRecord: record(1000, noise(1000, 3_000_000))})
	if _, err := s.Commit(t.Context(), 0, ops...); err != nil {
		t.Fatal(err)
	}
	fresh := remote.Open(place, options(t, t.TempDir()))
	snap, err := fresh.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		if got := snap.Record(op.PutRecord.Address); got == nil || string(got.Spec) != string(op.PutRecord.Spec) {
			t.Errorf("%s came back otherwise", op.PutRecord.Address)
		}
	}
	if _, err := fresh.Backup(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := fresh.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func record(i int, spec json.RawMessage) *state.Record {
	return &state.Record{Address: resource.Address{Kind: "training", Name: fmt.Sprintf("t%05d", i)}, Provider: "local", Phase: resource.PhaseReady,
		Spec: spec, Created: statetest.Time, Updated: statetest.Time}
}

func TestALargeStateInS3(t *testing.T) {
	newServer(t)
	large(t, s3.New(s3.Options{Bucket: bucketName}))
}
