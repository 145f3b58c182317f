package rollout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/internal/gateway/capture"
	"github.com/continuo-ml/continuo/internal/kube"
)

const (
	takeAtOnce = 5000      // captured requests that a router is asked for at a time
	copyLimit  = 512 << 20 // bytes of captured requests on this machine
)

// Capture copies into dir what the routers captured since it was last called for that folder, and says which version serves. key is the
// project's.
func (f Front) Capture(ctx context.Context, c *kube.Client, key []byte, dir string) (serves gateway.Version, err error) {
	s, err := Load(ctx, c, f)
	if err != nil {
		return serves, err
	}
	if s == nil {
		return serves, fmt.Errorf("%s has no router in namespace %s; apply it first", f.Address, f.Namespace)
	}
	token, err := f.token(key)
	if err != nil {
		return serves, err
	}
	r := &routers{client: c, front: f, token: token}
	pods, err := r.pods(ctx)
	if err != nil {
		return serves, err
	}
	to, err := capture.OpenCopy(ctx, dir, copyLimit)
	if err != nil {
		return serves, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	for _, pod := range sortedNames(pods) {
		if err := r.take(ctx, pod, to); err != nil {
			return serves, err
		}
	}
	return s.Live.Current, nil
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
