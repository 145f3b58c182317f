package bolt

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/statetest"
)

// bigRecord is a record of about 1 KB, as a training's is.
func bigRecord(i int) *state.Record {
	parts := resource.Parts{}
	for _, p := range []string{"command", "code", "inputs.train", "params.epochs", "env.SEED"} {
		parts[p] = string(resource.DigestOf([]byte(p + fmt.Sprint(i))))
	}
	return &state.Record{
		Address:  resource.Address{Module: "module.m", Kind: "training", Name: fmt.Sprintf("t%d", i)},
		Provider: "local", Phase: resource.PhaseReady, Parts: parts, Inputs: parts.Digest(),
		Spec:    json.RawMessage(`{"command":["python3","train.py"],"timeout":"10m","params":{"epochs":300,"rate":0.1},"note":"` + strings.Repeat("x", 200) + `"}`),
		Outputs: json.RawMessage(`{"version":3,"model":{"name":"t","digest":"sha256:0000","metrics":{"f1":0.93}}}`),
		Deps:    []resource.Address{{Module: "module.m", Kind: "dataset", Name: fmt.Sprintf("d%d", i/10)}},
		Created: statetest.Time, Updated: statetest.Time, Run: "01ABC",
	}
}

func bigOps(records, runs int) []state.Op {
	ops := make([]state.Op, 0, records+runs)
	for i := range records {
		ops = append(ops, state.Op{PutRecord: bigRecord(i)})
	}
	for i := range runs {
		ops = append(ops, state.Op{PutRun: &state.Run{
			ID: fmt.Sprintf("01R%06d", i), Address: bigRecord(i).Address, Inputs: resource.DigestOf([]byte(fmt.Sprint(i))),
			Phase: resource.PhaseReady, Metrics: map[string]float64{"f1": 0.9}, Started: statetest.Time, Finished: statetest.Time,
		}})
	}
	return ops
}

func filled(b testing.TB, records, runs int) *Store {
	s := Open(filepath.Join(b.TempDir(), "state.db"), Options{})
	if _, err := s.Commit(b.Context(), 0, bigOps(records, runs)...); err != nil {
		b.Fatal(err)
	}
	return s
}

func BenchmarkSnapshot10000(b *testing.B) {
	s := filled(b, 10_000, 7_500)
	b.ReportAllocs()
	for b.Loop() {
		snap, err := s.Snapshot(b.Context())
		if err != nil || len(snap.Records) != 10_000 || len(snap.Runs) != 7_500 {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommit10000 commits 10,000 records one by one, 64 at a time, as the
// steps of an apply do.
func BenchmarkCommit10000(b *testing.B) {
	for b.Loop() {
		s := Open(filepath.Join(b.TempDir(), "state.db"), Options{})
		_, release, err := s.Acquire(b.Context(), "apply")
		if err != nil {
			b.Fatal(err)
		}
		next := make(chan int)
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for i := range next {
					if _, err := s.Commit(b.Context(), 0, state.Op{PutRecord: bigRecord(i)}); err != nil {
						b.Error(err)
					}
				}
			})
		}
		for i := range 10_000 {
			next <- i
		}
		close(next)
		wg.Wait()
		if err := release(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommitOne is one small commit on a state of 10,000 records.
func BenchmarkCommitOne(b *testing.B) {
	s := filled(b, 10_000, 7_500)
	_, release, err := s.Acquire(b.Context(), "apply")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Commit(b.Context(), 0, state.Op{PutRecord: bigRecord(3)}); err != nil {
			b.Fatal(err)
		}
	}
	if err := release(); err != nil {
		b.Fatal(err)
	}
}
