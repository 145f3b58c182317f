package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/continuo-ml/continuo/internal/durable"
)

// Prune removes every artifact whose digest is not in keep, every blob that no kept artifact needs, and
// what interrupted puts left. It returns the bytes of the removed files, and the digests of the removed
// artifacts, sorted. It waits until no other process puts or checks out. If a kept manifest is damaged
// nothing is removed: what it needs is not known.
func (s *Store) Prune(keep map[string]bool) (freed int64, removed []string, err error) {
	wanted := map[string]bool{}
	for d, yes := range keep {
		h, err := parseHex(d)
		if err != nil {
			return 0, nil, fmt.Errorf("prune: %w", err)
		}
		if yes {
			wanted[h] = true
		}
	}
	unlock, err := s.lock(true)
	if err != nil {
		return 0, nil, fmt.Errorf("prune: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if freed, removed, err = s.prune(wanted); err != nil {
		return freed, removed, fmt.Errorf("prune: %w", err)
	}
	return freed, removed, nil
}

// prune does the work under the exclusive lock. Manifests go before blobs, each durably: a crash in
// between leaves blobs too many, never an artifact with blobs too few.
func (s *Store) prune(keep map[string]bool) (freed int64, removed []string, err error) {
	list, err := s.List()
	if err != nil {
		return 0, nil, err
	}
	needed := map[string]bool{}
	for _, h := range list {
		if !keep[h] {
			removed = append(removed, h)
			continue
		}
		m, err := s.Manifest(h)
		if err != nil {
			return 0, nil, fmt.Errorf("nothing was removed: %w", err)
		}
		for _, f := range m.Files {
			needed[f.Digest] = true
		}
	}
	for i, h := range removed {
		n, err := removeFile(s.manifestPath(h))
		if err != nil {
			return freed, removed[:i], err
		}
		freed += n
	}
	if err := durable.SyncDir(s.manifests()); err != nil {
		return freed, removed, err
	}
	blobs, err := os.ReadDir(s.blobs())
	if err != nil {
		return freed, removed, err
	}
	for _, b := range blobs {
		if needed[b.Name()] {
			continue
		}
		n, err := removeFile(s.blob(b.Name()))
		if err != nil {
			return freed, removed, err
		}
		freed += n
	}
	n, err := s.clearTmp()
	return freed + n, slices.Clip(removed), errors.Join(err, durable.SyncDir(s.blobs()))
}

// clearTmp removes what interrupted puts left; the exclusive lock says that no put is under way.
func (s *Store) clearTmp() (freed int64, err error) {
	tmp := filepath.Join(s.dir, "tmp")
	err = filepath.WalkDir(tmp, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			freed += fi.Size()
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	list, err := os.ReadDir(tmp)
	if err != nil {
		return 0, err
	}
	for _, e := range list {
		if err := os.RemoveAll(filepath.Join(tmp, e.Name())); err != nil {
			return 0, err
		}
	}
	return freed, nil
}

// removeFile removes a file and returns its size.
func removeFile(path string) (int64, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	return fi.Size(), os.Remove(path)
}
