package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const maxTailBytes = 1 << 20

// LogPath is the log of one rank: stdout.log for the first or only one, rank-N.log for the others.
func LogPath(dir string, rank int) string {
	if rank == 0 {
		return filepath.Join(dir, logFile)
	}
	return filepath.Join(dir, "rank-"+strconv.Itoa(rank)+".log")
}

// Tail returns the last n lines of the run's log, or fewer: it looks at the last MiB. A run without a log has no lines.
func Tail(dir string, n int) ([]string, error) {
	f, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	return tailFile(LogPath(string(f), 0), n)
}

func tailFile(path string, n int) (_ []string, err error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	from := max(0, info.Size()-maxTailBytes)
	b, err := io.ReadAll(io.NewSectionReader(file, from, info.Size()-from))
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	b = bytes.TrimSuffix(b, []byte("\n"))
	if len(b) == 0 || n <= 0 {
		return nil, nil
	}
	lines := strings.Split(string(b), "\n")
	return lines[max(0, len(lines)-n):], nil
}

// clip makes s valid UTF-8 of at most n bytes and a mark.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + " …"
}

// Follow copies the run's log to w from its beginning and as it grows, until the run is over or ctx ends (then it returns ctx's error).
func Follow(ctx context.Context, dir string, w io.Writer) error {
	f, err := openFolder(dir)
	if err != nil {
		return err
	}
	var offset int64
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := f.status() // Before the copy: what an ended run wrote is all there.
		if err != nil {
			return err
		}
		if offset, err = f.copyLog(w, offset); err != nil {
			return fmt.Errorf("follow the log of %s: %w", f, err)
		}
		if st.Phase.Over() {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// copyLog copies what is new, and returns where it ended.
func (f folder) copyLog(w io.Writer, offset int64) (_ int64, err error) {
	file, err := os.Open(LogPath(string(f), 0))
	if errors.Is(err, os.ErrNotExist) {
		return offset, nil
	}
	if err != nil {
		return offset, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return offset, err
	}
	if info.Size() < offset { // Cut: go on where the part that was kept ends.
		var spec Spec
		if err := f.read(specFile, &spec); err != nil {
			return offset, err
		}
		offset = min(spec.LogLimit/2, info.Size())
	}
	n, err := io.Copy(w, io.NewSectionReader(file, offset, info.Size()-offset))
	return offset + n, err
}

// trimLog cuts a log that has outgrown limit: the first half of limit stays, then a line says what is missing, then come the last lines
// before the cut. The command keeps writing to the end of the same file and notices nothing. Between two looks the file may outgrow the limit, and
// what is written in the microseconds between the last read and the cut is lost. It takes and returns how many bytes have been cut out so far.
func trimLog(path string, limit, already int64) (cut int64, err error) {
	info, err := os.Stat(path)
	if err != nil || info.Size() <= limit {
		return already, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return already, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	head, keep := limit/2, min(limit/8, 64<<10)
	last, err := readToEnd(file, info.Size()-keep, 8*keep)
	if err != nil {
		return already, err
	}
	end := info.Size() - keep + int64(len(last))
	if i := bytes.IndexByte(last, '\n'); i >= 0 {
		last = last[i+1:]
	}
	if err := file.Truncate(head); err != nil {
		return already, fmt.Errorf("cut log: %w", err)
	}
	cut = already + end - head - int64(len(last))
	mark := fmt.Sprintf("\n[ml: the log outgrew %d bytes; %d bytes were cut out here]\n", limit, cut)
	if already > 0 {
		cut -= int64(len(mark)) // The mark of the cut before went with this one.
	}
	_, err = file.Write(append([]byte(mark), last...))
	return cut, err
}

// readToEnd reads a growing file until nothing more comes, or enough is there: a writer faster than this is not waited for.
func readToEnd(file *os.File, offset, enough int64) ([]byte, error) {
	var out []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := file.ReadAt(buf, offset+int64(len(out)))
		out = append(out, buf[:n]...)
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		case n == 0, int64(len(out)) >= enough:
			return out, nil
		}
	}
}
