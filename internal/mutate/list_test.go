package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryMutationFitsTheCode keeps the list in step with the code: what a
// mutation replaces stands exactly once in its file. Running them all takes a
// quarter of an hour and is `make mutate`.
func TestEveryMutationFitsTheCode(t *testing.T) {
	all := mutations()
	if len(all) < 60 {
		t.Fatalf("only %d mutations are listed", len(all))
	}
	seen := map[string]bool{}
	for _, m := range all {
		src, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(m.File)))
		if err != nil {
			t.Errorf("%s: %v", m.Name, err)
			continue
		}
		if n := strings.Count(string(src), m.Old); n != 1 {
			t.Errorf("%s: what it replaces stands %d times in %s", m.Name, n, m.File)
		}
		if seen[m.Name] || m.Old == m.New || m.Test == "" {
			t.Errorf("%s: listed twice, changes nothing, or names no test", m.Name)
		}
		seen[m.Name] = true
	}
}
