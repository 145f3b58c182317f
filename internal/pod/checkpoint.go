package pod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
)

const (
	defaultInterval = time.Minute
	// maxCalm is how long nothing may have been written to a checkpoint before it is taken for whole.
	maxCalm = 500 * time.Millisecond
	// pushes is how often a checkpoint is sent anew because the command wrote into it meanwhile.
	pushes = 3
)

// checkpoints keeps a folder in the registry while a command writes to it. It works beside the command, looks at names and times only
// unless something changed, and sends a snapshot, so that a command which writes faster than the network is has one stored, too.
type checkpoints struct {
	c        *oci.Client
	to       Checkpoint
	dir      string
	stored   uint64 // sum of the mark of what the registry has
	copies   bool   // the command writes into files that are there, so a snapshot cannot share them
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
	m, err := markOf(k.dir)
	k.stored = m.sum
	return err
}

// watch stores the folder at every interval at which it has changed, until ctx ends.
func (k *checkpoints) watch(ctx context.Context) {
	tick := time.NewTicker(k.to.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := k.storeRunning(ctx); err != nil && ctx.Err() == nil {
				k.complain(fmt.Errorf("the checkpoint could not be stored, the next look is in %s: %w", k.to.Interval, err))
			}
		case <-ctx.Done():
			return
		}
	}
}

// storeRunning stores the folder of a command that runs, when it has stopped writing for a moment. One that never stops is not waited
// for longer than until the next look.
func (k *checkpoints) storeRunning(ctx context.Context) error {
	calm := min(maxCalm, k.to.Interval/2)
	tick := time.NewTicker(max(calm/4, time.Millisecond))
	defer tick.Stop()
	for late := time.After(k.to.Interval); ; {
		m, err := markOf(k.dir)
		if err != nil || m.sum == 0 || m.sum == k.stored {
			return err
		}
		if time.Since(m.newest) >= calm {
			return k.store(ctx)
		}
		select {
		case <-tick.C:
		case <-late:
			return k.store(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// store sends the folder unless the registry has it.
func (k *checkpoints) store(ctx context.Context) (err error) {
	snap := k.dir + ".snapshot"
	defer func() { err = errors.Join(err, os.RemoveAll(snap)) }()
	for range pushes {
		m, err := snapshot(k.dir, snap, k.copies, k.stored)
		if err != nil || m.sum == 0 || m.sum == k.stored {
			return err
		}
		img, err := k.c.PushDir(ctx, oci.PushRequest{Dir: snap, Prefix: CheckpointPrefix, Repo: k.to.Repo})
		if errors.Is(err, files.ErrChanged) && !k.copies {
			k.copies = true
			continue
		}
		if err != nil {
			return err
		}
		if err := k.c.Tag(ctx, img.Ref, k.to.Tag); err != nil {
			return err
		}
		k.stored = m.sum
		return nil
	}
	return nil
}
