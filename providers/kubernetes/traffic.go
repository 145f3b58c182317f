package kubernetes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/internal/kube"
	monitors "github.com/continuo-ml/continuo/providers/watch"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

const (
	takeAtOnce = 5000      // captured requests that a router is asked for at a time
	copyLimit  = 512 << 20 // bytes of captured requests on this machine
)

// Captured implements watch.Traffic: what the routers captured since the last look is copied to this machine.
func (d *deployment) Captured(ctx context.Context, addr resource.Address, rec *state.Record) (monitors.Captured, error) {
	if rec == nil {
		return monitors.Captured{}, fmt.Errorf("%s is not there yet; apply it first", addr)
	}
	if name, _, _ := strings.Cut(rec.Provider, "."); name != "kubernetes" {
		return monitors.Captured{}, fmt.Errorf("%s is served by provider %q; give this monitor provider = %q too", addr, rec.Provider, rec.Provider)
	}
	c, err := d.Cluster()
	if err != nil {
		return monitors.Captured{}, err
	}
	f, err := d.recorded(c, addr, rec.Ref, rec.Spec)
	if err != nil {
		return monitors.Captured{}, err
	}
	u, err := c.Get(ctx, kube.Ref{Version: gvkConfigMap.Version, Kind: gvkConfigMap.Kind, Namespace: f.Namespace, Name: f.Name})
	if errors.Is(err, kube.ErrNotFound) {
		return monitors.Captured{}, fmt.Errorf("%s has no router in namespace %s; apply it first", addr, f.Namespace)
	}
	if err != nil {
		return monitors.Captured{}, err
	}
	s, err := rolloutOf(u)
	if err != nil {
		return monitors.Captured{}, err
	}
	out := monitors.Captured{
		Version: s.Live.Current.Number, Digest: resource.Digest(s.Live.Current.Digest),
		Dir: filepath.Join(d.Work.Dir, "captured", addr.Slug()),
	}
	return out, d.copyCaptured(ctx, c, f, out.Dir)
}

// copyCaptured asks every router for what it captured since.
func (d *deployment) copyCaptured(ctx context.Context, c *kube.Client, f front, dir string) (err error) {
	token, err := d.token(f)
	if err != nil {
		return err
	}
	r := &routers{client: c, front: f, token: token}
	pods, err := r.pods(ctx)
	if err != nil {
		return err
	}
	to, err := capture.OpenCopy(ctx, dir, copyLimit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	for _, pod := range sortedNames(pods) {
		if err := r.take(ctx, pod, to); err != nil {
			return err
		}
	}
	return nil
}

// take copies what one router has, in answers of bounded size.
func (r *routers) take(ctx context.Context, pod string, to *capture.Copy) error {
	for {
		cursor := to.Cursor(pod)
		query := url.Values{"after": {cursor}, "limit": {fmt.Sprint(takeAtOnce)}}
		body, err := r.raw(ctx, pod, http.MethodGet, "/capture", query, nil)
		if err != nil {
			return err
		}
		var records []capture.Record
		dec := json.NewDecoder(bytes.NewReader(body))
		for dec.More() {
			var line gateway.CapturedRecord
			if err := dec.Decode(&line); err != nil {
				return fmt.Errorf("read what router pod %s captured: %w", pod, err)
			}
			records, cursor = append(records, line.Record), line.Cursor
		}
		if len(records) == 0 {
			return nil
		}
		if err := to.Append(pod, cursor, records); err != nil {
			return err
		}
	}
}

func sortedNames(pods map[string]bool) []string {
	out := make([]string, 0, len(pods))
	for name := range pods {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
