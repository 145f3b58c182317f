package planner

import (
	"fmt"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// decideRun plans a block that is executed when its inputs moved.
func (b *builder) decideRun(d *decision, s *subject) {
	inputs := resource.Digest("")
	if len(s.vals.unknown) == 0 {
		inputs = s.vals.inputs.Digest()
	}
	if b.replace[s.blk.Addr] {
		b.run(d, s, true, append([]resource.Reason{{Code: resource.ReasonRequested, Message: "asked for with -replace"}}, reasonsOf(s.moved)...))
		return
	}
	if b.imports(d, s) {
		return
	}
	if s.rec == nil {
		b.run(d, s, false, []resource.Reason{{Code: resource.ReasonNew, Message: "first run"}})
		return
	}
	// The next plan would not see this again, so no cooldown may hold it back.
	if why := b.triggeredBy(s); len(why) > 0 {
		b.run(d, s, true, append(why, reasonsOf(s.moved)...))
		return
	}
	trig, err := b.triggers(s)
	if err != nil {
		d.diags = append(d.diags, diagnostic(s.blk, "The retrain block cannot be used", err.Error()))
		return
	}
	asked := b.asked(s, trig)
	if b.failed(d, s, inputs, asked) {
		return
	}
	reasons := append(reasonsOf(s.moved), asked...)
	switch {
	case len(s.rec.Parts) == 0:
		b.run(d, s, false, []resource.Reason{{Code: resource.ReasonNew, Message: "has not succeeded yet"}})
	case len(reasons) == 0 && s.rec.Phase == resource.PhaseFailed && inputs != "" && b.adopt(d, s, inputs, nil):
	case len(reasons) == 0:
		b.quietRun(d, s)
	case onlyTriggers(reasons) && b.held(d, s, trig, reasons):
	case len(asked) == 0 && inputs != "" && b.adopt(d, s, inputs, reasons):
	default:
		b.run(d, s, len(asked) > 0, reasons)
		if s.blk.Kind.Triggers != nil && onlyTriggers(reasons) {
			d.step.Exec.Trigger = true
		}
	}
}

// fewRows says whether too few rows are new. It applies to moved data alone:
// anything else asks for the run whatever the data did. Rows that a step before
// this one has yet to count hold nothing back; when it has, apply asks again.
// Data without rows, such as a folder of images, has none to wait for.
func fewRows(s *subject, t resource.Triggers, reasons []resource.Reason) bool {
	if t.MinNewRows == 0 || len(s.rec.Rows) == 0 {
		return false
	}
	for _, r := range reasons {
		if r.Code != resource.ReasonDataChanged || s.vals.rows[r.Path] == 0 {
			return false
		}
	}
	var more int64
	for path, n := range s.vals.rows {
		more += max(0, n-s.rec.Rows[path])
	}
	return more < t.MinNewRows
}

// failed plans a run that errored on these very inputs. It reports whether that
// settles the matter.
func (b *builder) failed(d *decision, s *subject, inputs resource.Digest, asked []resource.Reason) bool {
	if s.rec.Phase != resource.PhaseFailed || inputs == "" || s.rec.FailedInputs != inputs || len(asked) > 0 {
		return false
	}
	allowed := 0
	if s.blk.Kind.Retries != nil {
		allowed = s.blk.Kind.Retries(s.value)
	}
	if s.rec.Attempt <= allowed {
		b.run(d, s, false, append([]resource.Reason{{Code: resource.ReasonFailedBefore, Message: fmt.Sprintf("attempt %d of %d: %s", s.rec.Attempt+1, allowed+1, s.rec.Message)}}, reasonsOf(s.moved)...))
		return true
	}
	st := newStep(s.blk, resource.Noop)
	st.Reasons = append(st.Reasons, resource.Reason{Code: resource.ReasonFailedBefore, Message: fmt.Sprintf("failed on these inputs (%s); run it again with -replace %s", s.rec.Message, s.blk.Addr.Arg())})
	d.step = st
	if !holds(s.blk.Kind) || !b.heldOutputs(s.blk.Kind, s.rec) {
		if !s.blk.Kind.Versioned || s.rec.Version == 0 {
			d.closed = fmt.Sprintf("%s failed: %s", s.blk.Addr, s.rec.Message)
		}
	}
	return true
}

// run makes the step of a run.
func (b *builder) run(d *decision, s *subject, fresh bool, reasons []resource.Reason) {
	st := newStep(s.blk, resource.RunIt)
	st.Reasons = append(st.Reasons, reasons...)
	b.fill(st, s)
	st.Exec.Fresh = fresh
	d.step = st
	d.outputs = b.planned(s)
	d.verdict = true
}

// adopt plans to make the result of an earlier run on the same inputs current
// again, without running.
func (b *builder) adopt(d *decision, s *subject, inputs resource.Digest, reasons []resource.Reason) bool {
	run, ok := b.in.Prior.RunFor(b.recordedAt(s.blk.Addr), inputs)
	if !ok {
		return false
	}
	msg := "ran on these inputs before; its result becomes current again"
	if run.Version > 0 && s.blk.Kind.Versioned {
		msg = fmt.Sprintf("version %d was made from these inputs and becomes current again", run.Version)
	}
	st := newStep(s.blk, resource.Update)
	st.Reasons = append(append(st.Reasons, reasons...), resource.Reason{Code: resource.ReasonAdopted, Message: msg})
	b.fill(st, s)
	st.Exec.RecordOnly, st.Exec.AdoptRun = true, run.ID
	d.step = st
	d.outputs = b.planned(s)
	d.verdict = true
	return true
}

// quietRun plans a run of which at most policy or thresholds moved.
func (b *builder) quietRun(d *decision, s *subject) {
	judge := movedPolicy(s.rec.Judge, s.vals.judge)
	policy := s.movedPolicy()
	if len(judge) == 0 && len(policy) == 0 {
		return
	}
	st := newStep(s.blk, resource.Update)
	for _, m := range judge {
		st.Reasons = append(st.Reasons, resource.Reason{Code: resource.ReasonConfigChanged, Path: m.path, Old: unquoteText(m.old), New: unquoteText(m.new), Message: "recorded metrics are judged again"})
	}
	st.Reasons = append(st.Reasons, policyReasons(policy)...)
	b.fill(st, s)
	st.Exec.Judge, st.Exec.RecordOnly = len(judge) > 0, len(judge) == 0
	d.step = st
	if st.Exec.Judge {
		d.outputs, d.verdict = b.planned(s), true
	} else {
		st.Gate = nil
	}
}

// triggers reads what may ask for a fresh run.
func (b *builder) triggers(s *subject) (resource.Triggers, error) {
	if s.blk.Kind.Triggers == nil {
		return resource.Triggers{}, nil
	}
	t, err := s.blk.Kind.Triggers(s.value)
	t.On = s.blk.Feedback
	return t, err
}

// epochs are the present epochs of the signals that a block listens to: what
// its run will have taken note of.
func (b *builder) epochs(blk *config.Block) map[string]int64 {
	if len(blk.Feedback) == 0 {
		return nil
	}
	seen := make(map[string]int64, len(blk.Feedback))
	for _, ref := range blk.Feedback {
		seen[ref.String()] = 0
		if s := b.signal(ref); s != nil {
			seen[ref.String()] = s.Epoch
		}
	}
	return seen
}

// asked lists the triggers that are due. A signal that is new in `on` takes its
// present epoch as seen.
func (b *builder) asked(s *subject, t resource.Triggers) []resource.Reason {
	var out []resource.Reason
	for _, ref := range t.On {
		seen, known := s.rec.Seen[ref.String()]
		sig := b.signal(ref)
		if sig == nil || !known || sig.Epoch <= seen {
			continue
		}
		out = append(out, resource.Reason{
			Code: resource.ReasonSignal, Path: "retrain.on", By: ref.String(),
			Old: fmt.Sprint(seen), New: fmt.Sprint(sig.Epoch), Message: signalMessage(sig),
		})
	}
	last := b.lastRun(s)
	if due, ok := scheduled(t, last); ok && !due.After(b.in.Now) {
		out = append(out, resource.Reason{Code: resource.ReasonSchedule, Path: "retrain.schedule", New: due.UTC().Format(time.RFC3339), Message: "due since " + due.UTC().Format("2006-01-02 15:04 MST")})
	}
	if t.MaxAge > 0 && !last.IsZero() && b.in.Now.Sub(last) >= t.MaxAge {
		out = append(out, resource.Reason{Code: resource.ReasonMaxAge, Path: "retrain.max_age", Message: fmt.Sprintf("last run %s ago, older than %s", roundDuration(b.in.Now.Sub(last)), t.MaxAge)})
	}
	return out
}

// signalMessage says why a signal asks, also when it is calm again by now.
func signalMessage(s *state.Signal) string {
	if s.State == resource.SignalBad {
		return s.Message
	}
	return fmt.Sprintf("turned bad since the last run; now %s", s.Message)
}

// lastRun is when the newest run started, whatever its end; the record's
// creation when there is none.
func (b *builder) lastRun(s *subject) time.Time {
	runs := b.in.Prior.Runs[b.recordedAt(s.blk.Addr)]
	if len(runs) == 0 {
		return s.rec.Created
	}
	return runs[len(runs)-1].Started
}

// scheduled is the first time after last at which the schedule asks for a run.
func scheduled(t resource.Triggers, last time.Time) (time.Time, bool) {
	if t.Schedule == "" {
		return time.Time{}, false
	}
	slot, err := config.Slots(t.Schedule, t.TimeZone)
	if err != nil {
		return time.Time{}, false // config refuses it; a record may hold an older one
	}
	next := slot(last)
	return next, !next.IsZero()
}

// onlyTriggers says whether nothing but data, another block's new version, a
// signal, the schedule or age asks: none of what somebody wrote.
func onlyTriggers(rs []resource.Reason) bool {
	for _, r := range rs {
		switch r.Code {
		case resource.ReasonDataChanged, resource.ReasonUpstreamChanged, resource.ReasonSignal, resource.ReasonSchedule, resource.ReasonMaxAge:
		default:
			return false
		}
	}
	return true
}

// held plans a no-op while the cooldown, the budget or a lack of new rows holds a
// triggered run back.
func (b *builder) held(d *decision, s *subject, t resource.Triggers, reasons []resource.Reason) bool {
	r := resource.Reason{Code: resource.ReasonDeferred, Path: "retrain"}
	switch until, why := b.deferral(s, t); {
	case until.After(b.in.Now):
		r.New = until.UTC().Format(time.RFC3339)
		r.Message = fmt.Sprintf("deferred until %s: %s", until.UTC().Format("2006-01-02 15:04:05 MST"), why)
	case fewRows(s, t, reasons):
		r.Message = fmt.Sprintf("deferred: fewer than %d new rows", t.MinNewRows)
	default:
		return false
	}
	st := newStep(s.blk, resource.Noop)
	st.Reasons = append(append(st.Reasons, r), reasons...)
	d.step = st
	return true
}

func (b *builder) deferral(s *subject, t resource.Triggers) (time.Time, string) {
	runs := b.in.Prior.Runs[b.recordedAt(s.blk.Addr)]
	var until time.Time
	why := ""
	if t.Cooldown > 0 && len(runs) > 0 {
		if u := runs[len(runs)-1].Finished.Add(t.Cooldown); u.After(until) {
			until, why = u, fmt.Sprintf("cooldown of %s", t.Cooldown)
		}
	}
	if t.BudgetPer > 0 {
		if u, ok := budgetUntil(runs, t, b.in.Now); ok && u.After(until) {
			until, why = u, fmt.Sprintf("budget of %d runs per %s is used up", t.BudgetRuns, t.BudgetPer)
		}
	}
	return until, why
}

// budgetUntil is when the oldest triggered run leaves the period, if the budget is used up.
func budgetUntil(runs []state.RunKey, t resource.Triggers, now time.Time) (time.Time, bool) {
	var started []time.Time
	for _, r := range runs {
		if r.Trigger && r.Started.Add(t.BudgetPer).After(now) {
			started = append(started, r.Started)
		}
	}
	if len(started) < t.BudgetRuns {
		return time.Time{}, false
	}
	if t.BudgetRuns == 0 {
		return now.Add(t.BudgetPer), true
	}
	return started[len(started)-t.BudgetRuns].Add(t.BudgetPer), true
}

func roundDuration(d time.Duration) time.Duration {
	if d > time.Hour {
		return d.Round(time.Minute)
	}
	return d.Round(time.Second)
}

// NextDue is when the schedule asks for the run after last; max_age too.
func NextDue(t resource.Triggers, last time.Time) (time.Time, bool) {
	due, ok := scheduled(t, last)
	if t.MaxAge > 0 {
		if old := last.Add(t.MaxAge); !ok || old.Before(due) {
			return old, true
		}
	}
	return due, ok
}
