package source

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	gitobject "github.com/go-git/go-git/v5/plumbing/object"
)

func TestFilesOfARepositoryAreThoseOfItsTag(t *testing.T) {
	dir := t.TempDir()
	repo, err := git.PlainInit(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	who := &gitobject.Signature{Name: "t", Email: "t@example.com", When: time.Unix(1e9, 0)}
	commit := func(content, tag string) string {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "data"), 0o755), os.WriteFile(filepath.Join(dir, "data", "a.csv"), []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
		w, err := repo.Worktree()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Add("data/a.csv"); err != nil {
			t.Fatal(err)
		}
		h, err := w.Commit("x", &git.CommitOptions{Author: who})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := repo.CreateTag(tag, h, &git.CreateTagOptions{Message: "annotated", Tagger: who}); err != nil {
			t.Fatal(err)
		}
		return h.String()
	}
	first := commit("1\n", "v1")
	cache := t.TempDir()
	probe := func(address string) (Version, error) {
		r := New(Options{Dir: cache, Attempts: 1, localGit: true})
		defer r.Close()
		return r.Probe(t.Context(), address)
	}
	at := "git::file://" + dir
	for _, address := range []string{at + "//data/a.csv?ref=v1", at + "//data/a.csv?ref=" + first} {
		if v, err := probe(address); err != nil || v.Hex != sum("1\n") || v.IsDir {
			t.Errorf("%s: %+v, %v", address, v, err)
		}
	}
	if v, err := probe(at + "//data?ref=v1"); err != nil || !v.IsDir || v.Files != 1 {
		t.Errorf("the folder: %+v, %v", v, err)
	}
	if n := Name(at + "//data/a.csv?ref=v1"); n != "a.csv" {
		t.Errorf("the file is called %s", n)
	}
	// The tag moves: its owner changed the data.
	if err := repo.DeleteTag("v1"); err != nil {
		t.Fatal(err)
	}
	commit("2\n", "v1")
	if v, err := probe(at + "//data/a.csv?ref=v1"); err != nil || v.Hex != sum("2\n") {
		t.Errorf("after the tag moved: %+v, %v", v, err)
	}
	for address, text := range map[string]string{
		at + "//data/a.csv":              "must be pinned",
		at + "//data/none.csv?ref=v1":    "has no data/none.csv",
		at + "//data/a.csv?ref=v9":       `there is no tag "v9"`,
		"git::http://h/r.git?ref=v1":     "https or ssh",
		"git::https://u:p@h/r.git?ref=1": "Credentials do not belong",
	} {
		if _, err := probe(address); err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
