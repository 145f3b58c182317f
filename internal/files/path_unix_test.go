//go:build unix

package files

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// readers are all ways to have a file of the project read by name.
func readers(x *Index, dst string) map[string]func(p string) error {
	return map[string]func(p string) error{
		"ReadFile":     func(p string) error { _, err := x.ReadFile(p, 1<<20); return err },
		"DigestFile":   func(p string) error { _, err := x.DigestFile(p); return err },
		"DigestSource": func(p string) error { _, err := x.DigestSource(p); return err },
		"DigestSet":    func(p string) error { _, _, err := x.DigestSet([]string{p}); return err },
		"Glob":         func(p string) error { _, err := x.Glob([]string{p}); return err },
		"Freeze":       func(p string) error { return x.Freeze(p, hexOf("secret"), dst) },
	}
}

// H14: no way to name a file leads out of the project folder.
func TestPathsThatLeaveTheProjectAreRefused(t *testing.T) {
	outside := project(t, map[string]string{"id_rsa": "secret", "sub/f": "secret"})
	dir := filepath.Join(outside, "project")
	write(t, filepath.Join(dir, "a", "b"), "inside")
	link(t, "../id_rsa", filepath.Join(dir, "fileout"))
	link(t, "../sub", filepath.Join(dir, "dirout"))
	link(t, filepath.Join(outside, "id_rsa"), filepath.Join(dir, "absolute"))
	link(t, "/dev/zero", filepath.Join(dir, "zero"))
	link(t, "/proc/self/environ", filepath.Join(dir, "environ"))
	x := open(t, dir)
	dst := filepath.Join(t.TempDir(), "frozen")
	for _, p := range []string{
		"../id_rsa", "../../id_rsa", "a/../../id_rsa", "a/../a/b", "..", "/etc/passwd", "/proc/self/environ", "/dev/zero",
		filepath.Join(outside, "id_rsa"), "fileout", "dirout", "dirout/f", "absolute", "zero", "environ",
	} {
		for name, read := range readers(x, dst) {
			err := read(p)
			if !errors.Is(err, ErrOutside) || !strings.Contains(err.Error(), filepath.Base(p)) {
				t.Errorf("%s(%q) = %v, want ErrOutside that names the path", name, p, err)
			}
		}
	}
	for _, pattern := range []string{"../*", "dirout/*", "/etc/*", "a/../../*", "**", "file*"} {
		if got, err := x.Glob([]string{pattern}); !errors.Is(err, ErrOutside) {
			t.Errorf("Glob(%q) = %v, %v, want ErrOutside", pattern, got, err)
		}
	}
	for _, p := range []string{"", "a\x00b"} {
		for name, read := range readers(x, dst) {
			if err := read(p); err == nil {
				t.Errorf("%s(%q) gave no error", name, p)
			}
		}
	}
	if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused source was frozen: %v", err)
	}
}

// H14: what is no file is refused, and nobody waits for a FIFO's writer.
func TestDevicesAreRefusedWithoutWaiting(t *testing.T) {
	dir := project(t, map[string]string{"train.py": "pass"})
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Socket paths are limited to about 100 bytes, so the socket is made by a short name.
	t.Chdir(dir)
	l, err := net.Listen("unix", "sock")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	link(t, "fifo", filepath.Join(dir, "tofifo"))
	x := open(t, dir)
	for _, p := range []string{"fifo", "sock", "tofifo"} {
		for name, read := range readers(x, filepath.Join(t.TempDir(), "frozen")) {
			if err := read(p); !errors.Is(err, ErrNotRegular) || !strings.Contains(err.Error(), p) {
				t.Errorf("%s(%q) = %v, want ErrNotRegular that names the path", name, p, err)
			}
		}
	}
	if _, err := x.Glob([]string{"*"}); !errors.Is(err, ErrNotRegular) {
		t.Errorf("Glob of all = %v, want ErrNotRegular", err)
	}
	// Who asks for other files is not bothered.
	if got, err := x.Glob([]string{"*.py"}); err != nil || len(got) != 1 {
		t.Errorf("Glob of the sources = %v, %v, want train.py", got, err)
	}
	for name, read := range readers(x, filepath.Join(t.TempDir(), "frozen")) {
		err := read(".")
		if name == "ReadFile" || name == "DigestFile" || name == "OpenFile" {
			if !errors.Is(err, ErrNotRegular) {
				t.Errorf("%s of a folder = %v, want ErrNotRegular", name, err)
			}
		}
	}
}

func TestLinksInsideTheProjectAreFollowedAndLoopsAreErrors(t *testing.T) {
	dir := project(t, map[string]string{"v1/a.csv": "1", "v1/sub/b.csv": "2"})
	link(t, "v1", filepath.Join(dir, "latest"))
	link(t, "v1/a.csv", filepath.Join(dir, "one.csv"))
	x := open(t, dir)
	got, err := x.DigestSource("latest")
	want, err2 := x.DigestSource("v1")
	if err != nil || err2 != nil || got.Hex != want.Hex || len(got.Files) != 2 {
		t.Errorf("through the link %v %v, directly %v %v", got, err, want, err2)
	}
	if d, err := x.DigestFile("one.csv"); err != nil || d.Hex != hexOf("1") {
		t.Errorf("DigestFile of a link = %v, %v", d, err)
	}

	link(t, "..", filepath.Join(dir, "v1", "sub", "up"))
	link(t, "self", filepath.Join(dir, "self"))
	link(t, "nowhere", filepath.Join(dir, "dangling"))
	x = open(t, dir)
	for _, pattern := range []string{"v1/**", "**"} {
		if got, err := x.Glob([]string{pattern}); err == nil {
			t.Errorf("Glob(%q) = %v, want an error for the loop", pattern, got)
		}
	}
	if _, err := x.DigestFile("self"); err == nil || !strings.Contains(err.Error(), "circle") {
		t.Errorf("DigestFile of a link to itself = %v", err)
	}
	if _, err := x.DigestSource("v1"); err == nil || !strings.Contains(err.Error(), "v1/sub/up: it leads back to v1") {
		t.Errorf("DigestSource over a loop = %v", err)
	}
	if _, err := x.DigestFile("dangling"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("DigestFile of a dangling link = %v", err)
	}
}

func TestReadFileKeepsItsCap(t *testing.T) {
	x := open(t, project(t, map[string]string{"f": "12345"}))
	if got, err := x.ReadFile("f", 5); err != nil || string(got) != "12345" {
		t.Errorf("ReadFile at the cap = %q, %v", got, err)
	}
	if _, err := x.ReadFile("./f", 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("ReadFile over the cap = %v, want ErrTooLarge", err)
	}
	if _, err := x.ReadFile("nothing", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile of nothing = %v", err)
	}
}

// H14: a folder with too many files is bounded by the cap.
func TestTooManyFilesIsAnErrorThatNamesTheCap(t *testing.T) {
	dir := project(t, map[string]string{"a/1": "", "a/2": "", "b/1": "", "b/2": "", "b/3": ""})
	x := openWith(t, dir, "", options{maxFiles: 6})
	if _, err := x.Glob([]string{"**"}); !errors.Is(err, ErrTooMany) || !strings.Contains(err.Error(), "over 6 entries") {
		t.Errorf("Glob over the cap = %v", err)
	}
	if got, err := openWith(t, dir, "", options{maxFiles: 7}).Glob([]string{"**"}); err != nil || len(got) != 5 {
		t.Errorf("Glob at the cap = %v, %v", got, err)
	}
}

// H21.
func TestNamesThatDifferOnlyByCaseAreReported(t *testing.T) {
	got := CaseCollisions([]string{"A.ml", "a.ml", "b.ml", "Data/x", "data/x", "data/y", "straße", "STRASSE"})
	want := "[[A.ml a.ml] [Data data]]"
	if s := fmt.Sprint(got); s != want {
		t.Errorf("got %s, want %s", s, want)
	}
	if got := CaseCollisions([]string{"a", "b", "a/b"}); len(got) != 0 {
		t.Errorf("no collision, got %v", got)
	}
}

// H14: between the look at a name and its opening, a FIFO can take the place of the file.
func TestAFileThatTurnsIntoAFIFOIsNotWaitedFor(t *testing.T) {
	dir := project(t, map[string]string{"f": "x"})
	file, fifo, f := filepath.Join(dir, "file"), filepath.Join(dir, "fifo"), filepath.Join(dir, "f")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	x := open(t, dir)
	stop := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := errors.Join(os.Rename(f, file), os.Rename(fifo, f), os.Rename(f, fifo), os.Rename(file, f)); err != nil {
				done <- err
				return
			}
		}
	}()
	reads := make(chan int)
	go func() {
		n := 0
		for range 20_000 {
			if data, err := x.ReadFile("f", 10); err == nil && string(data) == "x" {
				n++
			}
		}
		reads <- n
	}()
	select {
	case n := <-reads:
		if n == 0 {
			t.Error("the file was never read")
		}
	case <-time.After(30 * time.Second):
		t.Error("a reader waits for the FIFO's writer")
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
