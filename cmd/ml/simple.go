package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

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
			conf, dir, err := a.load(cmd.Context())
			if err == nil {
				if found := conf.Validate(); found.HasErrors() {
					err = diagError{Diags: found, Files: sources(dir, found)}
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
	if err := report.DiagnosticsJSON(a.Out, d.Diags, d.Files); err != nil {
		return err
	}
	if d.Diags.HasErrors() {
		return exitCode{code: exitError}
	}
	return nil
}
