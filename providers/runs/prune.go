package runs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/continuo-ml/continuo/internal/runner"
	"github.com/continuo-ml/continuo/internal/source"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// Prune removes data versions, models and operations that nobody refers to, and what interrupted work left behind.
func (e *Workspace) Prune(ctx context.Context, req providers.PruneRequest) (providers.PruneResult, error) {
	p := &pruner{ctx: ctx, req: req}
	kept := func(name string) (string, bool) {
		return "sha256:" + name, req.KeepDigests[name] || !isHex(name)
	}
	err := errors.Join(
		p.folder(e.dataDir(), "data", func(dir, name string) (string, bool, error) {
			what, keep := kept(name)
			if strings.HasPrefix(name, ".scan-") || strings.HasPrefix(name, ".staged-") {
				return name, false, nil
			}
			return what, keep, nil
		}),
		p.folder(filepath.Join(e.Dir, "cache", "models"), "checked-out model", func(_, name string) (string, bool, error) {
			what, keep := kept(name)
			return what, keep, nil
		}),
		p.folder(filepath.Join(e.Dir, "models"), "served model", func(_, name string) (string, bool, error) {
			what, keep := kept(name)
			return what, keep, nil
		}),
		p.folder(filepath.Join(e.Dir, "runs"), "run", func(dir, name string) (string, bool, error) {
			if req.KeepRuns[name] {
				return name, true, nil
			}
			live, err := alive(ctx, filepath.Join(dir, name))
			return name, live, err
		}),
		e.pruneModels(p),
		e.pruneSources(p),
	)
	if err != nil {
		return p.out, fmt.Errorf("prune local files: %w", err)
	}
	return p.out, nil
}

func isHex(name string) bool { return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == "" }

// alive reports whether a stage of an operation may still run.
func alive(ctx context.Context, dir string) (bool, error) {
	stages, err := stagesOf(ctx, Processes{}, dir)
	if err != nil {
		return false, err
	}
	for _, s := range stages {
		if s.status.Phase == runner.Running {
			return true, nil
		}
	}
	return false, nil
}

type pruner struct {
	ctx context.Context // of the one call of prune
	req providers.PruneRequest
	out providers.PruneResult
}

// folder removes the entries of dir that choose does not keep.
func (p *pruner) folder(dir, what string, choose func(dir, name string) (label string, keep bool, err error)) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		label, keep, err := choose(dir, e.Name())
		if err != nil {
			return err
		}
		if keep {
			continue
		}
		if err := p.remove(filepath.Join(dir, e.Name()), what+" "+label); err != nil {
			return err
		}
	}
	return nil
}

func (p *pruner) remove(path, label string) error {
	n, err := bytesUnder(path)
	if err != nil {
		return err
	}
	if !p.req.DryRun {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	p.out.Removed, p.out.Bytes = append(p.out.Removed, label), p.out.Bytes+n
	return nil
}

func bytesUnder(path string) (n int64, err error) {
	err = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}

// pruneModels lets the artifact store remove what no version names.
func (e *Workspace) pruneModels(p *pruner) error {
	dir, err := e.artifactsDir()
	if err != nil {
		return nil // A remote store is its own provider's business.
	}
	if ok, err := exists(dir); err != nil || !ok {
		return err
	}
	s, err := e.Store()
	if err != nil {
		return err
	}
	list, err := s.List()
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, h := range list {
		if p.req.KeepDigests[h] {
			keep[h] = true
			continue
		}
		p.out.Removed = append(p.out.Removed, "model "+string(resource.DigestOfHex(h)))
		if p.req.DryRun {
			m, err := s.Manifest(h)
			if err != nil {
				return err
			}
			p.out.Bytes += m.Bytes()
		}
	}
	if p.req.DryRun {
		return nil
	}
	freed, _, err := s.Prune(keep)
	p.out.Bytes += freed
	return err
}

// pruneSources lets go of what was downloaded and is in no version that stays.
func (e *Workspace) pruneSources(p *pruner) error {
	removed, n, err := source.Prune(p.ctx, e.sourcesDir(), p.req.KeepDigests, p.req.DryRun)
	for _, what := range removed {
		p.out.Removed = append(p.out.Removed, "download "+what)
	}
	p.out.Bytes += n
	return err
}
