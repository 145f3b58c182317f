package oci

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// op is one operation. Its folder says that it began before anything leaves this machine, and what it made afterwards. Building
// again what was interrupted is safe: it makes the same image, of which the registry has parts.
type op struct {
	p   *pack
	req providers.ApplyRequest
	dir string
}

const (
	startedFile = "package-started.json"
	resultFile  = "package.json"
)

// begin finds the operation of a request. Adopting one that never began is ErrAbsent.
func (p *pack) begin(req providers.ApplyRequest) (*op, error) {
	id := req.OpID
	if id == "" || !filepath.IsLocal(id) || strings.ContainsAny(id, `/\`) {
		return nil, fmt.Errorf("%s: operation id %q cannot name a folder", req.Address, id)
	}
	o := &op{p: p, req: req, dir: filepath.Join(p.w.Dir, "runs", id)}
	if !req.Adopt {
		return o, nil
	}
	var mark struct{}
	began, err := durable.ReadJSON(filepath.Join(o.dir, startedFile), &mark)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.Address, err)
	}
	if !began {
		return nil, fmt.Errorf("%s: operation %s: %w", req.Address, id, providers.ErrAbsent)
	}
	return o, nil
}

func (o *op) start() error {
	return durable.WriteJSON(filepath.Join(o.dir, startedFile), struct {
		Address string `json:"address"`
	}{o.req.Address.String()})
}

func (o *op) recall() (made built, known bool, err error) {
	known, err = durable.ReadJSON(filepath.Join(o.dir, resultFile), &made)
	return made, known, err
}

func (o *op) done(made built) error { return durable.WriteJSON(filepath.Join(o.dir, resultFile), made) }

func (o *op) log(format string, args ...any) {
	emit(o.req.Emit, o.req.Address, o.req.Action, resource.Event{Time: o.p.w.Now(), Type: resource.EventLog, Message: fmt.Sprintf(format, args...)})
}
