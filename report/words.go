package report

import (
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
)

// movedWord names the codes of inputs that moved; everything else has a phrase
// of its own.
func movedWord(c resource.Code) string {
	switch c { //nolint:exhaustive // only inputs move
	case resource.ReasonDataChanged:
		return "data"
	case resource.ReasonCodeChanged:
		return "code"
	case resource.ReasonParamsChanged:
		return "parameters"
	case resource.ReasonConfigChanged:
		return "configuration"
	case resource.ReasonUpstreamChanged:
		return "upstream"
	}
	return ""
}

func codeWord(c resource.Code) string {
	switch c { //nolint:exhaustive // the others say nothing that the verb does not
	case resource.ReasonSignal:
		return "signal"
	case resource.ReasonSchedule:
		return "schedule"
	case resource.ReasonMaxAge:
		return "too old"
	case resource.ReasonLiveChanged:
		return "changed outside of ml"
	case resource.ReasonMissing:
		return "gone"
	case resource.ReasonFailedBefore:
		return "failed before"
	case resource.ReasonRequested:
		return "asked for"
	case resource.ReasonRemoved:
		return "no file declares it"
	case resource.ReasonPinned:
		return "pinned"
	case resource.ReasonGateClosed:
		return "gate closed"
	case resource.ReasonDeferred:
		return "deferred"
	case resource.ReasonQuarantined:
		return "quarantined"
	}
	return ""
}

// why joins what the reasons say: "data and parameters changed, schedule". The
// only reason that is a sentence of its own stands here whole; inputs that may
// turn out as they were, once they are known, are not said to have changed.
func (v *view) why(st *planner.Step) string {
	words, sentence := whyParts(st)
	if sentence != "" {
		words = append(words, sentence)
	}
	return strings.Join(words, ", ")
}

// whyParts are our own words for the reasons, and the only reason that is a sentence: that one is somebody's text.
func whyParts(st *planner.Step) (words []string, sentence string) {
	var moved, other []string
	sentence, single := onlySentence(st)
	for _, r := range st.Reasons {
		if w := movedWord(r.Code); w != "" {
			if !pending(st, r) {
				moved = appendOnce(moved, w)
			}
		} else if w := codeWord(r.Code); w != "" && !(single && isSentence(r)) {
			other = appendOnce(other, w)
		}
	}
	if len(moved) > 0 {
		other = append([]string{list(moved) + " changed"}, other...)
	}
	if !single {
		sentence = ""
	}
	return other, sentence
}

// isSentence tells reasons that are printed as text from those that have a row
// with a path and values.
func isSentence(r resource.Reason) bool {
	switch r.Code { //nolint:exhaustive // the others are sentences
	case resource.ReasonNew, resource.ReasonMoved, resource.ReasonLiveChanged, resource.ReasonImmutable:
		return false
	case resource.ReasonSignal, resource.ReasonSchedule, resource.ReasonMaxAge:
		return r.By == "" && r.Path == ""
	}
	return movedWord(r.Code) == ""
}

func onlySentence(st *planner.Step) (string, bool) {
	text, n := "", 0
	for _, r := range st.Reasons {
		if isSentence(r) {
			text = sentenceOf(r)
			n++
		}
	}
	return text, n == 1
}

// pending says whether what a reason names is not known yet.
func pending(st *planner.Step, r resource.Reason) bool {
	for _, c := range st.Changes {
		if c.Path == r.Path {
			return c.Unknown
		}
	}
	return r.New == "" && slices.Contains(st.AfterUnknown, r.Path)
}

func appendOnce(to []string, s string) []string {
	if slices.Contains(to, s) {
		return to
	}
	return append(to, s)
}

// list joins words as people do: "a, b and c".
func list(words []string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
	return strings.Join(words, "")
}

func addresses(as []resource.Address, sep string) string {
	names := make([]string, len(as))
	for i, a := range as {
		names[i] = a.String()
	}
	return strings.Join(names, sep)
}

// maxCause is how much of a cause, in runes, stands where it is told a second time.
const maxCause = 100

// brief cuts a cause that stands whole at the step that it befell. What is cut is so long that no one misses a few words.
func brief(text string) string {
	runes := []rune(text)
	if len(runes) <= maxCause {
		return text
	}
	text = string(runes[:maxCause])
	if at := strings.LastIndexByte(text, ' '); at > maxCause/2 {
		text = text[:at]
	}
	return strings.TrimRight(text, " ,;:") + "…"
}
