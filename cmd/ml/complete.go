package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/config"
)

// bashWords stands in for the one function that the script for bash takes from
// the package bash-completion, where that is not installed: macOS, containers.
const bashWords = `if ! declare -F _get_comp_words_by_ref >/dev/null; then
    _get_comp_words_by_ref() {
        words=("${COMP_WORDS[@]}")
        cword=$COMP_CWORD
        cur=${COMP_WORDS[COMP_CWORD]}
        prev=${COMP_WORDS[COMP_CWORD-1]}
    }
fi
`

func (a *app) completionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "completion SHELL", Short: "Print a completion script for bash, zsh, fish or powershell",
		Example: "  source <(ml completion bash)\n  ml completion zsh > \"${fpath[1]}/_ml\"\n  ml completion fish > ~/.config/fish/completions/ml.fish",
		Args:    cobra.ExactArgs(1), ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				if _, err := io.WriteString(a.Out, bashWords); err != nil {
					return err
				}
				return root.GenBashCompletionV2(a.Out, true)
			case "zsh":
				return root.GenZshCompletion(a.Out)
			case "fish":
				return root.GenFishCompletion(a.Out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.Out)
			}
			return fmt.Errorf("no completion for %q; choose bash, zsh, fish or powershell", args[0])
		},
	}
}

// oneDash offers long flags with one dash where one was typed: a shell drops
// what does not begin with what stands there.
type oneDash struct{ io.Writer }

// Write implements io.Writer. cobra writes line by line.
func (w oneDash) Write(line []byte) (int, error) {
	flag, ok := bytes.CutPrefix(line, []byte("--"))
	if !ok {
		return w.Writer.Write(line)
	}
	if _, err := w.Writer.Write(append([]byte("-"), flag...)); err != nil {
		return 0, err
	}
	return len(line), nil
}

// completeAddresses offers the declared addresses of these kinds (of all for
// none) for the first argument of a command, or the value of a flag.
func (a *app) completeAddresses(kinds ...string) cobra.CompletionFunc {
	return a.completing(func(conf *config.Project) []string {
		var out []string
		for _, b := range conf.Blocks {
			if len(kinds) == 0 || slices.Contains(kinds, b.Kind.Name) {
				out = append(out, b.Addr.String())
			}
		}
		return out
	})
}

// completeOutputs offers the outputs of the root module.
func (a *app) completeOutputs() cobra.CompletionFunc {
	return a.completing(func(conf *config.Project) []string {
		var out []string
		for _, o := range conf.Outputs {
			out = append(out, o.Name)
		}
		return out
	})
}

// completing offers names of the project for the first argument. Files that
// cannot be loaded offer nothing: a key that completes is no place for errors.
func (a *app) completing(names func(*config.Project) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		conf, _, err := a.load(cmd.Context())
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		out := slices.DeleteFunc(names(conf), func(s string) bool { return !strings.HasPrefix(s, prefix) })
		slices.Sort(out)
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// complete offers values for a flag. The only error is a flag that the command
// does not have, which a test of the flag finds.
func (a *app) complete(cmd *cobra.Command, flag string, values cobra.CompletionFunc) {
	_ = cmd.RegisterFlagCompletionFunc(flag, func(c *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return values(c, nil, prefix)
	})
}

// completeRecords offers the recorded addresses.
func (a *app) completeRecords(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	p, err := a.bareState()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	snap, err := p.Store.Snapshot(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, addr := range sortedAddresses(snap.Records) {
		if s := addr.String(); strings.HasPrefix(s, prefix) {
			out = append(out, s)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
