package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// pipelines are the ready pipelines of `ml ci init`.
//
//go:embed pipelines
var pipelines embed.FS

// ciFiles says where each system expects its pipeline.
var ciFiles = map[string]string{
	"jenkins": "Jenkinsfile",
	"github":  ".github/workflows/ml.yml",
	"gitlab":  ".gitlab-ci.yml",
}

func (a *app) ciCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "ci", Short: "Pipelines for other CI systems"}
	cmd.AddCommand(&cobra.Command{
		Use: "init NAME", Short: "Write a pipeline for jenkins, github or gitlab", Args: cobra.ExactArgs(1),
		Example:   "  ml ci init github",
		ValidArgs: []string{"jenkins", "github", "gitlab"},
		RunE: func(_ *cobra.Command, args []string) error {
			to, ok := ciFiles[args[0]]
			if !ok {
				return fmt.Errorf("no pipeline for %q; choose jenkins, github or gitlab", args[0])
			}
			return a.writePipeline(args[0], to)
		},
	})
	return cmd
}

// writePipeline writes the file, never over one that is there.
func (a *app) writePipeline(name, to string) error {
	dir, err := a.projectDir()
	if err != nil {
		return err
	}
	raw, err := pipelines.ReadFile("pipelines/" + name)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, filepath.FromSlash(to))
	if _, err := os.Stat(path); err == nil {
		return fmt.Errorf("%s is there already; move it away first", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := writeWhole(path, raw, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Out, "Wrote %s.\n", to)
	return err
}
