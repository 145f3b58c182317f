//go:build linux || darwin

package pod

import (
	"bytes"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/internal/runner"
)

// FuzzLog writes any log in two parts with progress between them: both come back, apart.
func FuzzLog(f *testing.F) {
	f.Add("one\n", "two")
	f.Add("\x1eml {\"step\":1}\n\x1e", "\x1eml \n\n")
	f.Fuzz(func(t *testing.T, one, two string) {
		var out bytes.Buffer
		l := &logWriter{w: &out}
		_, err := l.Write([]byte(one))
		if err == nil {
			err = l.progress(runner.Progress{Step: 1})
		}
		if err == nil {
			_, err = l.Write([]byte(two))
		}
		if err == nil {
			err = l.finish()
		}
		if err != nil {
			t.Fatal(err)
		}
		var text []string
		steps := 0
		if err := SplitLog(&out, func(s string) { text = append(text, s) }, func(runner.Progress) { steps++ }); err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimSuffix(one+two, "\n"); strings.Join(text, "\n") != want || steps != 1 {
			t.Errorf("%q and %d lines of progress from %q and %q", text, steps, one, two)
		}
	})
}

// FuzzTermination reads any last word; what can be read can be written, and fits.
func FuzzTermination(f *testing.F) {
	f.Add([]byte(`{"v":1,"phase":"failed","exit_code":1,"message":"x","tail":["a","b"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		term, err := ParseTermination(b)
		if err != nil || len(term.Result)+len(b) > maxMessage {
			return
		}
		if out, err := term.encode(); err == nil && len(out) > maxMessage {
			t.Errorf("%d bytes", len(out))
		}
	})
}
