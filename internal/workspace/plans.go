package workspace

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/state"
)

// Saved is the plan with what is needed to run it later; who made it.
func (w *Workspace) Saved(plan *planner.Plan, o engine.PlanOptions, who string) (*engine.SavedPlan, error) {
	vars, err := w.keptVars()
	return &engine.SavedPlan{
		Tool: w.o.Version, Who: who, Plan: plan, Vars: vars, Read: w.Conf.Contents,
		Options: engine.SavedOptions{Targets: o.Targets, Replace: o.Replace, Destroy: o.Destroy},
	}, err
}

// Keep puts the plan among those that wait for an approval.
func (w *Workspace) Keep(saved *engine.SavedPlan) error {
	return engine.KeepPlan(filepath.Join(w.Dir, PlansFolder), w.Key, saved, time.Now())
}

// WaitingPlan is a plan that could still run, and its approval if it has one.
type WaitingPlan struct {
	*engine.SavedPlan
	Approval *state.Approval
}

// AnyKept says whether any plan was kept, used or not.
func (w *Workspace) AnyKept() (bool, error) {
	paths, err := engine.PendingPlans(filepath.Join(w.Dir, PlansFolder), "")
	return len(paths) > 0, err
}

// Waiting lists the plans that could still run: neither used nor expired, nor
// of another version of ml.
func (w *Workspace) Waiting(snap *state.Snapshot) ([]WaitingPlan, error) {
	paths, err := engine.PendingPlans(filepath.Join(w.Dir, PlansFolder), "")
	if err != nil {
		return nil, err
	}
	var out []WaitingPlan
	for _, path := range paths {
		saved, err := engine.ReadPlan(path, w.Key, w.o.Version, time.Now())
		if err != nil {
			continue // expired, damaged, or of another version: nothing that can be approved
		}
		ap := snap.Approval(saved.Digest)
		if ap != nil && ap.Used != nil {
			continue
		}
		out = append(out, WaitingPlan{SavedPlan: saved, Approval: ap})
	}
	return out, nil
}

// keptVars are the variables that were given from outside, for a plan that is
// applied as it is. A secret stands in no file: it is given again, and the
// project's digest tells whether it is the same.
func (w *Workspace) keptVars() ([]engine.SavedVar, error) {
	return KeptVars(slices.DeleteFunc(slices.Clone(w.Vars), func(v config.VarInput) bool { return w.Conf.SensitiveVar(v.Name) }))
}

// KeptVars are variables in a form that can be written down.
func KeptVars(vars []config.VarInput) ([]engine.SavedVar, error) {
	var out []engine.SavedVar
	for _, v := range vars {
		kept := engine.SavedVar{Name: v.Name, Source: v.Source, Text: v.Text}
		if v.Text == nil {
			var err error
			if kept.Value, err = ctyjson.Marshal(v.Value, cty.DynamicPseudoType); err != nil {
				return nil, fmt.Errorf("save variable %s: %w", v.Name, err)
			}
		}
		out = append(out, kept)
	}
	return out, nil
}

// SavedVars are the variables that a saved plan was made with.
func SavedVars(saved *engine.SavedPlan) ([]config.VarInput, error) { return Vars(saved.Vars) }

// Vars reads variables that KeptVars wrote down.
func Vars(kept []engine.SavedVar) ([]config.VarInput, error) {
	var out []config.VarInput
	for _, k := range kept {
		in := config.VarInput{Name: k.Name, Source: k.Source, Text: k.Text}
		if k.Text == nil {
			var err error
			if in.Value, err = ctyjson.Unmarshal(k.Value, cty.DynamicPseudoType); err != nil {
				return nil, fmt.Errorf("variable %s as it was saved: %w; make a new plan", k.Name, err)
			}
		}
		out = append(out, in)
	}
	return out, nil
}
