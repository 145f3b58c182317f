package report

import (
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// Result says how an apply ended, by address.
type Result struct {
	Done, Unchanged, Failed, Blocked []resource.Address
	// Running goes on in the background; NotStarted was kept from starting.
	Running, NotStarted []resource.Address
	Errors              map[resource.Address]error
	// Bad are the bad verdicts in scope, whether this apply made them or not.
	Bad     map[resource.Address]*resource.Verdict
	Elapsed time.Duration
}

// Summary writes the end of an apply: what failed and why, the bad verdicts with
// what they rest on, what goes on, what to do next, and as the last line
// "Applied: 1 added, 2 changed, 0 destroyed, 1 run, in 12s.", without the quotes.
func Summary(w io.Writer, p *planner.Plan, r Result, s Style) error {
	o := &out{s: s}
	v := newView(p, s)
	v.failures(o, r)
	v.verdicts(o, r)
	for _, x := range []struct {
		title string
		list  []resource.Address
	}{{"Going on in the background: ", r.Running}, {"Not started: ", r.NotStarted}} {
		if len(x.list) > 0 {
			o.wrapped(0, Plain, x.title+v.some(x.list)+".")
		}
	}
	if text := v.afterwards(r); text != "" && !s.NoHint {
		o.wrapped(0, Faint, text)
	}
	o.line(span{v.applied(r), Strong})
	return o.writeTo(w)
}

func (v *view) failures(o *out, r Result) {
	for _, a := range sorted(r.Failed) {
		msg := "no error was given"
		if err := r.Errors[a]; err != nil {
			msg = a.Trim(err.Error())
		}
		o.line(span{v.s.pick("✗ ", "x "), Bad}, span{a.String(), Strong}, span{" failed", Bad})
		o.wrapped(rowIndent, Plain, strings.TrimRight(msg, "\n"))
	}
	if len(r.Failed) > 0 {
		o.line()
	}
}

func (v *view) verdicts(o *out, r Result) {
	bad := make([]resource.Address, 0, len(r.Bad))
	for a := range r.Bad {
		if !slices.Contains(r.Failed, a) { // told above, and the error is all its verdict says
			bad = append(bad, a)
		}
	}
	for _, a := range sorted(bad) {
		verdict := r.Bad[a]
		if verdict == nil {
			continue
		}
		o.line(span{v.s.pick("✗ ", "x "), Bad}, span{a.String(), Strong}, span{" did not pass", Bad})
		rows := v.findingRows(a, verdict)
		if len(rows) == 0 && verdict.Message != "" {
			o.wrapped(rowIndent, Plain, verdict.Message)
		}
		v.table(o, rows)
	}
	if len(bad) > 0 {
		o.line()
	}
}

func (v *view) some(list []resource.Address) string {
	list = sorted(list)
	more := len(list) - maxChanges
	if more <= 1 || v.s.Verbose {
		return addresses(list, ", ")
	}
	return addresses(list[:maxChanges], ", ") + " and " + Count(more) + " more"
}

func (v *view) onlyDeletes(done []resource.Address) bool {
	for _, a := range done {
		if st := v.step(a); st == nil || st.Action != resource.Delete {
			return false
		}
	}
	return true
}

func (v *view) afterwards(r Result) string {
	switch {
	case len(r.Running) > 0:
		return "Next: ml apply collects what goes on; ml cancel " + sorted(r.Running)[0].Arg() + " stops it."
	case len(r.Failed) > 0:
		a := sorted(r.Failed)[0]
		var absent *providers.NotStartedError
		if st := v.step(a); st != nil && st.Action == resource.RunIt && !errors.As(r.Errors[a], &absent) {
			return "Next: ml logs " + a.Arg() + " shows its output. Mend it and apply again; ml apply -replace " + a.Arg() + " tries the same once more."
		}
		return "Next: mend the cause; ml apply goes on from here."
	case len(r.NotStarted) > 0:
		return "Next: ml apply does the rest."
	case len(r.Bad) > 0:
		worst := resource.Address{}
		for a := range r.Bad {
			if worst.IsZero() || a.Compare(worst) < 0 {
				worst = a
			}
		}
		return "What served before goes on serving. Next: ml explain " + worst.Arg() + " shows what opens the gate."
	case len(r.Done) > 0 && v.onlyDeletes(r.Done):
		return "Model versions stay until ml prune; ml apply brings back what the files declare."
	case len(r.Done) > 0:
		return "Next: ml status shows how everything stands."
	}
	return ""
}

func (v *view) applied(r Result) string {
	n := map[resource.Action]int{}
	for _, a := range r.Done {
		if st := v.step(a); st != nil {
			n[st.Action]++
		}
	}
	parts := []string{
		Count(n[resource.Create]) + " added", Count(n[resource.Update]) + " changed",
		Count(n[resource.Delete]) + " destroyed", Count(n[resource.RunIt]) + " run",
	}
	for _, x := range []struct {
		n    int
		what string
	}{
		{n[resource.Replace], "replaced"}, {n[resource.Move], "moved"}, {n[resource.Import], "imported"}, {n[resource.Forget], "forgotten"},
		{len(r.Failed), "failed"}, {len(r.Blocked), "blocked"}, {len(r.Running), "going on"}, {len(r.NotStarted), "not started"},
	} {
		if x.n > 0 {
			parts = append(parts, Count(x.n)+" "+x.what)
		}
	}
	text := "Applied: " + strings.Join(parts, ", ")
	if r.Elapsed > 0 {
		text += ", in " + Duration(r.Elapsed)
	}
	return text + "."
}

func sorted(list []resource.Address) []resource.Address {
	return slices.SortedFunc(slices.Values(list), resource.Address.Compare)
}
