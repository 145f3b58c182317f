package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/internal/drift"
	"github.com/continuo-ml/continuo/internal/tabular"
)

func (a *app) driftCmd() *cobra.Command {
	var method, profile string
	var detailed bool
	cmd := &cobra.Command{
		Use: "drift REFERENCE CURRENT", Short: "Compare two files column by column, as monitors do", Args: cobra.ExactArgs(2),
		Example: "  ml drift reference.csv current.csv\n  ml drift reference.parquet current.parquet -method psi -json",
		RunE: func(cmd *cobra.Command, args []string) error {
			rep, err := compareFiles(cmd.Context(), args[0], args[1], method, profile)
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(rep)
			} else {
				err = driftView(a.Out, rep, a.style())
			}
			if err == nil && detailed && rep.Drifted {
				return exitCode{code: exitChanges}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&method, "method", "auto", "auto, ks, psi, wasserstein, jensen_shannon, chi_square, z, kl_div, hellinger or tvd")
	cmd.Flags().StringVar(&profile, "profile", "evidently", "defaults of evidently or alibi")
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 2 when the data drifted")
	return cmd
}

// compareFiles compares the columns that both files have.
func compareFiles(ctx context.Context, ref, cur, method, profile string) (drift.Report, error) {
	m, err := drift.ParseMethod(method)
	if err != nil {
		return drift.Report{}, err
	}
	prof, err := drift.ParseProfile(profile)
	if err != nil {
		return drift.Report{}, err
	}
	old, err := tabular.Load(ctx, []string{ref}, tabular.Options{})
	if err != nil {
		return drift.Report{}, err
	}
	now, err := tabular.Load(ctx, []string{cur}, tabular.Options{})
	if err != nil {
		return drift.Report{}, err
	}
	return drift.Tables(old, now, m, prof)
}
