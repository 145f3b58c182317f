package kserve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/providers/watch"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Captured implements watch.Traffic: what the routers captured since the last look is copied to this machine.
func (d *deployment) Captured(ctx context.Context, addr resource.Address, rec *state.Record) (watch.Captured, error) {
	if rec == nil {
		return watch.Captured{}, fmt.Errorf("%s is not there yet; apply it first", addr)
	}
	if name, _, _ := strings.Cut(rec.Provider, "."); name != "kserve" {
		return watch.Captured{}, fmt.Errorf("%s is served by provider %q; give this monitor provider = %q too", addr, rec.Provider, rec.Provider)
	}
	c, front, err := d.routed(addr, rec)
	if err != nil {
		return watch.Captured{}, err
	}
	dir := filepath.Join(d.work.Dir, "captured", addr.Slug())
	serves, err := front.Capture(ctx, c, d.work.Key, dir)
	return watch.Captured{Version: serves.Number, Digest: resource.Digest(serves.Digest), Dir: dir}, err
}

// routed is a recorded deployment behind routers.
func (d *deployment) routed(addr resource.Address, rec *state.Record) (*kube.Client, rollout.Front, error) {
	c, err := d.cluster()
	if err != nil {
		return nil, rollout.Front{}, err
	}
	ref, domain, err := d.recorded(c, providers.ReadRequest{Address: addr, Record: rec})
	if err == nil && ref.Imported != "" {
		err = fmt.Errorf("%s: InferenceService %s was imported and has no router before it: nothing of its traffic is captured", addr, ref.Imported)
	}
	return c, rollout.Front{Name: ref.Name, Namespace: ref.Namespace, Address: addr, Project: ref.Project, ClusterDomain: domain}.WithDefaults(), err
}

// Logs implements providers.Logger: what the servers wrote, each line with its pod when there are several.
func (d *deployment) Logs(ctx context.Context, req providers.LogRequest, w io.Writer) error {
	if req.Record == nil {
		return errors.New("this deployment is not applied yet and has no log")
	}
	c, front, err := d.routed(req.Record.Address, req.Record)
	if err != nil {
		return err
	}
	if err := front.Logs(ctx, c, req, w); err != nil {
		return fmt.Errorf("%s: %w", req.Record.Address, err)
	}
	return nil
}
