//go:build e2e

package providertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Site is one deployment on a cluster, as an engine would drive it.
type Site[S any] struct {
	*Cluster
	Driver   providers.Typed[S]
	Provider string
	Addr     resource.Address
	Record   *state.Record // of the last apply

	ops int
	mu  sync.Mutex
	log []string
}

// Cleaned removes the deployment when the test ends, and tells what happened when it failed.
func (s *Site[S]) Cleaned() {
	s.T.Cleanup(func() {
		if s.Record != nil {
			s.Remove()
		}
		if s.T.Failed() {
			s.T.Log(strings.Join(s.log, "\n"))
		}
	})
}

// Note adds a line to what is told of a test that failed.
func (s *Site[S]) Note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, time.Now().Format("15:04:05.000 ")+text)
}

// Request is that of a step.
func (s *Site[S]) Request(op string, force bool) providers.ApplyRequest {
	return providers.ApplyRequest{OpID: op, Address: s.Addr, Action: resource.Update, Prior: s.Record, State: &state.Snapshot{Lineage: "test-of-" + s.Provider}, Force: force,
		Emit: func(e resource.Event) { s.Note(e.Message) }}
}

// Apply is a step under an id of its own.
func (s *Site[S]) Apply(ctx context.Context, spec S, force bool) (providers.Result, error) {
	s.ops++
	return s.ApplyAs(ctx, spec, s.Request(fmt.Sprintf("op-%d-%d", os.Getpid(), s.ops), force))
}

// ApplyAs carries a request out and keeps the record, also of one that failed on its way.
func (s *Site[S]) ApplyAs(ctx context.Context, spec S, req providers.ApplyRequest) (providers.Result, error) {
	res, err := s.Driver.Apply(ctx, spec, req)
	ref := res.Ref
	var failed *providers.RunError
	if errors.As(err, &failed) {
		ref = failed.Ref
	}
	if ref == nil {
		return res, err
	}
	rec := &state.Record{Address: s.Addr, Phase: resource.PhaseReady, Provider: s.Provider, Updated: time.Now()}
	var e1, e2 error
	rec.Ref, e1 = json.Marshal(ref)
	rec.Outputs, e2 = json.Marshal(res.Outputs)
	if err := errors.Join(e1, e2); err != nil {
		s.T.Fatal(err)
	}
	if err != nil && s.Record != nil {
		rec.Outputs = s.Record.Outputs
	}
	s.Record = rec
	return res, err
}

// Must is Apply of what has to work.
func (s *Site[S]) Must(spec S) providers.Result {
	s.T.Helper()
	res, err := s.Apply(s.T.Context(), spec, false)
	if err != nil {
		s.T.Fatal(err)
	}
	return res
}

// Read is the live state.
func (s *Site[S]) Read() providers.Object {
	s.T.Helper()
	o, err := s.Driver.Read(s.T.Context(), providers.ReadRequest{Address: s.Addr, Record: s.Record})
	if err != nil {
		s.T.Fatal(err)
	}
	return o
}

// Remove deletes the deployment.
func (s *Site[S]) Remove() {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.T.Context()), 3*time.Minute)
	defer cancel()
	if err := s.Driver.Delete(ctx, providers.DeleteRequest{OpID: "rm", Address: s.Addr, Record: s.Record, Emit: s.Request("", false).Emit}); err != nil {
		s.T.Error(err)
	}
	s.Record = nil
}

// NothingLeft fails when an object of the deployment is there, whoever made it.
func (s *Site[S]) NothingLeft(kinds ...string) {
	s.T.Helper()
	kinds = append(kinds, "all", "configmaps", "secrets", "endpointslices", "horizontalpodautoscalers", "persistentvolumeclaims")
	if left := s.Left("continuo.dev/address=deployment."+s.Addr.Name, kinds...); len(left) > 0 {
		s.T.Errorf("left behind: %v", left)
	}
}

// Captured waits until a request of a version is among those that the routers kept, which takes them a moment; look fetches them into a folder.
func (s *Site[S]) Captured(version int, look func() (dir string, err error)) {
	s.T.Helper()
	WaitFor(s.T, func() bool {
		s.T.Helper()
		dir, err := look()
		if err != nil {
			s.T.Fatal("captured:", err)
		}
		for rec, err := range capture.Records(dir, 1) {
			if err != nil {
				s.T.Fatal("captured:", err)
			}
			if rec.Version == version {
				return true
			}
		}
		return false
	})
}

// Logs is what the servers wrote last.
func (s *Site[S]) Logs() string {
	s.T.Helper()
	l, ok := any(s.Driver).(providers.Logger)
	if !ok {
		s.T.Fatalf("%T has no logs", s.Driver)
	}
	var out bytes.Buffer
	if err := l.Logs(s.T.Context(), providers.LogRequest{Record: s.Record, Lines: 5}, &out); err != nil {
		s.T.Errorf("logs: %v", err)
	}
	return out.String()
}

// ServedVersion is the version of a result.
func ServedVersion(t *testing.T, res providers.Result) int {
	t.Helper()
	out, ok := res.Outputs.(config.DeploymentOutputs)
	if !ok {
		t.Fatalf("outputs %T", res.Outputs)
	}
	return out.Version
}
