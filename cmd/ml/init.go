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

// initOptions say what becomes of a state when the files name another place for it.
type initOptions struct {
	migrate, reconfigure, adopt bool
}

func (a *app) initCmd() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use: "init", Short: "Write a starter project, or make an existing one ready", Args: cobra.NoArgs,
		Example: "  mkdir first && cd first && ml init\n  ml init -migrate-state",
		Long: `init makes a folder ready. An empty one gets a starter project that applies as it is.
In one with *.ml.hcl files, modules from git are fetched and .ml/ goes into .gitignore.
Running it again changes nothing.

When ml { backend … } names another place than the one the state is in, nothing happens
until you say what: -migrate-state copies it there, reads it back, and ends it at the old
place, where a copy stays; without the block it comes back to .ml/state.db. -reconfigure
moves nothing and uses what is at the new place.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.initProject(cmd, o) },
	}
	cmd.Flags().BoolVar(&o.migrate, "migrate-state", false, "move the state to where the files keep it")
	cmd.Flags().BoolVar(&o.reconfigure, "reconfigure", false, "use the state at the place that the files name, and move nothing")
	cmd.Flags().BoolVar(&o.adopt, "adopt-local", false, "what a shared state says of processes on another machine, which is gone, is of this one now")
	cmd.MarkFlagsMutuallyExclusive("migrate-state", "reconfigure")
	return cmd
}

func (a *app) initProject(cmd *cobra.Command, o initOptions) error {
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
	} else if err := a.placeState(cmd, o); err != nil {
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

// placeState settles where the state of a project is.
func (a *app) placeState(cmd *cobra.Command, what initOptions) error {
	o, err := a.workspace()
	if err != nil {
		return err
	}
	switch ctx := cmd.Context(); {
	case what.migrate:
		from, to, err := workspace.Migrate(ctx, o)
		if err != nil {
			return err
		}
		if from == to {
			err = a.done("The state is in %s, where the files keep it.", to)
		} else {
			err = a.done("The state moved from %s to %s; a copy stays behind.", from, to)
		}
		if err != nil {
			return err
		}
	case what.reconfigure:
		to, err := workspace.Reconfigure(ctx, o)
		if err != nil {
			return err
		}
		if err := a.done("The state is that in %s.", to); err != nil {
			return err
		}
	default:
		if err := workspace.Follow(ctx, o); err != nil {
			return err
		}
	}
	if what.adopt {
		return workspace.AdoptLocal(cmd.Context(), o)
	}
	return nil
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
