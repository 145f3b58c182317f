package runs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/continuo-ml/continuo/providers"
)

// Import makes version 1 of a model that was trained before: id is a folder inside the project that holds its files. They are
// copied into the artifact store; the folder stays as it is.
func (t *training) Import(ctx context.Context, id string, req providers.ApplyRequest) (providers.Result, error) {
	if !filepath.IsLocal(filepath.FromSlash(id)) {
		return providers.Result{}, fmt.Errorf("%s: %q is not a folder inside the project; copy the model's files into it and name that folder", req.Address, id)
	}
	dir := filepath.Join(t.Root, filepath.FromSlash(id))
	info, err := os.Lstat(dir)
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: import %s: %w", req.Address, id, err)
	}
	if !info.IsDir() {
		return providers.Result{}, fmt.Errorf("%s: %s is not a folder; import the folder that holds the model's files", req.Address, id)
	}
	o, err := t.begin(ctx, req)
	if err != nil {
		return providers.Result{}, err
	}
	made, err := t.exec.Import(ctx, req.Address, dir)
	if err != nil {
		return providers.Result{}, fmt.Errorf("%s: import %s: %w", req.Address, id, err)
	}
	return t.result(o, trained{Made: made}), nil
}
