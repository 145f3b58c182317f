//go:build linux || darwin

package runner

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
)

// freePort asks the kernel. The port is free again until rank 0 listens there; taken meanwhile, rank 0 fails with "address in use".
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a port for the ranks: %w", err)
	}
	_, text, err := net.SplitHostPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil {
		return 0, fmt.Errorf("find a port for the ranks: %w", err)
	}
	return strconv.Atoi(text)
}

// prepare makes what the contract promises to the command. What it returns watches inputs and a model that must not change.
func (s *supervisor) prepare() ([]*pathGuard, error) {
	var guards []*pathGuard
	for _, name := range slices.Sorted(maps.Keys(s.spec.Inputs)) {
		g, err := newGuard(fmt.Sprintf("the input %q", name), s.spec.Inputs[name])
		if err != nil {
			return nil, err
		}
		guards = append(guards, g)
	}
	params := s.spec.Params
	if params == nil {
		params = map[string]any{}
	}
	if err := s.folder.write(paramsFile, params); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.spec.CheckpointDir, 0o755); err != nil {
		return nil, fmt.Errorf("checkpoint folder: %w", err)
	}
	if s.spec.NeedModel {
		if err := os.MkdirAll(s.spec.ModelDir, 0o755); err != nil {
			return nil, fmt.Errorf("model folder: %w", err)
		}
		old, err := os.ReadDir(s.spec.ModelDir)
		if err != nil {
			return nil, fmt.Errorf("model folder: %w", err)
		}
		if len(old) > 0 {
			return nil, fmt.Errorf("model folder %s is not empty (%s); a training starts with an empty one", s.spec.ModelDir, old[0].Name())
		}
	}
	if !s.spec.ModelReadOnly {
		return guards, nil
	}
	g, err := newGuard("the model", s.spec.ModelDir)
	return append(guards, g), err
}
