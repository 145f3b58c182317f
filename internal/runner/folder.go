package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"github.com/continuo-ml/continuo/internal/durable"
)

// The files of a run folder. All are private to the user.
const (
	specFile     = "spec.json"    // the Spec, written once by Start
	startLock    = "start.lock"   // held by Start while it prepares the folder
	runLock      = "lock"         // held by the detached process for its whole life
	startedFile  = "started"      // created before anything is executed: from here on the run has happened
	processFile  = "process.json" // the identities of the command's processes
	cancelFile   = "cancel"       // asks for the end
	statusFile   = "status.json"  // the outcome; nothing of the run lives when it appears
	runnerLog    = "runner.log"   // what the detached process itself had to say
	logFile      = "stdout.log"   // stdout and stderr of the command
	paramsFile   = "params.json"
	metricsFile  = "metrics.json"
	progressFile = "progress.jsonl"
)

const maxRecord = 16 << 20

// folder is the absolute path of a run folder.
type folder string

func openFolder(dir string) (folder, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("run folder %s: %w", dir, err)
	}
	return folder(abs), nil
}

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

// make creates the folder, and makes its name durable: a start or a cancel must not be forgotten with it.
func (f folder) make() error {
	if err := durable.MkdirAll(string(f), 0o700); err != nil {
		return fmt.Errorf("run folder: %w", err)
	}
	return nil
}

func (f folder) has(name string) (bool, error) {
	_, err := os.Lstat(f.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// write stores v as JSON: a reader sees all of it or nothing, also after a power cut.
func (f folder) write(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path(name), err)
	}
	if err := durable.WriteFile(f.path(name), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", f.path(name), err)
	}
	return nil
}

// create makes a file that must not exist yet, durably, and fills it with v. Its existence is what counts: a crash may leave it empty.
func (f folder) create(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("create %s: %w", f.path(name), err)
	}
	file, err := os.OpenFile(f.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(b, '\n'))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("create %s: %w", f.path(name), err)
	}
	return f.sync()
}

// sync makes the names in the folder durable.
func (f folder) sync() error {
	if err := durable.SyncDir(string(f)); err != nil {
		return fmt.Errorf("sync folder %s: %w", f, err)
	}
	return nil
}

// read fills v from a JSON file. The error wraps fs.ErrNotExist if there is none.
func (f folder) read(name string, v any) error {
	b, err := readRegular(f.path(name), maxRecord)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // A parameter must reach the command digit for digit.
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("read %s: %w", f.path(name), err)
	}
	return nil
}

// readRegular reads a file that a user's command may have made: not a pipe that blocks for ever, not a device, not more than limit bytes.
func readRegular(path string, limit int64) (_ []byte, err error) {
	file, err := os.OpenFile(path, os.O_RDONLY|nonBlock, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, nil
}

// lock is the run's lock, not yet taken.
func (f folder) lock() *flock.Flock {
	return flock.New(f.path(runLock), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
}

// held reports whether a detached process holds the run's lock. It takes a shared lock for a moment; the runner therefore tries more than once.
func (f folder) held() (bool, error) {
	if ok, err := f.has(runLock); err != nil || !ok {
		return false, err
	}
	l := flock.New(f.path(runLock), flock.SetFlag(os.O_RDONLY))
	free, err := l.TryRLock()
	if err != nil {
		return false, fmt.Errorf("look at the lock of %s: %w", f, err)
	}
	if err := l.Close(); err != nil {
		return false, fmt.Errorf("release the lock of %s: %w", f, err)
	}
	return !free, nil
}
