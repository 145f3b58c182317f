//go:build linux || darwin

package runner

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
)

// BenchmarkRun is what a run costs beyond its command: start detached, execute `true`, collect. The folder's fsyncs are in it.
func BenchmarkRun(b *testing.B) {
	root := b.TempDir()
	for n := 0; b.Loop(); n++ {
		dir := filepath.Join(root, fmt.Sprint(n))
		if err := Start(context.Background(), dir, Spec{ID: "r", Command: []string{"true"}, Dir: root}); err != nil {
			b.Fatal(err)
		}
		st, err := Wait(context.Background(), dir, nil)
		if err != nil || st.Phase != Succeeded {
			b.Fatalf("%+v %v", st, err)
		}
	}
}
