package kserve

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/kserve/internal/api"
	"github.com/continuo-ml/continuo/providers/rollout"
	"github.com/continuo-ml/continuo/providers/watch"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Captured implements watch.Traffic: what the routers captured since the last look is copied to this machine.
func (d *deployment) Captured(ctx context.Context, addr resource.Address, rec *state.Record) (watch.Captured, error) {
	if err := rollout.Monitored(addr, rec, "kserve"); err != nil {
		return watch.Captured{}, err
	}
	c, front, err := d.routed(addr, rec)
	if err != nil {
		return watch.Captured{}, err
	}
	return front.Captured(ctx, c, d.work.Key, d.work.Dir)
}

// routed is a recorded deployment behind routers.
func (d *deployment) routed(addr resource.Address, rec *state.Record) (*kube.Client, rollout.Front, error) {
	c, err := d.cluster()
	if err != nil {
		return nil, rollout.Front{}, err
	}
	f, ref, err := d.recorded(c, addr, rec)
	if err == nil && ref.Imported != "" {
		err = fmt.Errorf("%s: InferenceService %s was imported and has no router before it: nothing of its traffic is captured", addr, ref.Imported)
	}
	if err == nil && ref.Canary != "" {
		err = fmt.Errorf("%s: kserve { canary = %q } carries its requests, and captures none; a monitor needs kserve { canary = \"router\" }", addr, ref.Canary)
	}
	return c, f, err
}

// Logs implements providers.Logger.
func (d *deployment) Logs(ctx context.Context, req providers.LogRequest, w io.Writer) error {
	if req.Record == nil {
		return errors.New("this deployment is not applied yet and has no log")
	}
	c, err := d.cluster()
	if err != nil {
		return err
	}
	front, ref, err := d.recorded(c, req.Record.Address, req.Record)
	if err == nil && ref.Imported != "" {
		err = fmt.Errorf("%s: InferenceService %s was imported; see kubectl logs -l %s=%s", req.Record.Address, ref.Imported, api.Label, ref.Imported)
	}
	if err != nil {
		return err
	}
	return front.Logs(ctx, c, req, w)
}
