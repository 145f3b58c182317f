package daemon

import (
	"fmt"
	"slices"
	"time"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// Policy says what the daemon may do alone.
type Policy struct {
	// Allow are the actions that need nobody's approval.
	Allow []resource.Action
	// MaxDeleteShare is the greatest share of what is recorded that one plan may
	// take away without an approval, 0 to 1, whatever Allow says.
	MaxDeleteShare float64
	// Windows are when it may act; none = always.
	Windows []Window
}

// Window is a time that comes again.
type Window struct {
	Next  func(time.Time) time.Time // first beginning after a time
	Lasts time.Duration
}

// DefaultPolicy lets everything happen but deletions.
func DefaultPolicy() Policy {
	return Policy{
		Allow: []resource.Action{
			resource.Create, resource.Update, resource.Replace, resource.RunIt, resource.Move, resource.Import, resource.Forget,
		},
		MaxDeleteShare: 0.3,
	}
}

// Decision says what may happen to a plan now.
type Decision struct {
	// Wait, when not zero, is when the next window opens: nothing happens before.
	Wait time.Time
	// Held say why the plan needs an approval, in the words that people read;
	// none = it may run.
	Held []string
}

// Alone says whether the plan may run now, without anybody.
func (d Decision) Alone() bool { return d.Wait.IsZero() && len(d.Held) == 0 }

// Decide looks at a plan. records is how many blocks are recorded; rewritten
// says that the commit does not follow the one that was applied.
func (p Policy) Decide(plan *planner.Plan, records int, rewritten bool, now time.Time) Decision {
	var d Decision
	if rewritten {
		d.Held = append(d.Held, "the branch's history was rewritten: the commit that was applied is not among its ancestors")
	}
	gone := 0
	notAllowed := map[resource.Action][]resource.Address{}
	for _, st := range plan.Steps {
		if st.Action == resource.Noop || st.Action == resource.Blocked {
			continue
		}
		if st.Action == resource.Delete || st.Action == resource.Forget {
			gone++
		}
		if !slices.Contains(p.Allow, st.Action) {
			notAllowed[st.Action] = append(notAllowed[st.Action], st.Address)
		}
	}
	for _, a := range actions {
		if list := notAllowed[a]; len(list) > 0 {
			d.Held = append(d.Held, fmt.Sprintf("the policy does not let the daemon %s alone: %s", a, few(list)))
		}
	}
	switch {
	case gone > 0 && gone == records:
		d.Held = append(d.Held, fmt.Sprintf("it would take away all that there is (%d)", gone))
	case records > 0 && float64(gone) > p.MaxDeleteShare*float64(records) && gone > 0:
		d.Held = append(d.Held, fmt.Sprintf("it would take away %d of %d blocks, more than max_delete_share = %g", gone, records, p.MaxDeleteShare))
	}
	d.Wait = p.opens(now)
	return d
}

// opens is when the next window opens, zero inside of one.
func (p Policy) opens(now time.Time) time.Time {
	var first time.Time
	for _, w := range p.Windows {
		// The window that is open now, if any, is the first that began within its length.
		if began := w.Next(now.Add(-w.Lasts)); !began.IsZero() && !began.After(now) {
			return time.Time{}
		}
		if next := w.Next(now); !next.IsZero() && (first.IsZero() || next.Before(first)) {
			first = next
		}
	}
	return first
}

// few names addresses, not more than people read.
func few(list []resource.Address) string {
	const most = 3
	out := ""
	for i, a := range list {
		if i == most {
			return fmt.Sprintf("%s and %d more", out, len(list)-most)
		}
		if i > 0 {
			out += ", "
		}
		out += a.String()
	}
	return out
}
