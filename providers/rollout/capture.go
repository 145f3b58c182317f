package rollout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers/watch"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

const (
	takeAtOnce = 5000      // captured requests that a router is asked for at a time
	copyLimit  = 512 << 20 // bytes of captured requests on this machine
)

// Captured is what the deployment of a record was asked since the last look, for a monitor of the same provider: it is copied from the
// routers into the project's folder dir.
func (f Front) Captured(ctx context.Context, c *kube.Client, key []byte, dir string) (out watch.Captured, err error) {
	out.Dir = filepath.Join(dir, "captured", f.Address.Slug())
	s, err := load(ctx, c, f)
	if err != nil {
		return out, err
	}
	if s == nil {
		return out, fmt.Errorf("%s has no router in namespace %s; apply it first", f.Address, f.Namespace)
	}
	out.Version, out.Digest = s.Live.Current.Number, resource.Digest(s.Live.Current.Digest)
	token, err := f.token(key)
	if err != nil {
		return out, err
	}
	r := &routers{client: c, front: f, token: token}
	pods, err := r.pods(ctx)
	if err != nil {
		return out, err
	}
	to, err := capture.OpenCopy(ctx, out.Dir, copyLimit)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	for _, pod := range slices.Sorted(maps.Keys(pods)) {
		if err := r.take(ctx, pod, to); err != nil {
			return out, err
		}
	}
	return out, nil
}

// Monitored errors when a monitor of this provider cannot watch the deployment of a record.
func Monitored(a resource.Address, rec *state.Record, provider string) error {
	if rec == nil {
		return fmt.Errorf("%s is not there yet; apply it first", a)
	}
	if used, _, _ := strings.Cut(rec.Provider, "."); used != provider {
		return fmt.Errorf("%s is served by provider %q; give this monitor provider = %q too", a, rec.Provider, rec.Provider)
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
