package pod

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
)

const defaultInterval = time.Minute

// checkpoints keeps a folder in the registry while a command writes to it. It works beside the command, reads only when something
// changed, and sends only when nothing changed meanwhile.
type checkpoints struct {
	c        *oci.Client
	to       Checkpoint
	dir      string
	stored   uint64 // mark of what the registry has
	complain func(error)
}

// restore brings the last checkpoint, if there is one, into the folder. What this pod itself left there is newer.
func (k *checkpoints) restore(ctx context.Context) error {
	if list, err := os.ReadDir(k.dir); err == nil && len(list) > 0 {
		return nil
	}
	err := k.c.PullDir(ctx, k.to.Repo+":"+k.to.Tag, CheckpointPrefix, k.dir)
	if errors.Is(err, oci.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("fetch the checkpoint: %w", err)
	}
	k.stored, err = markOf(k.dir)
	return err
}

// watch stores the folder at every interval at which it has changed, until ctx ends.
func (k *checkpoints) watch(ctx context.Context) {
	tick := time.NewTicker(k.to.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := k.store(ctx); err != nil && ctx.Err() == nil {
				k.complain(fmt.Errorf("the checkpoint could not be stored, the next look is in %s: %w", k.to.Interval, err))
			}
		case <-ctx.Done():
			return
		}
	}
}

// store sends the folder unless the registry has it. One that the command writes to meanwhile is left for the next time.
func (k *checkpoints) store(ctx context.Context) error {
	before, err := markOf(k.dir)
	if err != nil || before == 0 || before == k.stored {
		return err
	}
	img, err := k.c.PushDir(ctx, oci.PushRequest{Dir: k.dir, Prefix: CheckpointPrefix, Repo: k.to.Repo})
	if errors.Is(err, files.ErrChanged) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if after, err := markOf(k.dir); err != nil || after != before {
		return err // half of one and half of the next
	}
	if err := k.c.Tag(ctx, img.Ref, k.to.Tag); err != nil {
		return err
	}
	k.stored = before
	return nil
}

// markOf is a mark of what a folder holds, by names, sizes and times; 0 if there is no file in it.
func markOf(dir string) (uint64, error) {
	h := fnv.New64a()
	some := false
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone between listing and look, or no folder at all
		}
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		some = true
		_, err = fmt.Fprintf(h, "%q %d %d %v\n", p, info.Size(), info.ModTime().UnixNano(), info.Mode())
		return err
	})
	if err != nil || !some {
		return 0, err
	}
	return max(h.Sum64(), 1), nil
}
