package files

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlacePutsWhatWasAskedForOrNothing(t *testing.T) {
	dir := t.TempDir()
	x, err := Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	write := func(at, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "set", "a.csv"), "1\n")
	write(filepath.Join(dir, "set", "sub", "b.csv"), "2\n")
	file, err := x.DigestSource("set/a.csv")
	if err != nil {
		t.Fatal(err)
	}
	set, err := x.DigestSource("set")
	if err != nil {
		t.Fatal(err)
	}
	fillSet := func(b string) func(string) error {
		return func(to string) error {
			write(filepath.Join(to, "a.csv"), "1\n")
			write(filepath.Join(to, "sub", "b.csv"), b)
			return nil
		}
	}
	never := func(string) error { return errors.New("it was filled again") }

	at := filepath.Join(dir, "out", "set")
	if _, err := x.Place(set.Hex, at, fillSet("other\n")); !errors.Is(err, ErrMoved) {
		t.Errorf("other content: %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(at)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	got, err := x.Place(set.Hex, at, fillSet("2\n"))
	if err != nil || got.Hex != set.Hex || len(got.Files) != 2 || got.Bytes != 4 || !got.IsDir {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := x.Place(set.Hex, at, never); err != nil || got.Hex != set.Hex {
		t.Errorf("once more: %+v, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(at, "a.csv")); err != nil || info.Mode().Perm() != 0o444 {
		t.Errorf("it is not read-only: %v, %v", info, err)
	}

	// What was changed where it stands is replaced.
	one := filepath.Join(dir, "out", "a.csv")
	fillOne := func(to string) error { return os.WriteFile(to, []byte("1\n"), 0o644) }
	if _, err := x.Place(file.Hex, one, fillOne); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(one, 0o644), os.WriteFile(one, []byte("changed\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Place(file.Hex, one, fillOne); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(one); string(text) != "1\n" || err != nil {
		t.Errorf("it holds %q, %v", text, err)
	}
	if _, err := x.Place("nonsense", one, never); err == nil || !strings.Contains(err.Error(), "is not a digest") {
		t.Errorf("no digest: %v", err)
	}
	if _, err := x.Place(file.Hex, filepath.Join(dir, "out", "b.csv"), never); err == nil || !strings.Contains(err.Error(), "filled again") {
		t.Errorf("an error of what fills it: %v", err)
	}
}
