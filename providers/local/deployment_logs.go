package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/internal/gateway"
	"github.com/continuo-ml/continuo/providers"
)

const (
	// tailBytes bounds how far back a log is read for its last lines.
	tailBytes = 1 << 20
	// errorLines is how much of a log an error quotes.
	errorLines  = 20
	followEvery = 200 * time.Millisecond
)

// Logs implements providers.Logger: what the servers wrote, each line with the server's name when there are several.
func (d *deployment) Logs(ctx context.Context, req providers.LogRequest, w io.Writer) error {
	if req.Record == nil {
		return errors.New("this deployment is not applied yet and has no log")
	}
	dir, err := d.recordedDir(req.Record.Address, req.Record.Ref)
	if err != nil {
		return err
	}
	f := logFollower{dir: gateway.LogDir(dir), w: w, at: map[string]int64{}}
	if err := f.start(req.Lines); err != nil {
		return fmt.Errorf("%s: %w", req.Record.Address, err)
	}
	if !req.Follow {
		return nil
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := f.more(); err != nil {
				return fmt.Errorf("%s: %w", req.Record.Address, err)
			}
		}
	}
}

// logFollower copies the whole lines of a folder's logs, each once.
type logFollower struct {
	dir string
	w   io.Writer
	at  map[string]int64 // how far each log was copied
}

// serverLogs lists the servers' logs, in the order of their names.
func serverLogs(dir string) ([]string, error) {
	all, err := filepath.Glob(filepath.Join(dir, "v*.log"))
	slices.Sort(all)
	return all, err
}

// start copies the last n lines of each log, 0 meaning all.
func (f *logFollower) start(n int) error {
	logs, err := serverLogs(f.dir)
	if err != nil {
		return err
	}
	for _, name := range logs {
		if n > 0 {
			info, err := os.Stat(name)
			if err != nil {
				return err
			}
			lines, err := lastLines(name, n)
			if err != nil {
				return err
			}
			f.at[name] = info.Size() - int64(len(lines))
		}
	}
	return f.more()
}

// more copies what is new, also of logs that appeared since.
func (f *logFollower) more() error {
	logs, err := serverLogs(f.dir)
	if err != nil {
		return err
	}
	for _, name := range logs {
		prefix := ""
		if len(logs) > 1 {
			prefix = strings.TrimSuffix(filepath.Base(name), ".log") + ": "
		}
		if err := f.copy(name, prefix); err != nil {
			return err
		}
	}
	return nil
}

// copy writes the lines of one log from where it was left. A log that was cut is read from its new beginning.
func (f *logFollower) copy(name, prefix string) (err error) {
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < f.at[name] {
		f.at[name] = 0
	}
	part, err := io.ReadAll(io.NewSectionReader(file, f.at[name], info.Size()-f.at[name]))
	if err != nil {
		return err
	}
	end := bytes.LastIndexByte(part, '\n') + 1
	f.at[name] += int64(end)
	for line := range bytes.Lines(part[:end]) {
		if _, err := io.WriteString(f.w, prefix+string(line)); err != nil {
			return err
		}
	}
	return nil
}

// lastLines returns the end of a log that holds its last n lines, or fewer: it looks at the last MiB.
func lastLines(name string, n int) (_ []byte, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-tailBytes)
	part, err := io.ReadAll(io.NewSectionReader(file, from, info.Size()-from))
	if err != nil {
		return nil, err
	}
	return part[startOfLast(part, n):], nil
}

// startOfLast is where the last n lines of text begin.
func startOfLast(text []byte, n int) int {
	end := len(bytes.TrimSuffix(text, []byte("\n")))
	for range n {
		if end = bytes.LastIndexByte(text[:end], '\n'); end < 0 {
			return 0
		}
	}
	return end + 1
}

// serverTail quotes the last lines of a version's servers for an error. That there are none is no reason for another error.
func serverTail(dir string, version int) []string {
	logs, err := filepath.Glob(filepath.Join(gateway.LogDir(dir), fmt.Sprintf("v%d-*.log", version)))
	if err != nil {
		return nil
	}
	slices.Sort(logs)
	var out []string
	for _, name := range logs {
		part, err := lastLines(name, errorLines)
		if err != nil {
			continue
		}
		for line := range strings.Lines(strings.ToValidUTF8(string(part), "\uFFFD")) {
			out = append(out, strings.TrimRight(line, "\r\n"))
		}
	}
	return out[max(0, len(out)-errorLines):]
}
