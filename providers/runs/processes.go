package runs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// Processes executes stages as detached processes of this machine.
type Processes struct{ W *Workspace }

// Admit implements Executor.
func (p Processes) Admit(req providers.ApplyRequest) error {
	var s struct {
		Image string `ml:"image"`
		Nodes int    `ml:"nodes"`
	}
	if err := resource.Decode(req.Spec, &s); err != nil {
		return fmt.Errorf("read its attributes: %w", err)
	}
	if s.Nodes > 1 {
		return fmt.Errorf("nodes = %d needs a cluster provider, such as kubernetes or kubeflow; this machine is one: set processes_per_node instead", s.Nodes)
	}
	if req.Address.Kind == "training" {
		// Before it trains for hours: its model needs a place.
		if _, err := p.W.artifactsDir(); err != nil {
			return err
		}
	}
	if s.Image != "" {
		req.Emit(resource.Event{
			Time: p.W.Now(), Type: resource.EventLog, Address: req.Address.String(), Action: req.Action,
			Message: fmt.Sprintf("image %s is not used: the local provider runs the command on this machine", s.Image),
		})
	}
	return nil
}

// Read implements Executor.
func (p Processes) Read(_ context.Context, dir string) (runner.Status, error) {
	return runner.Read(dir)
}

// Start implements Executor: models are checked out first.
func (p Processes) Start(ctx context.Context, dir string, s Stage) error {
	spec := s.Spec
	spec.Inputs = make(map[string]string, len(s.Inputs))
	var err error
	for name, in := range s.Inputs {
		if spec.Inputs[name], err = p.path(ctx, in); err != nil {
			return err
		}
	}
	if s.Model != nil {
		if spec.ModelDir, err = p.path(ctx, *s.Model); err != nil {
			return err
		}
		spec.ModelReadOnly = true
	}
	if s.Output != "" {
		spec.ExtraEnv = map[string]string{"ML_OUTPUT": s.Output}
	}
	if spec.CheckpointDir != "" {
		if err := mkdir(filepath.Dir(spec.CheckpointDir)); err != nil {
			return err
		}
	}
	return runner.Start(ctx, dir, spec)
}

func (p Processes) path(ctx context.Context, in Input) (string, error) {
	if in.IsModel() {
		return p.W.checkout(ctx, in.Model)
	}
	return in.Path, nil
}

// Wait implements Executor.
func (p Processes) Wait(ctx context.Context, dir string, on func(runner.Progress)) (runner.Status, error) {
	return runner.Wait(ctx, dir, on)
}

// Cancel implements Executor.
func (p Processes) Cancel(ctx context.Context, dir string, grace time.Duration) error {
	return runner.Cancel(ctx, dir, grace)
}

// Follow implements Executor.
func (p Processes) Follow(ctx context.Context, dir string, w io.Writer) error {
	return runner.Follow(ctx, dir, w)
}

// Reports implements Executor: the command ran in the project folder.
func (p Processes) Reports(string) string { return p.W.Root }

// Store implements Executor.
func (p Processes) Store(ctx context.Context, addr resource.Address, dir string) (Made, error) {
	return p.Import(ctx, addr, filepath.Join(dir, "model"))
}

// Import implements Executor.
func (p Processes) Import(ctx context.Context, _ resource.Address, dir string) (Made, error) {
	if err := ctx.Err(); err != nil {
		return Made{}, err
	}
	store, err := p.W.Store()
	if err != nil {
		return Made{}, err
	}
	hex, manifest, err := store.PutDir(dir)
	if err != nil {
		return Made{}, err
	}
	uri, err := p.W.modelURI(hex)
	return Made{Digest: resource.DigestOfHex(hex), Bytes: manifest.Bytes(), URI: uri}, err
}

// Stored implements Executor. What a cluster trained may be here, or still in its registry.
func (p Processes) Stored(ctx context.Context, m Made) error {
	store, err := p.W.Store()
	if err != nil {
		return err
	}
	_, err = store.Manifest(m.Digest.Hex())
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(m.URI, oci.Scheme) {
		return err
	}
	_, err = registry().Resolve(ctx, m.URI)
	if errors.Is(err, oci.ErrNotFound) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}
