package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/internal/workspace"
	"github.com/continuo-ml/continuo/report"
)

// starter is the project that `ml init` writes into an empty folder.
//
//go:embed starter
var starter embed.FS

func (a *app) initCmd() *cobra.Command {
	return &cobra.Command{
		Use: "init", Short: "Write a starter project, or make an existing one ready", Args: cobra.NoArgs,
		Example: "  mkdir first && cd first && ml init",
		Long: `init makes a folder ready. An empty one gets a starter project that applies as it is.
In one with *.ml.hcl files, modules from git are fetched and .ml/ goes into .gitignore.
Running it again changes nothing.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.initProject(cmd) },
	}
}

func (a *app) initProject(cmd *cobra.Command) error {
	dir, err := a.projectDir()
	if err != nil {
		return err
	}
	files, err := hclFiles(dir, false)
	if err != nil {
		return err
	}
	st := a.style()
	ignored := []string{".ml/"}
	if len(files) == 0 && !hasJSON(dir) {
		written, err := writeStarter(dir)
		if err != nil {
			return err
		}
		for _, f := range written {
			fmt.Fprintf(a.Out, "  %s %s\n", st.Paint(report.Good, "+"), f)
		}
		ignored = append(ignored, "__pycache__/") // the starter's check compiles
	} else if err := a.fetchModules(cmd); err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Join(dir, dotML), 0o755); err != nil {
		return err
	}
	if err := ignore(dir, ignored); err != nil {
		return err
	}
	return a.done("Ready. Next: ml plan")
}

func hasJSON(dir string) bool {
	m, err := filepath.Glob(filepath.Join(dir, "*.ml.json"))
	return err == nil && len(m) > 0
}

// fetchModules gets the git modules that the files name.
func (a *app) fetchModules(cmd *cobra.Command) error {
	o, err := a.workspace()
	if err != nil {
		return err
	}
	fetched, err := workspace.Fetch(cmd.Context(), o)
	for _, f := range fetched {
		fmt.Fprintf(a.Out, "  fetched %s\n", f)
	}
	return err
}

// writeStarter writes the starter project, never over a file that is there.
func writeStarter(dir string) ([]string, error) {
	var written []string
	err := fs.WalkDir(starter, "starter", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel := strings.TrimPrefix(p, "starter/")
		raw, err := starter.ReadFile(p)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(rel))
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(path.Dir(rel))), 0o755); err != nil {
			return err
		}
		f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s is there already; init writes a starter only where none of its files is", to)
		}
		if err != nil {
			return err
		}
		if _, err := f.Write(raw); err != nil {
			return errors.Join(err, f.Close())
		}
		written = append(written, rel)
		return f.Close()
	})
	return written, err
}

// ignore puts folders into .gitignore, each once.
func ignore(dir string, folders []string) error {
	file := filepath.Join(dir, ".gitignore")
	raw, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := string(raw)
	for _, f := range folders {
		if ignores(text, f) {
			continue
		}
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		text += f + "\n"
	}
	if text == string(raw) {
		return nil
	}
	return writeWhole(file, []byte(text), 0o644)
}

// ignores says whether a line of a .gitignore names the folder, as "a/", "a" or "/a/".
func ignores(text, folder string) bool {
	for line := range strings.Lines(text) {
		if l := strings.TrimSpace(line); l == folder || l == strings.TrimSuffix(folder, "/") || l == "/"+folder {
			return true
		}
	}
	return false
}

// writeWhole replaces a file whole or not at all.
func writeWhole(file string, raw []byte, mode os.FileMode) error {
	return durable.WriteFile(file, raw, mode)
}
