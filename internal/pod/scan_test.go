//go:build linux || darwin

package pod

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci/ocitest"
)

// volume is a folder with data as others write it: for everybody, and executable.
func volume(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"a/x.csv": "id\n1\n", "a/b/y.csv": "id\n2\n", "a/notes.txt": "n", "a/.git/HEAD": "ref", "top.csv": "id\n3\n"} {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(content), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAVolumeHasTheDigestOfTheSameFilesInAProject(t *testing.T) {
	dir := volume(t)
	reg := ocitest.Start(t, "", "")
	x, err := files.Open(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, c := range []struct {
		path  string
		isDir bool
		want  map[string]string // below what was stored
	}{
		{"top.csv", false, map[string]string{"top.csv": "id\n3\n"}},
		{"a/b/y.csv", false, map[string]string{"y.csv": "id\n2\n"}},
		{"a", true, map[string]string{"x.csv": "id\n1\n", "b/y.csv": "id\n2\n", "notes.txt": "n"}},
		{"a/**/*.csv", true, map[string]string{"x.csv": "id\n1\n", "b/y.csv": "id\n2\n"}},
		{".", true, map[string]string{"top.csv": "id\n3\n", "a/x.csv": "id\n1\n", "a/b/y.csv": "id\n2\n", "a/notes.txt": "n"}},
	} {
		t.Run(c.path, func(t *testing.T) {
			project, err := x.DigestSource(c.path)
			if err != nil {
				t.Fatal(err)
			}
			s, err := Scan(t.Context(), quick(), ScanTask{Root: dir, Path: c.path})
			if err != nil || s.Hex != project.Hex || s.IsDir != c.isDir || s.Files != len(c.want) || s.Bytes != project.Bytes || s.Ref != "" {
				t.Fatalf("%+v, %v; in a project it is %+v", s, err, project)
			}
			s, err = Scan(t.Context(), quick(), ScanTask{Root: dir, Path: c.path, Want: s.Hex, Repo: reg.Repo("data")})
			if err != nil || s.Hex != project.Hex || !strings.Contains(s.Ref, "@sha256:") {
				t.Fatalf("%+v, %v", s, err)
			}
			frozen := filepath.Join(t.TempDir(), "files")
			if err := quick().PullDir(t.Context(), s.Ref, DataPrefix, frozen); err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			list, err := files.ListDir(frozen)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range list {
				b, err := os.ReadFile(filepath.Join(frozen, p))
				if err != nil {
					t.Fatal(err)
				}
				got[p] = string(b)
				if err := os.Chmod(filepath.Join(frozen, p), 0o444); err != nil { // as whoever freezes data does
					t.Fatal(err)
				}
			}
			if len(got) != len(c.want) {
				t.Errorf("stored %v", got)
			}
			for p, content := range c.want {
				if got[p] != content {
					t.Errorf("%s holds %q", p, got[p])
				}
			}
			// The bytes are sent once: the frozen copy of this machine, read-only, is the same layer.
			reg.Forget()
			at := frozen
			if !c.isDir {
				at = filepath.Join(frozen, filepath.Base(c.path))
			}
			if _, err := PushData(t.Context(), quick(), reg.Repo("data"), at); err != nil {
				t.Fatal(err)
			}
			if sent := reg.Requests("PATCH"); len(sent) > 1 { // the configuration alone
				t.Errorf("the frozen copy was sent again: %v", sent)
			}
		})
	}
}

func TestAVolumeThatMovedIsNotStored(t *testing.T) {
	dir := volume(t)
	reg := ocitest.Start(t, "", "")
	s, err := Scan(t.Context(), quick(), ScanTask{Root: dir, Path: "top.csv", Want: strings.Repeat("0", 64), Repo: reg.Repo("data")})
	if err == nil || !s.Moved || s.Missing || s.Ref != "" || !strings.Contains(err.Error(), "plan again") {
		t.Errorf("%+v, %v", s, err)
	}
	if sent := append(reg.Requests("PUT"), reg.Requests("POST")...); len(sent) > 0 {
		t.Errorf("sent all the same: %v", sent)
	}
	for _, path := range []string{"none.csv", "a/*.parquet", "none"} {
		if s, err := Scan(t.Context(), quick(), ScanTask{Root: dir, Path: path}); err == nil || !s.Missing || s.Hex != "" {
			t.Errorf("%s: %+v, %v", path, s, err)
		}
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "out.csv")); err != nil {
		t.Fatal(err)
	}
	if s, err := Scan(t.Context(), quick(), ScanTask{Root: dir, Path: "out.csv"}); err == nil || s.Hex != "" {
		t.Errorf("a link out of the volume was followed: %+v", s)
	}
}

func TestAScanSaysHowItEnded(t *testing.T) {
	dir := volume(t)
	x, err := Scan(t.Context(), quick(), ScanTask{Root: dir, Path: "top.csv"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		task ScanTask
		raw  string
		code int
		word func(Scanned) bool
	}{
		"read":         {task: ScanTask{V: 1, Root: dir, Path: "top.csv"}, code: ExitDone, word: func(s Scanned) bool { return s.Hex == x.Hex && s.Error == "" }},
		"missing":      {task: ScanTask{V: 1, Root: dir, Path: "x"}, code: ExitFailed, word: func(s Scanned) bool { return s.Missing && s.Error != "" }},
		"of tomorrow":  {raw: `{"v":2,"root":"/x","path":"y"}`, code: ExitFailed, word: func(s Scanned) bool { return strings.Contains(s.Error, "version 2") }},
		"no task":      {raw: "", code: ExitFailed, word: func(s Scanned) bool { return strings.Contains(s.Error, "is not set") }},
		"no path":      {raw: `{"v":1,"root":"/x"}`, code: ExitFailed, word: func(s Scanned) bool { return strings.Contains(s.Error, "root and path") }},
		"half a store": {raw: `{"v":1,"root":"/x","path":"y","want":"z"}`, code: ExitFailed, word: func(s Scanned) bool { return strings.Contains(s.Error, "give both or none") }},
		"registry away": {task: ScanTask{V: 1, Root: dir, Path: "top.csv", Want: x.Hex, Repo: "oci://127.0.0.1:1/data"}, code: ExitLost,
			word: func(s Scanned) bool { return s.Hex == x.Hex && s.Ref == "" && s.Error != "" }},
	} {
		t.Run(name, func(t *testing.T) {
			text := c.raw
			if c.task.V != 0 {
				b, err := json.Marshal(c.task)
				if err != nil {
					t.Fatal(err)
				}
				text = string(b)
			}
			last := filepath.Join(t.TempDir(), "last")
			env := map[string]string{ScanVar: text, MessageVar: last}
			var said strings.Builder
			code := scanMain(t.Context(), Options{Getenv: func(n string) string { return env[n] }, Stdout: &said, Stderr: &said, Client: quick()})
			b, err := os.ReadFile(last)
			if err != nil {
				t.Fatal(err)
			}
			s, err := ParseScanned(b)
			if code != c.code || err != nil || !c.word(s) {
				t.Errorf("exit code %d, %+v, %v\n%s", code, s, err, said.String())
			}
			if len(b) > maxMessage || strings.Contains(s.Error, "\n") {
				t.Errorf("%d bytes: %s", len(b), b)
			}
		})
	}
	for _, b := range []string{"", "killed", `{"v":1}`, `{"v":2,"hex":"x"}`} {
		if s, err := ParseScanned([]byte(b)); err == nil {
			t.Errorf("%q is taken for %+v", b, s)
		}
	}
}
