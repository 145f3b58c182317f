package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/oklog/ulid/v2"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Logs writes the log of a run, or of what an address runs now: an open intent's
// run first, then the record's. The block's sensitive values are taken out of it.
func (e *Engine) Logs(ctx context.Context, snap *state.Snapshot, addr resource.Address, run string, follow bool, lines int, w io.Writer) error {
	rec := snap.Records[addr]
	req := providers.LogRequest{Record: rec, Follow: follow, Lines: lines}
	provider := ""
	if rec != nil {
		provider = rec.Provider
	}
	for _, in := range snap.Intents {
		if in.Address == addr && run == "" {
			req.OpID, provider = in.OpID, in.Provider
		}
	}
	if run != "" {
		req.OpID = run
	}
	if rec == nil && req.OpID == "" {
		return fmt.Errorf("%s has not run yet", addr)
	}
	if provider == "" {
		return fmt.Errorf("%s is not in the state", addr)
	}
	d, err := e.driver(ctx, provider, addr.Kind)
	if err != nil {
		return err
	}
	l, ok := providers.As[providers.Logger](d)
	if !ok {
		return fmt.Errorf("%s keeps no log", addr)
	}
	if req.OpID == "" && rec.Run != "" {
		req.OpID = rec.Run
	}
	// Whoever reads a log may read less than the files: the command may have printed what they call sensitive.
	h := &hidingWriter{to: w, hide: e.hidingLog(addr, snap)}
	return errors.Join(l.Logs(ctx, req, h), h.flush())
}

// Import takes an existing object under management: the driver finds it by id
// and the engine records it as if it had applied it.
func (s *Session) Import(ctx context.Context, addr resource.Address, id string) (*state.Record, error) {
	blk := s.e.Project.Block(addr)
	if blk == nil {
		return nil, fmt.Errorf("no file declares %s; write its block first, then import into it", addr)
	}
	if s.now.record(addr) != nil {
		return nil, fmt.Errorf("%s is in the state already; ml state rm %s forgets it", addr, addr.Arg())
	}
	d, err := s.e.driver(ctx, blk.Provider, blk.Kind.Name)
	if err != nil {
		return nil, err
	}
	f, err := s.imported(ctx, addr)
	if err != nil {
		return nil, err
	}
	in := &state.Intent{
		OpID: ulid.Make().String(), Address: addr, Provider: blk.Provider, Action: resource.Import,
		Inputs: f.Inputs, Parts: f.Parts, Policy: f.Policy, Judge: f.Judge, Rows: f.Rows, Probes: f.Probes,
		Reasons: []resource.Reason{{Code: resource.ReasonImported, New: id, Message: "imported from " + id}},
		Spec:    f.Spec, Deps: f.Deps, Seen: f.Seen, Epoch: s.epoch, Started: s.e.Now().UTC(),
	}
	return s.perform(ctx, &work{intent: in, kind: blk.Kind, driver: d, spec: unmarked(f.Value), importID: id, post: s.postconditions(addr)})
}

// imported evaluates a block as a plan would, so that the plan after the import
// is empty. It errors when the block needs what does not exist yet.
func (s *Session) imported(ctx context.Context, addr resource.Address) (*planner.Final, error) {
	p, err := s.Plan(ctx, PlanOptions{Options: planner.Options{Targets: []resource.Address{addr}, Only: true}})
	if err != nil {
		return nil, err
	}
	for _, st := range p.Plan.Steps {
		if st.Address == addr {
			return planner.NewConfirmer(p.Input, p.Plan).Confirm(st, planner.Probe{})
		}
	}
	for _, d := range p.Plan.Diagnostics {
		return nil, fmt.Errorf("%s: %s", d.Summary, d.Detail)
	}
	return nil, fmt.Errorf("%s has nothing to import into", addr)
}
