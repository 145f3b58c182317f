package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
)

// servingNames are the variables that a server gets from the contract.
var servingNames = []string{"ML_CODE_DIGEST", "ML_MODEL_DIR", "ML_RUN_ID", "PORT", "PREDICTOR_HOST"}

// preloads are taken from the caller only when they are named in full: a glob such as `LD_*` means the library path.
var preloads = []string{"DYLD_INSERT_LIBRARIES", "LD_AUDIT", "LD_PRELOAD"}

// desired is what the gateway shall serve. The model lies in a folder of its own, outside of the cache: whoever empties that must
// not take the files from under a server.
func (d *deployment) desired(ctx context.Context, spec config.Deployment, req providers.ApplyRequest) (gateway.Desired, error) {
	if len(spec.Command) == 0 {
		return gateway.Desired{}, errors.New("the local provider serves with a command; add command = [\"python3\", \"serve.py\"], or name a cluster provider for image and format")
	}
	if n := spec.Replicas; n < 1 || n > gateway.MaxReplicas {
		return gateway.Desired{}, fmt.Errorf("replicas: the local provider runs 1 to %d servers, not %d; destroy the deployment to stop serving", gateway.MaxReplicas, n)
	}
	if spec.Model == nil || spec.Model.Digest == "" {
		return gateway.Desired{}, errors.New("there is no model version to serve yet")
	}
	model, err := d.servedModel(ctx, runs.Made{Digest: resource.Digest(spec.Model.Digest), URI: spec.Model.URI})
	if err != nil {
		return gateway.Desired{}, err
	}
	server, err := d.server(spec, req)
	if err != nil {
		return gateway.Desired{}, err
	}
	sink, err := d.sink(spec.Sink)
	if err != nil {
		return gateway.Desired{}, err
	}
	want := gateway.Desired{
		Name: req.Address.Slug(), Address: req.Address.String(), Port: spec.Port,
		Model:  gateway.Version{Number: spec.Model.Version, Digest: spec.Model.Digest, Dir: model},
		Server: server, Rollout: rollout(spec.Rollout, req.Force), Drain: spec.Drain, Sink: sink,
		Capture: gateway.Capture{Enabled: true}, Force: req.Force,
	}
	if spec.Readiness != nil {
		want.Readiness = gateway.Readiness{Path: spec.Readiness.Path, Timeout: spec.Readiness.Timeout}
	}
	if c := spec.Capture; c != nil {
		want.Capture = gateway.Capture{Enabled: c.Enabled, MaxBytes: c.MaxMB << 20}
	}
	if t := spec.Transformer; t != nil {
		env := maps.Clone(server.Env)
		maps.Copy(env, t.Env)
		want.Transformer = &gateway.Server{Command: t.Command, Dir: d.Root, Env: env}
	}
	if spec.Scale != nil {
		req.Emit(resource.Event{Time: d.Now(), Type: resource.EventLog, Address: req.Address.String(), Action: req.Action,
			Message: "scale is not used: the local provider runs as many servers as replicas says"})
	}
	return want, nil
}

// servedModel checks a version out, read-only.
func (d *deployment) servedModel(ctx context.Context, m runs.Made) (string, error) {
	digest := m.Digest
	dir := filepath.Join(d.Dir, "models", digest.Hex())
	if err := durable.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	store, err := d.Models(ctx, m)
	if err == nil {
		err = store.Checkout(digest.Hex(), dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("model %s is not in the artifact store; was it pruned, or trained elsewhere? Train it again: %w", digest.Short(), err)
	}
	if err != nil {
		return "", fmt.Errorf("model %s: %w", digest.Short(), err)
	}
	return dir, nil
}

// server is the command with its environment. The digest of its code is part of it, so that new code is rolled out like a new
// version; nothing in it moves from one apply to the next by itself, which would restart servers.
func (d *deployment) server(spec config.Deployment, req providers.ApplyRequest) (gateway.Server, error) {
	for name := range spec.Env {
		if slices.Contains(servingNames, name) {
			return gateway.Server{}, fmt.Errorf("env: %s is set by the runner contract; choose another name", name)
		}
	}
	env := map[string]string{
		// A log that lags by a buffer is of no use when the server dies; a model with code in it must stay as it is.
		"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1",
	}
	passed, err := d.passed(spec.PassEnv)
	if err != nil {
		return gateway.Server{}, err
	}
	maps.Copy(env, spec.Env)
	env["ML_RUN_ID"] = fmt.Sprintf("%s.v%d", req.Address.Slug(), spec.Model.Version)
	if code := req.Probed["code"]; code != "" {
		env["ML_CODE_DIGEST"] = code
	}
	return gateway.Server{Command: spec.Command, Dir: d.Root, Env: env, PassEnv: passed, Replicas: spec.Replicas}, nil
}

// passed are the names of the caller's variables that pass_env names, sorted. Servers get their values from the environment that
// the gateway was started in, so that they stand in no file; a gateway that runs already keeps those it has.
func (d *deployment) passed(patterns []string) ([]string, error) {
	var out []string
	if len(patterns) == 0 || d.Environ == nil {
		return out, nil
	}
	for _, kv := range d.Environ() {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || name == "" || slices.Contains(servingNames, name) {
			continue
		}
		for _, p := range patterns {
			match, err := path.Match(p, name)
			if err != nil {
				return nil, fmt.Errorf("pass_env: %q is not a glob: %w", p, err)
			}
			if p == name || match && !slices.Contains(preloads, name) {
				out = append(out, name)
				break
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// rollout translates the block. Whoever forces a version acts at once.
func rollout(r *config.Rollout, force bool) gateway.Rollout {
	if r == nil || force {
		return gateway.Rollout{Strategy: gateway.Rolling}
	}
	out := gateway.Rollout{
		Strategy: r.Strategy, Steps: r.Steps, Interval: r.Interval, OnNoTraffic: r.OnNoTraffic,
		MaxWait: r.MaxWait, ShadowRequests: r.Requests,
	}
	if a := r.Abort; a != nil {
		out.Abort = gateway.Abort{ErrorRate: a.ErrorRate, P99: a.P99, MinRequests: a.MinRequests}
	}
	return out
}

// sink resolves where answers go. A file must lie inside the project and outside of `.ml`.
func (d *deployment) sink(s *config.Sink) (_ *gateway.Sink, err error) {
	if s == nil || s.URL == "" && s.File == "" {
		return nil, nil
	}
	if s.File == "" {
		return &gateway.Sink{URL: s.URL}, nil
	}
	file := filepath.Clean(filepath.FromSlash(s.File))
	at := filepath.Join(d.Root, file)
	if !filepath.IsLocal(file) || file == "." || at == d.Dir || strings.HasPrefix(at, d.Dir+string(filepath.Separator)) {
		return nil, fmt.Errorf("sink.file: %q must be a file inside the project and outside of .ml", s.File)
	}
	root, err := os.OpenRoot(d.Root)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := durable.MkdirIn(root, filepath.Dir(file)); err != nil {
		return nil, fmt.Errorf("sink.file: %w", err)
	}
	info, err := root.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("sink.file: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("sink.file: %q is not a regular file", s.File)
	}
	return &gateway.Sink{File: at}, nil
}
