package watch

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/drift"
	"github.com/continuo-ml/continuo/internal/tabular"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

const (
	// maxReference bounds the rows of a reference; of more a sample that is the same each time stays. Beyond it the statistics
	// move less than any threshold can see.
	maxReference = 50_000
	// maxCodes is how many different numbers a target may have and still be classes.
	maxCodes = 20
	// maxReferences bounds how many loaded references a process keeps.
	maxReferences = 32
)

// reference is the data that traffic is compared with.
type reference struct {
	columns  []string
	features []string // in the order of an instance that is a list
	samples  map[string]drift.Sample
	target   string
	classes  map[float64]bool // of a target with few numbers
}

// dataSource is where data lies and what its dataset says of its columns.
type dataSource struct {
	paths  []string
	Digest string `json:"digest"`
	declared
}

// declared is the part of a dataset's recorded body that monitors need.
type declared struct {
	Target    string `json:"target"`
	ID        string `json:"id"`
	Timestamp string `json:"timestamp"`
	Format    string `json:"format"`
	Columns   []struct {
		Name string       `json:"name"`
		Type tabular.Type `json:"type"`
	} `json:"column"`
}

// source finds a dataset's or a split's files, and what is declared of it.
func source(w *runs.Workspace, d config.Data, snap *state.Snapshot) (dataSource, error) {
	s := dataSource{Digest: d.Digest}
	path, err := w.InputPath(d.Path)
	if err != nil {
		return s, err
	}
	if s.paths, err = runs.FilesUnder(path); err != nil {
		return s, err
	}
	addr, err := resource.ParseAddress(d.Address)
	if err != nil || snap == nil || snap.Records[addr] == nil || len(snap.Records[addr].Spec) == 0 {
		return s, nil // data that no record describes has inferred columns only
	}
	if err := json.Unmarshal(snap.Records[addr].Spec, &s.declared); err != nil {
		return s, fmt.Errorf("read the record of %s: %w", addr, err)
	}
	return s, nil
}

// newest is the data as its dataset was frozen last: labels arrive after the monitor was applied.
func newest(d config.Data, snap *state.Snapshot) config.Data {
	addr, err := resource.ParseAddress(d.Address)
	if err != nil || snap == nil || snap.Records[addr] == nil {
		return d
	}
	type version struct {
		Digest string `json:"digest"`
		Path   string `json:"path"`
	}
	var out struct {
		version
		Split map[string]version `json:"split"`
	}
	if json.Unmarshal(snap.Records[addr].Outputs, &out) != nil {
		return d // outputs of another shape: what the monitor was applied with stands
	}
	v := out.version
	if d.Name != "" {
		v = out.Split[d.Name]
	}
	if v.Path != "" {
		d.Path, d.Digest = v.Path, v.Digest
	}
	return d
}

// reference loads the reference of a monitor, once per process.
func (m *monitor) reference(ctx context.Context, spec config.Monitor, snap *state.Snapshot) (*reference, error) {
	src, err := source(m.Workspace, *spec.Reference, snap)
	if err != nil {
		return nil, fmt.Errorf("reference: %w", err)
	}
	raw, err := json.Marshal([]any{src, src.paths, spec.Features})
	if err != nil {
		return nil, fmt.Errorf("reference: %w", err)
	}
	key := string(raw)
	m.mu.Lock()
	known := m.references[key]
	m.mu.Unlock()
	if known != nil {
		return known, nil
	}
	ref, err := loadReference(ctx, src, spec.Features)
	if err != nil {
		return nil, fmt.Errorf("reference: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.references == nil || len(m.references) >= maxReferences {
		m.references = map[string]*reference{}
	}
	m.references[key] = ref
	return ref, nil
}

func loadReference(ctx context.Context, src dataSource, features []string) (*reference, error) {
	opts := tabular.Options{MaxRows: maxReference, Format: src.Format}
	for _, c := range src.Columns {
		if c.Type != "" {
			opts.Declared = append(opts.Declared, tabular.Field{Name: c.Name, Type: c.Type})
		}
	}
	table, err := tabular.Load(ctx, src.paths, opts)
	if err != nil {
		return nil, err
	}
	ref := &reference{columns: table.Schema.Names(), features: features, samples: map[string]drift.Sample{}}
	for i := range table.Columns {
		c := &table.Columns[i]
		ref.samples[c.Name] = drift.FromColumn(c)
		if len(features) == 0 && c.Name != src.Target && c.Name != src.ID && c.Name != src.Timestamp {
			ref.features = append(ref.features, c.Name)
		}
	}
	if s, ok := ref.samples[src.Target]; ok {
		ref.target, ref.classes = src.Target, codes(s)
	}
	return ref, nil
}

// codes are the different numbers of a target that has few of them, or nil.
func codes(s drift.Sample) map[float64]bool {
	if !s.Numeric {
		return nil
	}
	out := map[float64]bool{}
	for _, f := range s.Numbers {
		if out[f] = true; len(out) > maxCodes {
			return nil
		}
	}
	return out
}
