package daemon

import (
	"fmt"
	"os"
	"strings"
)

// Secret is read from the environment or a file each time that it is needed.
type Secret struct{ Env, File string }

// Set says whether there is one.
func (s Secret) Set() bool { return s.Env != "" || s.File != "" }

// Read reads it. An empty one is an error: nothing must be guarded by "".
func (s Secret) Read() (string, error) {
	text, from := os.Getenv(s.Env), "the environment variable "+s.Env
	if s.File != "" {
		raw, err := os.ReadFile(s.File)
		if err != nil {
			return "", err
		}
		text, from = strings.TrimSpace(string(raw)), s.File
	}
	if text == "" {
		return "", fmt.Errorf("%s is empty", from)
	}
	return text, nil
}
