package runs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/pod"
)

// Models opens the artifact store of this machine with the model m in it: one that a cluster trained, and that is kept in a
// registry, is fetched once. A model that is nowhere is an error that matches fs.ErrNotExist.
func (e *Workspace) Models(ctx context.Context, m Made) (*files.Store, error) {
	s, err := e.Store()
	if err != nil {
		return nil, err
	}
	_, err = s.Manifest(m.Digest.Hex())
	if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(m.URI, oci.Scheme) {
		return s, err
	}
	if err := e.fetchModel(ctx, s, m); err != nil {
		return nil, fmt.Errorf("fetch model %s, which a cluster trained: %w", m.Digest.Short(), err)
	}
	return s, nil
}

// fetchModel puts a model of a registry into the store. Two that do so at once put the same.
func (e *Workspace) fetchModel(ctx context.Context, s *files.Store, m Made) (err error) {
	cache := filepath.Join(e.Dir, "cache")
	if err := mkdir(cache); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(cache, "fetch-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	dir := filepath.Join(tmp, "model")
	err = registry().PullDir(ctx, m.URI, pod.ModelPrefix, dir)
	if errors.Is(err, oci.ErrNotFound) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return err
	}
	have, _, err := files.DigestDir(dir)
	if err != nil {
		return err
	}
	if have != m.Digest.Hex() {
		return fmt.Errorf("%s holds %s, not %s: somebody stored something else there", m.URI, have, m.Digest.Short())
	}
	_, _, err = s.PutDir(dir)
	return err
}

// registry speaks to registries with Docker's credentials.
func registry() *oci.Client { return oci.New(oci.Options{}) }
