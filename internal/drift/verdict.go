package drift

// Verdict is what one window of a monitor came to.
type Verdict string

// The verdicts. Only Good and Bad say something about the data.
const (
	Good   Verdict = "good"
	Bad    Verdict = "bad"
	TooFew Verdict = "too_few" // fewer rows, or windows, than a verdict needs
	NoData Verdict = "no_data" // the window is empty
	Failed Verdict = "error"   // the window could not be judged
)

// Confirm returns the verdict of a monitor after its latest window, asking for
// need consecutive bad windows (at least 1) before it says [Bad]. History
// holds the verdicts of the earlier windows themselves, oldest first.
//
// Windows that say nothing about the data neither count nor break a run: an
// outage between two bad windows must not silence the alarm. A bad run still
// short of need is [Good] if a good window stands before it, else [TooFew].
// One good window ends a run at once. Any other latest verdict is returned as
// it is.
func Confirm(history []Verdict, latest Verdict, need int) Verdict {
	if latest != Bad {
		return latest
	}
	run := 1
	for i := len(history) - 1; i >= 0 && run < need; i-- {
		switch history[i] {
		case Bad:
			run++
		case Good:
			return Good
		}
	}
	if run < need {
		return TooFew
	}
	return Bad
}
