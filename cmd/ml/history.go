package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

func (a *app) versionsCmd() *cobra.Command {
	var remote daemonFlags
	cmd := &cobra.Command{
		Use: "versions ADDR", Short: "List the versions of a training", Args: cobra.ExactArgs(1),
		Example:           "  ml versions training.churn\n  ml versions training.churn -json",
		ValidArgsFunction: a.completeAddresses("training"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if remote.set() {
				return a.versionsRemote(cmd.Context(), remote, args)
			}
			return a.withBlock(cmd.Context(), args, func(_ *project, snap *state.Snapshot, addr resource.Address) error {
				return a.versions(snap, addr)
			})
		},
	}
	remote.add(cmd)
	return cmd
}

// versionView is one version as `ml versions -json` prints it.
type versionView struct {
	Version int                `json:"version"`
	Digest  resource.Digest    `json:"digest"`
	Created time.Time          `json:"created"`
	Metrics map[string]float64 `json:"metrics"`
	Params  map[string]any     `json:"params,omitempty"`
	Passed  bool               `json:"passed"`
	Current bool               `json:"current"`
	Serves  []string           `json:"serves,omitempty"`
	// Quarantined are the deployments that took it back and do not try it again.
	Quarantined []string `json:"quarantined,omitempty"`
	Run         string   `json:"run"`
	// Inputs are what it was made from, by path: digests, parameters, the command.
	Inputs map[string]json.RawMessage `json:"inputs"`
	// measured are the metrics for people: the training's own, else what judged it.
	measured map[string]float64
	judged   bool
}

func versionViews(snap *state.Snapshot, addr resource.Address) []versionView {
	current := 0
	if rec := snap.Records[addr]; rec != nil {
		current = rec.Version
	}
	out := []versionView{}
	for _, v := range snap.Versions[addr] {
		w := versionView{Version: v.Number, Digest: v.Digest, Created: v.Created, Metrics: v.Metrics, Params: v.Params, Passed: v.Passed(), Current: v.Number == current, Run: v.Run, Inputs: rawParts(v.Parts), measured: measured(v), judged: len(v.Verdicts) > 0}
		if w.Metrics == nil {
			w.Metrics = map[string]float64{}
		}
		for _, a := range sortedAddresses(snap.Records) {
			if a.Kind != "training" && a.Kind != "validation" && strings.Contains(string(snap.Records[a].Outputs), string(v.Digest)) {
				w.Serves = append(w.Serves, a.String())
			}
		}
		for _, a := range sortedAddresses(snap.Quarantines) {
			for _, q := range snap.Quarantines[a] {
				if q.Digest == v.Digest {
					w.Quarantined = append(w.Quarantined, a.String())
				}
			}
		}
		out = append(out, w)
	}
	return out
}

// rawParts are recorded inputs as JSON values: that is what each is recorded as.
func rawParts(parts resource.Parts) map[string]json.RawMessage {
	out := make(map[string]json.RawMessage, len(parts))
	for path, text := range parts {
		raw := json.RawMessage(text)
		if !json.Valid(raw) {
			raw, _ = json.Marshal(text) // a string always marshals
		}
		out[path] = raw
	}
	return out
}

// measured are a version's metrics, or where its training wrote none the values
// that its validations judged.
func measured(v *state.Version) map[string]float64 {
	if len(v.Metrics) > 0 {
		return v.Metrics
	}
	out := map[string]float64{}
	for _, w := range v.Verdicts {
		for _, f := range w.Findings {
			if f.Value != nil && f.Name != "" {
				out[f.Name] = *f.Value
			}
		}
	}
	return out
}

func (a *app) versions(snap *state.Snapshot, addr resource.Address) error {
	views := versionViews(snap, addr)
	if a.json {
		return a.printJSON(views)
	}
	t := report.NewTable("VERSION", "DIGEST", "CREATED", "PASSED", "USED BY", "METRICS")
	for _, v := range views {
		note := strings.Join(v.Serves, " ")
		if v.Current {
			note = strings.TrimSpace("current " + note)
		}
		if len(v.Quarantined) > 0 {
			note = strings.TrimSpace(note + " (quarantined by " + strings.Join(v.Quarantined, ", ") + ")")
		}
		t.Text(fmt.Sprint(v.Version), v.Digest.Short(), report.ShortAgo(v.Created, time.Now()), v.passedText(), note, report.Metrics(v.measured, 0))
	}
	return t.Write(a.Out, a.style())
}

// passedText is for people, who tell a version that nothing judged from one that failed.
func (v versionView) passedText() string {
	switch {
	case v.Passed:
		return "yes"
	case v.judged:
		return "no"
	}
	return "-"
}

func (a *app) runsCmd() *cobra.Command {
	var remote daemonFlags
	cmd := &cobra.Command{
		Use: "runs [ADDR]", Short: "List runs, newest last", Args: cobra.MaximumNArgs(1),
		Example:           "  ml runs\n  ml runs training.churn",
		ValidArgsFunction: a.completeAddresses(),
		RunE: func(cmd *cobra.Command, args []string) error {
			var addr resource.Address
			if len(args) == 1 {
				var err error
				if addr, err = oneAddress(args); err != nil {
					return err
				}
			}
			if remote.set() {
				return a.runsRemote(cmd.Context(), remote, addr)
			}
			return a.withProject(cmd.Context(), func(p *project, _ *state.Snapshot) error {
				runs, err := p.Store.Runs(cmd.Context(), addr)
				if err != nil {
					return err
				}
				return a.runs(runs)
			})
		},
	}
	remote.add(cmd)
	return cmd
}

func (a *app) runs(runs []*state.Run) error {
	if a.json {
		if runs == nil {
			runs = []*state.Run{}
		}
		return a.printJSON(runs)
	}
	t := report.NewTable("RUN", "ADDRESS", "STARTED", "TOOK", "END", "WHY")
	for _, r := range runs {
		end := string(r.Phase)
		if r.Verdict.Bad() {
			end = "bad verdict"
		}
		why := ""
		if len(r.Reasons) > 0 {
			why = r.Reasons[0].Message
		}
		t.Text(r.ID, r.Address.String(), report.ShortAgo(r.Started, time.Now()), report.Duration(r.Finished.Sub(r.Started)), end, why)
	}
	return t.Write(a.Out, a.style())
}
