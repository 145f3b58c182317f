package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/report"
)

// version is set by the release build.
var version = "0.1.0-dev"

// toolVersion is this program's version.
func toolVersion() string { return version }

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Example: "  ml version",
		RunE: func(*cobra.Command, []string) error {
			commit := ""
			if bi, ok := debug.ReadBuildInfo(); ok {
				for _, s := range bi.Settings {
					if s.Key == "vcs.revision" {
						commit = s.Value
					}
				}
			}
			if a.json {
				return a.printJSON(map[string]string{"version": version, "commit": commit, "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH})
			}
			_, err := fmt.Fprintf(a.Out, "ml %s (%s/%s, %s)\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
			return err
		},
	}
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.Out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (a *app) validateCmd() *cobra.Command {
	return &cobra.Command{
		Use: "validate", Short: "Check the files without reading state or sources", Args: cobra.NoArgs,
		Example: "  ml validate\n  ml validate -json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			conf, _, dir, err := a.load(cmd.Context())
			if err == nil {
				if found := conf.Validate(); found.HasErrors() {
					err = diagError{diags: found, files: sources(dir, found)}
				}
			}
			var diags diagError
			if a.json && (err == nil || errors.As(err, &diags)) {
				return a.validateJSON(diags)
			}
			if err != nil {
				return err
			}
			return a.done("The files are valid: %s.", report.Plural(len(conf.Blocks), "block", "blocks"))
		},
	}
}

func (a *app) validateJSON(d diagError) error {
	if err := report.DiagnosticsJSON(a.Out, d.diags, d.files); err != nil {
		return err
	}
	if d.diags.HasErrors() {
		return exitCode{code: exitError}
	}
	return nil
}

func (a *app) fmtCmd() *cobra.Command {
	var check, recursive bool
	cmd := &cobra.Command{
		Use: "fmt [FILE…]", Short: "Put the files into their usual form",
		Example: "  ml fmt\n  ml fmt -check",
		RunE: func(_ *cobra.Command, args []string) error {
			return a.format(args, check, recursive)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "change nothing; exit 3 when a file would change")
	cmd.Flags().BoolVar(&recursive, "recursive", false, "also the folders below")
	return cmd
}

func (a *app) format(args []string, check, recursive bool) error {
	dir, err := a.projectDir()
	if err != nil {
		return err
	}
	files := args
	if len(files) == 0 {
		if files, err = hclFiles(dir, recursive); err != nil {
			return err
		}
	}
	changed := false
	for _, f := range files {
		c, err := a.formatFile(f, check)
		if err != nil {
			return err
		}
		changed = changed || c
	}
	if check && changed {
		return exitCode{code: exitVerdict}
	}
	return nil
}

func hclFiles(dir string, recursive bool) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir && (!recursive || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !d.IsDir() && (strings.HasSuffix(path, ".ml.hcl") || strings.HasSuffix(path, ".vars.hcl")):
			out = append(out, path)
		}
		return nil
	})
	return out, err
}

// formatFile rewrites one file when its form differs, and names it.
func (a *app) formatFile(path string, check bool) (bool, error) {
	st, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	formatted, diags := config.Format(src, path)
	if diags.HasErrors() {
		return false, diagError{diags: diags}
	}
	if string(src) == string(formatted) {
		return false, nil
	}
	if _, err := fmt.Fprintln(a.Out, path); err != nil || check {
		return true, err
	}
	return true, writeWhole(path, formatted, st.Mode().Perm())
}

// relative shows a path below the working folder without its prefix.
func relative(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	return rel
}
