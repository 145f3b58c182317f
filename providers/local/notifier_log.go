package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/internal/durable"
)

const (
	alertsFile    = "alerts.log"
	alertsLock    = "alerts.lock"
	alertLockWait = 5 * time.Second
	// alertTail is how much of the log's end holds its last line for certain.
	alertTail = 2 * maxAlert
)

// write appends an alert to `.ml/alerts.log`, durably, unless it is the last one there already: then a crash kept the delivery
// from being noted.
func (n *notifier) write(ctx context.Context, key string, body []byte) (err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := durable.MkdirAll(n.Dir, 0o755); err != nil {
		return fmt.Errorf("log alert: %w", err)
	}
	lock := flock.New(filepath.Join(n.Dir, alertsLock))
	lockCtx, cancel := context.WithTimeout(ctx, alertLockWait)
	defer cancel()
	if _, err := lock.TryLockContext(lockCtx, 10*time.Millisecond); err != nil {
		return fmt.Errorf("log alert: another process holds %s: %w", lock.Path(), err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	f, err := os.OpenFile(filepath.Join(n.Dir, alertsFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("log alert: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end, last, err := lastAlert(f)
	if err != nil {
		return fmt.Errorf("log alert: %w", err)
	}
	if end > 0 && last == key {
		return nil
	}
	// A line that a crash tore was never delivered: it makes room.
	if err := f.Truncate(end); err != nil {
		return fmt.Errorf("log alert: %w", err)
	}
	if _, err := f.WriteAt(append(body, '\n'), end); err != nil {
		return fmt.Errorf("log alert: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("log alert: %w", err)
	}
	return durable.SyncDir(n.Dir)
}

// lastAlert returns where the last whole line ends, and its key.
func lastAlert(f *os.File) (end int64, key string, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, "", err
	}
	from := max(0, info.Size()-alertTail)
	part, err := io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
	if err != nil {
		return 0, "", err
	}
	whole := bytes.LastIndexByte(part, '\n') + 1
	if whole == 0 {
		return from, "", nil
	}
	start := bytes.LastIndexByte(part[:whole-1], '\n') + 1
	var line struct {
		Key string `json:"key"`
	}
	// A line that somebody else wrote has no key that could be ours.
	if json.Unmarshal(part[start:whole], &line) != nil {
		line.Key = ""
	}
	return from + int64(whole), line.Key, nil
}
