package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/modelformat"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/resource"
)

// model puts a version's files on this machine, and looks at their format. It errors when loading them would run code and nobody
// said that this may be.
func (p *pack) model(ctx context.Context, m config.Model, trust bool, o *op) (modelformat.Found, string, error) {
	dir, err := p.fetch(ctx, m)
	if err != nil {
		return modelformat.Found{}, "", fmt.Errorf("version %d of %s: %w", m.Version, m.Address, err)
	}
	found, err := modelformat.Detect(os.DirFS(dir))
	if err != nil {
		return found, "", fmt.Errorf("version %d of %s: %w", m.Version, m.Address, err)
	}
	if !found.RunsCode() {
		return found, dir, nil
	}
	if !trust {
		return found, "", notTrusted(m, found)
	}
	for _, c := range found.Code {
		o.log("trusted: %s", c)
	}
	return found, dir, nil
}

// fetch returns a folder with the files of a version, checked against its digest. The folder is the cache in which they stand for
// commands, too.
func (p *pack) fetch(ctx context.Context, m config.Model) (string, error) {
	d := resource.Digest(m.Digest)
	if len(d.Hex()) != 64 {
		return "", fmt.Errorf("%q is no digest of a model", m.Digest)
	}
	dir := filepath.Join(p.w.Dir, "cache", "models", d.Hex())
	var get func() error
	switch {
	case strings.HasPrefix(m.URI, oci.Scheme):
		get = func() error { return p.pull(ctx, m.URI, d, dir) }
	case strings.Contains(m.URI, "://") || filepath.Base(filepath.Dir(m.URI)) != "manifests":
		return "", fmt.Errorf("its files are at %q, which is neither in an artifact store on this machine nor in a registry", m.URI)
	default:
		store := filepath.Dir(filepath.Dir(p.w.Abs(filepath.FromSlash(m.URI))))
		if _, err := os.Stat(store); err != nil {
			return "", fmt.Errorf("its files are in an artifact store that is not on this machine: %w", err)
		}
		get = func() error { return checkout(store, d, dir) }
	}
	if err := get(); err != nil {
		return "", err
	}
	return dir, nil
}

// checkout puts an artifact of a store into dir. A folder that holds something else, because a command wrote into it, is made
// anew.
func checkout(store string, d resource.Digest, dir string) error {
	s, err := files.OpenStore(store)
	if err != nil {
		return err
	}
	err = s.Checkout(d.Hex(), dir)
	if errors.Is(err, files.ErrOccupied) {
		if err = os.RemoveAll(dir); err == nil {
			err = s.Checkout(d.Hex(), dir)
		}
	}
	return err
}

// pull gets a model's files out of its image, unless dir holds them.
func (p *pack) pull(ctx context.Context, uri string, want resource.Digest, dir string) error {
	p.pulling.Lock()
	defer p.pulling.Unlock()
	if have, _, err := files.DigestDir(dir); err == nil && have == want.Hex() {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := p.client.PullDir(ctx, uri, modelDir, dir); err != nil {
		return err
	}
	have, _, err := files.DigestDir(dir)
	if err != nil {
		return err
	}
	if have != want.Hex() {
		return errors.Join(fmt.Errorf("%s holds a model with digest %s, not %s", uri, resource.DigestOfHex(have).Short(), want.Short()), os.RemoveAll(dir))
	}
	return nil
}
