package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/tabular"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Traffic is where the requests that a deployment answered are found.
type Traffic interface {
	// Captured returns what was captured of the deployment at addr; rec is its record, nil if there is none. It errors when
	// there is nothing that captures.
	Captured(ctx context.Context, addr resource.Address, rec *state.Record) (Captured, error)
}

// Captured is a deployment as monitors see it.
type Captured struct {
	// Version and Digest are those that serve now; 0 when none does.
	Version int
	Digest  resource.Digest
	// Dir is a folder on this machine with the captured requests, as internal/gateway/capture writes it.
	Dir string
}

// Monitors serves the monitor kind over what t has captured.
func Monitors(w *runs.Workspace, t Traffic) providers.Driver {
	return providers.For(&monitor{Workspace: w, traffic: t})
}

// monitor judges what a deployment's gateway captured. It has no process and no files: its signals are the state's, and every
// observation evaluates the windows that are complete since the last one.
type monitor struct {
	*runs.Workspace
	traffic Traffic

	mu         sync.Mutex
	references map[string]*reference // loaded ones, for as long as this process lives
}

// Apply implements providers.Typed. It makes nothing; it finds out now what would keep the monitor from seeing later.
func (m *monitor) Apply(ctx context.Context, spec config.Monitor, req providers.ApplyRequest) (providers.Result, error) {
	if err := m.check(ctx, spec, req.State); err != nil {
		return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
	}
	known := map[string]*state.Signal{}
	if req.State != nil {
		for _, s := range req.State.Signals[req.Address] {
			known[s.Name] = s
		}
	}
	signal := func(name string) *config.Signal {
		s := &config.Signal{Address: req.Address.String(), Name: name, State: string(resource.SignalTooFew)}
		if k := known[name]; k != nil {
			s.State, s.Epoch = string(k.State), k.Epoch
		}
		return s
	}
	out := config.MonitorOutputs{Address: req.Address.String()}
	if spec.Drift != nil {
		out.Drift = signal(signalDrift)
	}
	if spec.Performance != nil {
		out.Performance = signal(signalPerformance)
	}
	if spec.Latency != nil {
		out.Latency = signal(signalLatency)
	}
	return providers.Result{Outputs: out, Message: "watches " + spec.Deployment.Address}, nil
}

// check reads what the monitor will read.
func (m *monitor) check(ctx context.Context, spec config.Monitor, snap *state.Snapshot) error {
	if _, err := m.captured(ctx, spec, snap); err != nil {
		return err
	}
	if spec.Drift != nil {
		if err := m.checkDrift(ctx, spec, snap); err != nil {
			return err
		}
	}
	if p := spec.Performance; p != nil {
		if err := checkMetrics(p.Metrics); err != nil {
			return err
		}
		src, err := source(m.Workspace, *p.Labels, snap)
		if err != nil {
			return fmt.Errorf("labels: %w", err)
		}
		r, err := tabular.Open(ctx, src.paths, tabular.Options{Format: src.Format})
		if err != nil {
			return fmt.Errorf("labels: %w", err)
		}
		names := r.Schema()
		if err := r.Close(); err != nil {
			return fmt.Errorf("labels: %w", err)
		}
		return hasColumns(names, cmpOr(p.ID, defaultID), p.Label)
	}
	return nil
}

// hasColumns errors, naming it, on a column that labels lack.
func hasColumns(s tabular.Schema, names ...string) error {
	for _, n := range names {
		if _, ok := s.Field(n); !ok {
			return fmt.Errorf("labels: there is no column %q; the data has %q", n, s.Names())
		}
	}
	return nil
}

func (m *monitor) checkDrift(ctx context.Context, spec config.Monitor, snap *state.Snapshot) error {
	if spec.Reference == nil {
		return errors.New("drift needs a reference; add reference = dataset.NAME.split.train")
	}
	ref, err := m.reference(ctx, spec, snap)
	if err != nil {
		return err
	}
	named := append([]string{}, spec.Features...)
	named = append(named, spec.Drift.Columns...)
	for _, o := range spec.Drift.Overrides {
		named = append(named, o.Name)
	}
	for _, n := range named {
		if _, ok := ref.samples[n]; !ok {
			return fmt.Errorf("the reference has no column %q; it has %q", n, ref.columns)
		}
	}
	if p := spec.Drift.Predictions; p != nil && *p && ref.target == "" {
		return errors.New("drift.predictions compares predictions with the reference's target; name it with target = \"…\" in its dataset")
	}
	return nil
}

// Read implements providers.Typed: there is nothing outside that could have changed.
func (m *monitor) Read(context.Context, providers.ReadRequest) (providers.Object, error) {
	return providers.Object{Phase: resource.PhaseReady}, nil
}

// Delete implements providers.Typed.
func (m *monitor) Delete(context.Context, providers.DeleteRequest) error { return nil }

// captured finds the deployment by its record, and what was captured of it.
func (m *monitor) captured(ctx context.Context, spec config.Monitor, snap *state.Snapshot) (Captured, error) {
	if spec.Deployment == nil || spec.Deployment.Address == "" {
		return Captured{}, errors.New("deployment: none is named")
	}
	addr, err := resource.ParseAddress(spec.Deployment.Address)
	if err != nil {
		return Captured{}, fmt.Errorf("deployment: %w", err)
	}
	var rec *state.Record
	if snap != nil {
		rec = snap.Records[addr]
	}
	return m.traffic.Captured(ctx, addr, rec)
}
