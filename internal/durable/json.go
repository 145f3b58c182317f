package durable

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteJSON stores v as indented JSON, readable by its owner only, and makes the folder if it is missing: a reader sees all of
// it or nothing, also after a power cut.
func WriteJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// ReadJSON fills v and reports whether the file is there.
func ReadJSON(path string, v any) (bool, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return true, nil
}

// MkdirIn makes folder rel below root, which root guards against links that lead out, and makes its names durable.
func MkdirIn(root *os.Root, rel string) error {
	if err := root.MkdirAll(rel, 0o755); err != nil {
		return err
	}
	for rel != "." {
		rel = filepath.Dir(rel)
		if err := SyncDir(filepath.Join(root.Name(), rel)); err != nil {
			return err
		}
	}
	return nil
}
