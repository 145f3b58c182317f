package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// moduleRepo makes a repository with a module in region/, tagged v1.
func moduleRepo(t *testing.T) (*git.Repository, string) {
	t.Helper()
	dir := t.TempDir()
	repo, err := git.PlainInit(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "region"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "region", "link.ml.hcl")); err != nil {
		t.Fatal(err)
	}
	commitTag(t, repo, dir, "check \"unit\" { command = [\"true\"] }\noutput \"ok\" { value = check.unit.passed }\n", "v1")
	return repo, dir
}

func commitTag(t *testing.T, repo *git.Repository, dir, text, tag string) plumbing.Hash {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "region", "main.ml.hcl"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	wt, err := repo.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	if err := wt.AddGlob("."); err != nil {
		t.Fatal(err)
	}
	who := &object.Signature{Name: "a", Email: "a@example.com", When: time.Unix(0, 0)}
	hash, err := wt.Commit("x", &git.CommitOptions{Author: who})
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.DeleteTag(tag); err != nil && !errors.Is(err, git.ErrTagNotFound) {
		t.Fatal(err)
	}
	if _, err := repo.CreateTag(tag, hash, &git.CreateTagOptions{Tagger: who, Message: tag}); err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestFetchModules(t *testing.T) {
	repo, dir := moduleRepo(t)
	source := "git::file://" + filepath.ToSlash(dir) + "//region?ref=v1"
	opts := projectFiles(t, map[string]string{"main.ml.hcl": "module \"m\" { source = \"" + source + "\" }\noutput \"ok\" { value = module.m.ok }\n"})
	_ = refused(t, opts, "Invalid module source", "https or ssh")
	opts.LocalGit = true
	_ = refused(t, opts, "Module not fetched", "ml init")

	fetched, diags := FetchModules(t.Context(), opts)
	if diags.HasErrors() || len(fetched) != 1 || fetched[0] != source {
		t.Fatal(fetched, diags)
	}
	p := mustLoad(t, opts)
	if len(p.Blocks) != 1 || p.Blocks[0].Addr.String() != "module.m.check.unit" {
		t.Error(p.Blocks)
	}
	var link []string
	if err := filepath.WalkDir(filepath.Join(opts.Dir, ".ml"), func(p string, e os.DirEntry, err error) error {
		if strings.Contains(p, "link") || strings.Contains(p, ".fetch-") {
			link = append(link, p)
		}
		return err
	}); err != nil || len(link) > 0 {
		t.Error("left there:", link, err)
	}

	if fetched, diags := FetchModules(t.Context(), opts); diags.HasErrors() || len(fetched) > 0 {
		t.Errorf("fetched again: %v %s", fetched, diags)
	}

	moved := commitTag(t, repo, dir, "check \"other\" { command = [\"true\"] }\n", "v1")
	entries, err := filepath.Glob(filepath.Join(opts.Dir, ".ml", "modules", "*", "region"))
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	if err := os.RemoveAll(filepath.Dir(entries[0])); err != nil {
		t.Fatal(err)
	}
	if _, diags := FetchModules(t.Context(), opts); !diags.HasErrors() || diags[0].Summary != "A tag moved" || !strings.Contains(diags[0].Detail, moved.String()) {
		t.Error(diags)
	}

	byCommit := strings.Replace(source, "ref=v1", "ref="+moved.String(), 1)
	if err := os.WriteFile(filepath.Join(opts.Dir, "main.ml.hcl"), []byte("module \"m\" { source = \""+byCommit+"\" }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, diags := FetchModules(t.Context(), opts); diags.HasErrors() {
		t.Error(diags)
	}
	if p := mustLoad(t, opts); p.Blocks[0].Addr.Name != "other" {
		t.Error(p.Blocks[0].Addr)
	}

	for _, c := range []struct{ bad, summary, detail string }{
		{strings.Replace(source, "ref=v1", "ref=master", 1), "A module cannot be fetched", "master is a branch, which moves; it is at commit " + moved.String() + " now. Pin a tag"},
		{strings.Replace(source, "ref=v1", "ref=v2", 1), "A module cannot be fetched", `there is no tag "v2". Did you mean "v1"? Pin a tag`},
		{"git::file://" + filepath.ToSlash(t.TempDir()) + "?ref=v1", "A module cannot be fetched", "not found. Check the address"},
		{strings.Replace(source, "ref=v1", "ref="+strings.Repeat("a", 40), 1), "A module cannot be fetched", "commit aaaa"},
		{strings.Replace(byCommit, "//region", "//regoin", 1), "Module not found", `has no folder "regoin". Did you mean "region"?`},
	} {
		if err := os.WriteFile(filepath.Join(opts.Dir, "main.ml.hcl"), []byte("module \"m\" { source = \""+c.bad+"\" }\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, diags := FetchModules(t.Context(), opts); !diags.HasErrors() || diags[0].Summary != c.summary || !strings.Contains(diags[0].Detail, c.detail) {
			t.Errorf("%s: %s", c.bad, diags)
		}
	}
	if err := os.WriteFile(filepath.Join(opts.Dir, ".ml", "modules", lockName), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, diags := FetchModules(t.Context(), opts); !diags.HasErrors() || diags[0].Summary != "The module lock file is damaged" {
		t.Error(diags)
	}
}

func TestGitAddressesThatAreRefused(t *testing.T) {
	for _, source := range []string{
		"git::https://h/r.git", "git::https://h/r.git?ref=", "git::https://h/r.git?ref=--upload-pack=x", "git::https://h/r.git?ref=a..b",
		"git::ext::sh -c x?ref=v1", "git::http://h/r.git?ref=v1", "git::git://h/r.git?ref=v1", "git::file:///r?ref=v1",
		"git::https://user:token@h/r.git?ref=v1", "git::https://h/r.git//../x?ref=v1", "git::/r?ref=v1", "git::https://h/%zz?ref=v1", "git::git@h:org/r.git?ref=v1",
	} {
		if g, problem := parseGit(source, false); problem == "" {
			t.Errorf("%s: accepted as %+v", source, g)
		}
	}
	if _, problem := parseGit("git::git@h:org/r.git?ref=v1", false); !strings.Contains(problem, "git::ssh://git@HOST/PATH") {
		t.Error(problem)
	}
	g, problem := parseGit("git::ssh://git@h/org/r.git//a/b?ref=v1.2.0", false)
	if problem != "" || g != (gitSource{repo: "ssh://git@h/org/r.git", sub: "a/b", ref: "v1.2.0"}) {
		t.Error(g, problem)
	}
}
