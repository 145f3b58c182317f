package workspace

import (
	"maps"
	"slices"

	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/state"
)

// Candidates compares the metrics of the versions that a plan makes current
// again with those that are current now. Metrics of a version that is still to be
// trained are not known, so it is not among them.
func Candidates(planned *engine.Planned) []report.MetricChange {
	var out []report.MetricChange
	snap := planned.Input.Prior
	for _, st := range planned.Plan.Steps {
		i := slices.IndexFunc(snap.Runs[st.Address], func(k state.RunKey) bool { return k.ID == st.Exec.AdoptRun })
		if i < 0 {
			continue
		}
		next := snap.Version(st.Address, snap.Runs[st.Address][i].Version)
		if next == nil {
			continue // a check, or a version that was pruned
		}
		var now state.Version
		if rec := snap.Records[st.Address]; rec != nil {
			if v := snap.Version(st.Address, rec.Version); v != nil {
				now = *v
			}
		}
		all := maps.Clone(now.Metrics)
		if all == nil {
			all = map[string]float64{}
		}
		maps.Copy(all, next.Metrics)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			c := report.MetricChange{Address: st.Address, Metric: name, Before: metric(now.Metrics, name), After: metric(next.Metrics, name)}
			if len(next.Verdicts) > 0 {
				passed := next.Passed()
				c.Passed = &passed
			}
			out = append(out, c)
		}
	}
	return out
}

func metric(of map[string]float64, name string) *float64 {
	if v, ok := of[name]; ok {
		return &v
	}
	return nil
}
