package main

func ofPlanner() []mutation {
	return []mutation{
		{
			Name: "planner: a closed gate is passed", File: "planner/decide.go",
			Old:     "if gate != nil && d.step != nil && b.doing(d.step)",
			New:     "if false && gate != nil && d.step != nil && b.doing(d.step)",
			Package: "./planner", Test: "TestEachActionAndReason|TestAGateNeverOpensOnAnError",
		},
		{
			Name: "planner: a bad verdict closes nothing", File: "planner/offer.go",
			Old:     "if rec.Verdict.Bad() {\n\t\tr.closed",
			New:     "if false {\n\t\tr.closed",
			Package: "./planner", Test: "TestEachActionAndReason|TestAGateNeverOpensOnAnError",
		},
		{
			Name: "planner: a gate that never opened lets through", File: "planner/offer.go",
			Old:     "if holds(blk.Kind) && b.heldOutputs(blk.Kind, rec) {",
			New:     "if holds(blk.Kind) {",
			Package: "./engine", Test: "TestAGateThatNeverOpenedBlocksWithItsReason",
		},
		{
			Name: "planner: a failure closes nothing", File: "planner/confirm.go",
			Old:     `if o.Failed != "" && (nothing || !blk.Kind.Versioned && !holds(blk.Kind)) {`,
			New:     `if o.Failed != "" && nothing {`,
			Package: "./planner", Test: "TestConfirmStopsBehindAFailureOfWhatHadPassed",
		},
		{
			Name: "planner: a pin holds nothing", File: "planner/hold.go",
			Old:     "if pin := b.in.Prior.Pins[s.blk.Addr]; pin != nil {",
			New:     "if pin := b.in.Prior.Pins[s.blk.Addr]; pin != nil && pin.Version < 0 {",
			Package: "./planner", Test: "TestEachActionAndReason",
		},
		{
			Name: "planner: a quarantine holds nothing", File: "planner/hold.go",
			Old:     "if q == nil || s.rec == nil {",
			New:     "if q == nil || s.rec == nil || q.Version >= 0 {",
			Package: "./planner", Test: "TestEachActionAndReason",
		},
		{
			Name: "planner: triggers are never held back", File: "planner/run.go",
			Old:     "case onlyTriggers(reasons) && b.held(",
			New:     "case false && onlyTriggers(reasons) && b.held(",
			Package: "./planner", Test: "TestEachActionAndReason",
		},
		{
			Name: "planner: new code is held back too", File: "planner/run.go",
			Old:     "case onlyTriggers(reasons) && b.held(",
			New:     "case b.held(",
			Package: "./planner", Test: "TestEachActionAndReason",
		},
		{
			Name: "planner: a budget never ends", File: "planner/run.go",
			Old:     "if len(started) < t.BudgetRuns {",
			New:     "if len(started) >= 0 {",
			Package: "./planner", Test: "TestEachActionAndReason",
		},
		{
			Name: "planner: a run is not triggered by what it names", File: "planner/run.go",
			Old:     "if why := b.triggeredBy(s); len(why) > 0 {",
			New:     "if why := b.triggeredBy(s); false {",
			Package: "./planner", Test: "TestEachActionAndReason",
		},
		{
			Name: "planner: few new rows are enough", File: "planner/run.go",
			Old:     "return more < t.MinNewRows",
			New:     "return more < 0",
			Package: "./planner", Test: "TestTooFewNewRowsDeferTheRun",
		},
		{
			Name: "planner: a run that errored runs for ever", File: "planner/run.go",
			Old:     "if s.rec.Attempt <= allowed {",
			New:     "if s.rec.Attempt >= 0 {",
			Package: "./planner", Test: "TestEachActionAndReason",
		},
		{
			Name: "planner: a signal new in on is never noted", File: "planner/compare.go",
			Old:     "if _, ok := s.rec.Seen[ref.String()]; !ok {",
			New:     "if false {",
			Package: "./planner", Test: "TestEachActionAndReason",
		},
		{
			Name: "planner: an unreadable object is planned on", File: "planner/decide.go",
			Old:     `if s.live.Err != "" {`,
			New:     `if s.live.Err == "never" {`,
			Package: "./planner", Test: "TestEachActionAndReason",
		},
		{
			Name: "planner: prevent_destroy prevents nothing", File: "planner/remove.go",
			Old:     "if (rec.Protected || blk != nil && blk.Lifecycle.PreventDestroy) && st.Action",
			New:     "if blk != nil && blk.Kind == nil && st.Action",
			Package: "./planner", Test: "TestEachActionAndReason",
		},
		{
			Name: "planner: destroy forgets the recorded order", File: "planner/remove.go",
			Old:     "if done[a] || waiting[a] > 0 {",
			New:     "if done[a] {",
			Package: "./planner", Test: "TestEachActionAndReason|TestNeedsComeBeforeTheirUsers",
		},
		{
			Name: "planner: steps wait for nothing", File: "planner/build.go",
			Old:     "st.Needs, st.GatedBy = needs, gates",
			New:     "st.Needs, st.GatedBy = needs[:0], gates",
			Package: "./planner", Test: "TestAWholePlanAsJSON",
		},
		{
			Name: "planner: the reference moves before its version serves", File: "planner/decide.go",
			Old:     "v, data := b.keepData(s, ev)",
			New:     "v, data := ev.Value, false",
			Package: "./planner", Test: "TestAReferenceStaysWithTheVersionThatServes",
		},
		{
			Name: "planner: a provider configuration in use may go", File: "planner/diagnostics.go",
			Old:     "!ok && strings.Contains(name, \".\") {",
			New:     "!ok && name == \"\" {",
			Package: "./planner", Test: "TestAProviderConfigurationThatARecordNeedsCannotBeRemoved",
		},
		{
			Name: "planner: nested provider blocks are not compared", File: "planner/decide.go",
			Old:     "return b.in.Project.Body(blk.Kind, blk.Provider)",
			New:     "return blk.Kind.Body()",
			Package: "./planner", Test: "TestANestedProviderBlockIsPartOfWhatIsCompared",
		},
		{
			Name: "planner: a secret inside of a list is shown", File: "planner/parts.go",
			Old:     "if inside(p, path) || inside(path, p) {",
			New:     "if inside(path, p) {",
			Package: "./planner", Test: "TestSensitiveValuesStandNowhereInAPlan",
		},
		{
			Name: "planner: a map of secrets is shown", File: "planner/parts.go",
			Old:     "if inside(p, path) || inside(path, p) {",
			New:     "if inside(p, path) {",
			Package: "./planner", Test: "TestSensitiveValuesStandNowhereInAPlan",
		},
		{
			Name: "planner: sensitive attributes are shown", File: "planner/show.go",
			Old:     "if l.attr.Sensitive || vals.hidden[l.path] {",
			New:     "if l.attr == nil && vals.hidden[l.path] {",
			Package: "./planner", Test: "TestSensitiveValuesStandNowhereInAPlan|TestAWholePlanAsJSON",
		},
		{
			Name: "planner: sensitive changes are shown", File: "planner/show.go",
			Old:     "if !c.Sensitive {",
			New:     `if c.Path != "" {`,
			Package: "./planner", Test: "TestSensitiveValuesStandNowhereInAPlan",
		},
		{
			Name: "planner: sensitive values are stored", File: "planner/parts.go",
			Old:     `l.text = quote("hash:" + f.hash(l.text))`,
			New:     "l.text = quote(l.text)",
			Package: "./planner", Test: "TestSensitiveValuesStandNowhereInAPlan",
		},
		{
			Name: "confirm: another input than the planned runs", File: "planner/confirm.go",
			Old:     "if path, ok := unchangedPlan(planned, d); !ok {",
			New:     `if path, ok := unchangedPlan(planned, d); !ok && path == "" {`,
			Package: "./planner", Test: "TestConfirmRefusesAnythingElse",
		},
		{
			Name: "confirm: another action than the planned runs", File: "planner/confirm.go",
			Old:     "if !within(planned, d.step) {",
			New:     "if false && !within(planned, d.step) {",
			Package: "./planner", Test: "TestConfirmRefusesAnythingElse",
		},
		{
			Name: "confirm: what is still unknown runs", File: "planner/confirm.go",
			Old:     "if f.Value != cty.NilVal && !unmarked(f.Value).IsWhollyKnown() {",
			New:     "if false {",
			Package: "./planner", Test: "TestConfirmRefusesAnythingElse",
		},
	}
}
