package planner

import (
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/continuo-ml/continuo/resource"
)

// moved is one path whose value differs from what was last applied.
type moved struct {
	path     string
	old, new string
	unknown  bool
	reason   resource.Reason
	attr     *resource.Attr // nil for probes and for attributes that are gone
}

// compare finds the inputs that moved since the last successful run or apply.
func (b *builder) compare(s *subject) {
	if s.rec == nil || len(s.rec.Parts) == 0 {
		return // it never succeeded: everything would be new
	}
	b.asHashed(s)
	ignored := slices.Concat(s.blk.Lifecycle.IgnoreChanges, otherProviders(s))
	for _, path := range s.vals.inputs.Paths() {
		if old, ok := s.rec.Parts[path]; (!ok || old != s.vals.inputs[path]) && !ignores(ignored, path) {
			s.moved = append(s.moved, b.movedPath(s, path, old, s.vals.inputs[path], false))
		}
	}
	for _, path := range s.vals.unknown {
		if s.rec.Parts[path] == "" && slices.Contains(s.pending, path) {
			continue // a kind may probe more than this block ever has
		}
		if !ignores(ignored, path) {
			s.moved = append(s.moved, b.movedPath(s, path, s.rec.Parts[path], "", true))
		}
	}
	for _, path := range s.rec.Parts.Paths() {
		if _, ok := s.vals.inputs[path]; !ok && !slices.Contains(s.vals.unknown, path) && !ignores(ignored, path) && !b.underUnknown(s, path) {
			s.moved = append(s.moved, b.movedPath(s, path, s.rec.Parts[path], "", false))
		}
	}
	sort.SliceStable(s.moved, func(i, j int) bool { return s.moved[i].path < s.moved[j].path })
	for _, path := range s.blk.Lifecycle.IgnoreChanges {
		b.keepIgnored(s, path)
	}
}

// otherProviders are the nested blocks that say nothing about a run which another
// provider now serves: where it runs is policy, so neither the old provider's
// block nor the new one's makes it run again.
func otherProviders(s *subject) []string {
	if s.blk.Kind.Class != resource.Run {
		return nil
	}
	was, _, _ := strings.Cut(s.rec.Provider, ".")
	is, _, _ := strings.Cut(s.blk.Provider, ".")
	if was == is {
		return nil
	}
	return []string{was, is}
}

// underUnknown says whether path lies inside a value that is not known as a whole.
func (b *builder) underUnknown(s *subject, path string) bool {
	for _, u := range s.vals.unknown {
		if strings.HasPrefix(path, u+".") {
			return true
		}
	}
	return false
}

// keepIgnored takes ignored paths as they were last applied, so that they do
// not count as moved next time either.
func (b *builder) keepIgnored(s *subject, prefix string) {
	for path, old := range s.rec.Parts {
		if ignores([]string{prefix}, path) {
			s.vals.inputs[path] = old
		}
	}
}

func ignores(list []string, path string) bool {
	for _, p := range list {
		if p == "all" || path == p || strings.HasPrefix(path, p+".") {
			return true
		}
	}
	return false
}

func (b *builder) movedPath(s *subject, path, old, text string, unknown bool) moved {
	m := moved{path: path, old: old, new: text, unknown: unknown}
	r := resource.Reason{Code: resource.ReasonConfigChanged, Path: path, Old: unquoteText(old), New: unquoteText(text)}
	if l := s.vals.leaf(path); l != nil {
		m.attr = l.attr
		r.Code, r.By = l.cause(), l.by
	} else if c, ok := s.blk.Kind.ProbeCodes[path]; ok {
		r.Code = c
	} else if a := attrAt(b.body(s.blk), path); a != nil {
		m.attr = a
		r.Code = a.Code
	}
	if m.attr != nil && m.attr.Sensitive || s.vals.hidden[path] || isHash(old) {
		r.Old, r.New = masked(old), masked(text)
	}
	if r.Code == "" {
		r.Code = resource.ReasonConfigChanged
	}
	if unknown {
		r.New = ""
	}
	r.Message = movedMessage(r, unknown)
	m.reason = r
	return m
}

// isHash says whether a part's text is the keyed hash of something sensitive.
func isHash(text string) bool { return strings.HasPrefix(text, `"hash:`) }

// cause is why the value moved, if it did. What another block gave is not what
// somebody wrote: a model among the inputs, an endpoint in the environment, and
// anything that only a step before it will tell.
func (l *leaf) cause() resource.Code {
	switch code := l.attr.Code; code {
	case resource.ReasonDataChanged:
		if l.model {
			return resource.ReasonUpstreamChanged
		}
		return code
	case resource.ReasonConfigChanged, "":
		if (l.by != "" || l.unknown) && !l.attr.Follow {
			return resource.ReasonUpstreamChanged
		}
		return resource.ReasonConfigChanged
	default:
		return code
	}
}

// attrAt finds the attribute that a flattened path belongs to, for paths that
// the files do not set any more.
func attrAt(s *resource.Schema, path string) *resource.Attr {
	name, rest, _ := strings.Cut(path, ".")
	if a := s.Attr(name); a != nil {
		return a
	}
	blk := s.Block(name)
	if blk == nil {
		return nil
	}
	if blk.Many {
		_, rest, _ = strings.Cut(rest, ".")
	}
	return attrAt(blk.Schema, rest)
}

var movedWords = map[resource.Code]string{
	resource.ReasonDataChanged: "data changed", resource.ReasonCodeChanged: "code changed",
	resource.ReasonParamsChanged: "parameter changed", resource.ReasonConfigChanged: "configuration changed",
	resource.ReasonUpstreamChanged: "upstream changed",
}

func movedMessage(r resource.Reason, unknown bool) string {
	msg := movedWords[r.Code]
	switch {
	case unknown:
		msg += ": known after " + cmpOr(r.By, "earlier steps")
	case r.Old == "":
		msg += ": new"
	case r.New == "":
		msg += ": removed"
	}
	return msg
}

func masked(text string) string {
	if text == "" {
		return ""
	}
	return "(sensitive)"
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func reasonsOf(ms []moved) []resource.Reason {
	out := make([]resource.Reason, 0, len(ms))
	for _, m := range ms {
		out = append(out, m.reason)
	}
	return out
}

// movedPolicy lists the policy attributes that differ, as moves.
func movedPolicy(old, now resource.Parts) []moved {
	var out []moved
	for _, p := range now.Paths() {
		if old[p] != now[p] {
			out = append(out, moved{path: p, old: old[p], new: now[p]})
		}
	}
	for _, p := range old.Paths() {
		if _, ok := now[p]; !ok {
			out = append(out, moved{path: p, old: old[p]})
		}
	}
	return out
}

// movedPolicy lists what moved without anything having to run for it. The guard
// against destruction is among it: it must be recorded, or the block would lose
// it by being taken out of the files.
func (s *subject) movedPolicy() []moved {
	out := movedPolicy(s.rec.Policy, s.vals.policy)
	if old, now := s.rec.Protected, s.blk.Lifecycle.PreventDestroy; old != now {
		out = append(out, moved{path: "lifecycle.prevent_destroy", old: strconv.FormatBool(old), new: strconv.FormatBool(now)})
	}
	// A signal that is new in `on` is seen at its present epoch from now on;
	// without being recorded it would never ask for anything.
	for _, ref := range s.blk.Feedback {
		if _, ok := s.rec.Seen[ref.String()]; !ok {
			out = append(out, moved{path: "retrain.on", new: quote(ref.String())})
		}
	}
	for _, seen := range sortedStrings(s.rec.Seen) {
		if !slices.ContainsFunc(s.blk.Feedback, func(r resource.SignalRef) bool { return r.String() == seen }) {
			out = append(out, moved{path: "retrain.on", old: quote(seen)})
		}
	}
	return out
}

func policyReasons(ms []moved) []resource.Reason {
	var out []resource.Reason
	for _, m := range ms {
		out = append(out, resource.Reason{Code: resource.ReasonConfigChanged, Path: m.path, Old: unquoteText(m.old), New: unquoteText(m.new), Message: "noted; nothing runs for it"})
	}
	return out
}
