package gateway

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// cutLog keeps the end of a log that grew too long as NAME.1 and empties it.
// Servers hold the file open for appending, so it cannot be renamed away; a
// line written in the very moment may be lost.
func cutLog(name string) (err error) {
	info, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() <= MaxLog {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at log: %w", err)
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	tail, err := io.ReadAll(io.NewSectionReader(f, info.Size()-keepLog, keepLog))
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if err := os.WriteFile(name+".1", tail, 0o600); err != nil {
		return fmt.Errorf("keep the end of a log: %w", err)
	}
	if err := os.Truncate(name, 0); err != nil {
		return fmt.Errorf("cut log: %w", err)
	}
	return nil
}
