package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/providers/watch"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Captured implements watch.Traffic: the gateway's own folder.
func (d *deployment) Captured(_ context.Context, addr resource.Address, rec *state.Record) (watch.Captured, error) {
	var ref json.RawMessage
	if rec != nil {
		if name, _, _ := strings.Cut(rec.Provider, "."); name != "" && name != "local" {
			return watch.Captured{}, fmt.Errorf("%s is served by provider %q; give this monitor provider = %q too", addr, rec.Provider, rec.Provider)
		}
		ref = rec.Ref
	}
	dir, err := d.recordedDir(addr, ref)
	if err != nil {
		return watch.Captured{}, err
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return watch.Captured{}, fmt.Errorf("%s has no gateway on this machine; apply it first", addr)
	} else if err != nil {
		return watch.Captured{}, err
	}
	live, err := gateway.Read(dir)
	return watch.Captured{Version: live.Current.Number, Digest: resource.Digest(live.Current.Digest), Dir: gateway.CaptureDir(dir)}, err
}
