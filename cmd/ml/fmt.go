package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/config"
)

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

// format goes through all files, also after one that does not parse.
func (a *app) format(args []string, check, recursive bool) error {
	dir, err := a.projectDir()
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{dir}
	}
	changed := false
	var bad hcl.Diagnostics
	for _, arg := range args {
		files := []string{arg}
		if st, err := os.Stat(arg); err == nil && st.IsDir() {
			if files, err = hclFiles(arg, recursive); err != nil {
				return err
			}
		}
		for _, f := range files {
			c, diags, err := a.formatFile(f, check)
			if err != nil {
				return err
			}
			changed, bad = changed || c, append(bad, diags...)
		}
	}
	switch {
	case bad.HasErrors():
		return diagError{Diags: bad, Files: sources("", bad)}
	case check && changed:
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
			out = append(out, relative(path))
		}
		return nil
	})
	return out, err
}

// formatFile rewrites one file when its form differs, and names it. A link
// stays a link: what it leads to is rewritten.
func (a *app) formatFile(path string, check bool) (bool, hcl.Diagnostics, error) {
	if strings.HasSuffix(path, ".json") {
		return false, nil, fmt.Errorf("%s: fmt is for HCL's native syntax; JSON has formatters of its own", path)
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false, nil, err
	}
	st, err := os.Stat(target)
	switch {
	case err != nil:
		return false, nil, err
	case !st.Mode().IsRegular():
		return false, nil, &fs.PathError{Op: "format", Path: path, Err: errors.New("it is not a regular file")}
	}
	src, err := os.ReadFile(target)
	if err != nil {
		return false, nil, err
	}
	formatted, diags := config.Format(src, path)
	if diags.HasErrors() || string(src) == string(formatted) {
		return false, diags, nil
	}
	if _, err := fmt.Fprintln(a.Out, path); err != nil || check {
		return true, nil, err
	}
	return true, nil, writeWhole(target, formatted, st.Mode().Perm())
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
