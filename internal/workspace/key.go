package workspace

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/continuo-ml/continuo/internal/durable"
)

const keyFile = "key"

// keyVariable holds the key in hex, for machines that share a state and have no
// folder from one run to the next.
const keyVariable = "ML_PROJECT_KEY"

// ReadKey reads the project's key from ML_PROJECT_KEY, or from its state folder;
// nil when there is none yet.
func ReadKey(dir string) ([]byte, error) {
	if text := os.Getenv(keyVariable); text != "" {
		key, err := hex.DecodeString(strings.TrimSpace(text))
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("project key: %s is not 64 hex digits; give it what stands in %s/%s where the state was written", keyVariable, DotML, keyFile)
		}
		return key, nil
	}
	raw, err := os.ReadFile(filepath.Join(dir, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("project key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("project key %s is damaged; delete it to make a new one (saved plans become invalid, sensitive values count as changed)", filepath.Join(dir, keyFile))
	}
	return key, nil
}

// makeKey makes the key that plan files are authenticated with and sensitive
// values are hashed with, and the state folder around it. It never leaves the machine.
func makeKey(dir string) ([]byte, error) {
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if key, err := ReadKey(dir); key != nil || err != nil {
		return key, err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("project key: %w", err)
	}
	// It gets its name whole: a process that was stopped in the middle must leave no half of a key to others.
	tmp := filepath.Join(dir, "."+keyFile+".tmp-"+rand.Text()[:8])
	if err := durable.WriteFile(tmp, []byte(hex.EncodeToString(key)+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("project key: %w", err)
	}
	err := os.Link(tmp, filepath.Join(dir, keyFile))
	if err = errors.Join(err, durable.RemoveIfThere(tmp)); errors.Is(err, fs.ErrExist) {
		return ReadKey(dir)
	}
	// A key that a power cut took would make every saved plan a stranger's and every sensitive value a new one.
	if err = errors.Join(err, durable.SyncDir(dir)); err != nil {
		return nil, fmt.Errorf("project key: %w", err)
	}
	return key, nil
}

// fingerprint tells keys apart and gives none away.
func fingerprint(key []byte) string { return hasher(key)("which key this is") }

// noting is a hasher that tells that it was used: the project has sensitive values.
func noting(key []byte, used *atomic.Bool) func(string) string {
	hash := hasher(key)
	return func(s string) string {
		used.Store(true)
		return hash(s)
	}
}

func hasher(key []byte) func(string) string {
	return func(s string) string {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s))
		return hex.EncodeToString(h.Sum(nil))[:32]
	}
}
