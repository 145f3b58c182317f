package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Prune removes from the cache in folder dir what was downloaded and is in no frozen version that keep (by SHA-256, 64 hex digits) names.
// What addresses held is kept, so that nothing is downloaded again to find out that it did not move. bytes is what the disk gets back: a
// blob that a frozen version shares gives nothing. With dry it only tells.
func Prune(ctx context.Context, dir string, keep map[string]bool, dry bool) (removed []string, bytes int64, err error) {
	at := filepath.Join(dir, "blobs")
	entries, err := os.ReadDir(at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("prune downloads: %w", err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return removed, bytes, err
		}
		if keep[e.Name()] {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !dry {
			err = os.Remove(filepath.Join(at, e.Name()))
		}
		if err != nil {
			return removed, bytes, fmt.Errorf("prune downloads: %w", err)
		}
		if links(info) < 2 {
			bytes += info.Size()
		}
		removed = append(removed, "sha256:"+e.Name())
	}
	return slices.Clip(removed), bytes, nil
}
