package planner

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// decision is what happens to one block, and why.
type decision struct {
	step    *Step
	value   cty.Value // the evaluated body
	vals    *values
	outputs cty.Value // planned; NilVal = as recorded
	verdict bool      // the step's own verdict is still to come
	closed  string    // why nothing behind it may run
	diags   []Diagnostic
}

// subject is one block under decision, with all that the decision reads.
type subject struct {
	blk     *config.Block
	rec     *state.Record
	live    Object
	value   cty.Value
	vals    *values
	probes  map[string]string
	pending []string // probe names that are not known yet
	moved   []moved
	hold    []resource.Reason // pinned, quarantined
	bad     string            // why its verdict is bad although nothing is recorded so
}

// moved is one path whose value differs from what was last applied.
type moved struct {
	path     string
	old, new string
	unknown  bool
	reason   resource.Reason
	attr     *resource.Attr // nil for probes and for attributes that are gone
}

// decide plans one block. It reads what the blocks before it offer.
func (b *builder) decide(blk *config.Block, rec *state.Record) *decision {
	gate := b.closedGate(blk)
	s := &subject{blk: blk, rec: rec, live: b.in.Live.Objects[blk.Addr]}
	d := &decision{}
	if s.live.Err != "" {
		d.diags = append(d.diags, diagnostic(blk, "The live state cannot be read", s.live.Err))
		return d
	}
	ev, diags := b.eval(blk)
	if !diags.HasErrors() {
		diags = append(diags, b.in.Project.Conditions(blk, b, cty.NilVal, false)...)
	}
	d.diags = append(d.diags, diagnostics(blk, diags, gate == nil)...)
	if diags.HasErrors() {
		if gate != nil {
			b.block1(d, s, *gate)
		}
		return d
	}
	s.value = b.holdVersion(s, ev.Value)
	ev.Value = s.value
	s.vals = flatten(blk.Kind.Body(), ev, b.hash)
	if msg := b.probe(s); msg != "" && gate == nil {
		d.diags = append(d.diags, diagnostic(blk, "The sources cannot be read", msg))
		return d
	}
	d.value, d.vals = s.value, s.vals
	b.compare(s)
	if blk.Kind.Class == resource.Run {
		b.decideRun(d, s)
	} else {
		b.decideObject(d, s)
	}
	if s.bad != "" {
		d.closed = s.bad
	}
	if gate != nil && d.step != nil && b.doing(d.step) && !d.step.Exec.policyOnly() {
		b.block1(d, s, *gate)
	}
	return d
}

// eval evaluates a block's body. While everything that it depends on stays as
// recorded, what refresh evaluated on the records is the same.
func (b *builder) eval(blk *config.Block) (config.Evaluated, hcl.Diagnostics) {
	ev, ok := b.in.Evaluated[blk.Addr]
	ok = ok && len(b.moved) == 0
	for i := 0; ok && i < len(blk.Deps); i++ {
		dep := blk.Deps[i]
		_, live := b.in.Live.Objects[dep]
		r := b.results[dep]
		ok = r != nil && r.recorded && !live && len(b.in.Project.Block(dep).Kind.Signals) == 0
	}
	delete(b.in.Evaluated, blk.Addr) // asked for once; ten thousand of them are worth their memory
	if ok {
		return ev, nil
	}
	return b.in.Project.Eval(blk, b)
}

// policyOnly says that nothing outside changes and no version becomes current.
func (e *Exec) policyOnly() bool { return e.RecordOnly && e.AdoptRun == "" }

// closedGate returns the reason of the first block before blk that lets nothing through.
func (b *builder) closedGate(blk *config.Block) *resource.Reason {
	for _, dep := range blk.Deps {
		if r := b.results[dep]; r != nil && r.closed != "" {
			return &resource.Reason{Code: resource.ReasonGateClosed, By: dep.String(), Message: "waits: " + r.closed}
		}
	}
	return nil
}

// block1 turns the decision into a blocked one.
func (b *builder) block1(d *decision, s *subject, gate resource.Reason) {
	reasons := []resource.Reason{gate}
	if d.step != nil {
		reasons = append(reasons, d.step.Reasons...)
	} else if s.rec == nil {
		reasons = append(reasons, resource.Reason{Code: resource.ReasonNew, Message: "not made yet"})
	}
	st := newStep(s.blk, resource.Blocked)
	st.Reasons = reasons
	d.step, d.outputs, d.verdict = st, cty.NilVal, false
	if s.rec == nil {
		d.closed = fmt.Sprintf("%s is blocked by %s", s.blk.Addr, gate.By)
	}
}

func newStep(blk *config.Block, action resource.Action) *Step {
	return &Step{
		Address: blk.Addr, Kind: blk.Kind.Name, Provider: blk.Provider, Action: action,
		Reasons: []resource.Reason{}, AfterUnknown: []string{}, Changes: []Change{},
		Needs: []resource.Address{}, GatedBy: []resource.Address{},
		Exec: Exec{Deps: blk.Deps},
	}
}

func (b *builder) hash(s string) string {
	if b.in.Options.Hash == nil {
		return string(resource.DigestOf([]byte(s)))
	}
	return b.in.Options.Hash(s)
}

// holdVersion keeps an object at the version that it is pinned at, or that
// serves while the wanted one is quarantined.
func (b *builder) holdVersion(s *subject, v cty.Value) cty.Value {
	attr := s.blk.Kind.PinAttr
	if attr == "" || v.IsNull() || !v.IsKnown() {
		return v
	}
	wanted := v.GetAttr(attr)
	number := attrText(wanted, "version")
	if pin := b.in.Prior.Pins[s.blk.Addr]; pin != nil {
		if m, err := state.DecodeValue(pin.Model, wanted.Type()); err == nil {
			msg := fmt.Sprintf("pinned at version %d by %s", pin.Version, pin.Who)
			if number != "" && number != fmt.Sprint(pin.Version) {
				msg += fmt.Sprintf("; version %s is held until `ml unpin %s`", number, s.blk.Addr)
			}
			s.hold = append(s.hold, resource.Reason{Code: resource.ReasonPinned, Path: attr, Old: fmt.Sprint(pin.Version), New: number, Message: msg})
			return withAttr(v, attr, m)
		}
	}
	q := b.quarantined(s, attrText(wanted, "digest"))
	if q == nil || s.rec == nil {
		return v
	}
	prior, ok := recordedAttr(s.rec, attr, wanted.Type())
	if !ok {
		return v
	}
	s.bad = fmt.Sprintf("%s: version %d is quarantined: %s", s.blk.Addr, q.Version, q.Reason)
	s.hold = append(s.hold, resource.Reason{
		Code: resource.ReasonQuarantined, Path: attr, New: number,
		Message: fmt.Sprintf("version %d is quarantined (%s); a newer version or `ml rollback %s -to %d` takes its place", q.Version, q.Reason, s.blk.Addr, q.Version),
	})
	return withAttr(v, attr, prior)
}

func (b *builder) quarantined(s *subject, digest string) *state.Quarantine {
	if digest == "" {
		return nil
	}
	for i := range s.live.Quarantined {
		if string(s.live.Quarantined[i].Digest) == digest {
			return &s.live.Quarantined[i]
		}
	}
	for _, q := range b.in.Prior.Quarantines[s.blk.Addr] {
		if string(q.Digest) == digest {
			return q
		}
	}
	return nil
}

func withAttr(v cty.Value, name string, a cty.Value) cty.Value {
	m := v.AsValueMap()
	m[name] = a
	return cty.ObjectVal(m)
}

// attrText is a known primitive attribute as text, or "".
func attrText(v cty.Value, name string) string {
	if v.IsNull() || !v.IsKnown() || !v.Type().IsObjectType() || !v.Type().HasAttribute(name) {
		return ""
	}
	a := v.GetAttr(name)
	if a.IsNull() || !a.IsKnown() {
		return ""
	}
	return unquoteText(canonical(a))
}

// recordedAttr is one attribute of the body as last applied.
func recordedAttr(rec *state.Record, name string, t cty.Type) (cty.Value, bool) {
	v, err := state.DecodeValue(rec.Spec, cty.Object(map[string]cty.Type{name: t}))
	if err != nil || v.IsNull() || v.GetAttr(name).IsNull() {
		return cty.NilVal, false
	}
	return v.GetAttr(name), true
}

// probe adds the content digests to the inputs. Without a refresh the recorded
// ones stand; a probe of something else than the value now names is unknown.
func (b *builder) probe(s *subject) string {
	names := s.blk.Kind.Probes
	if len(names) == 0 {
		return ""
	}
	key, known := b.in.Project.ProbeKey(s.blk, s.value)
	live, probed := b.in.Live.Probes[s.blk.Addr]
	s.probes = map[string]string{}
	switch {
	case known && probed && live.Key == key:
		if live.Err != "" {
			return live.Err
		}
		for n, d := range live.Values {
			s.probes[n] = d
			s.vals.inputs[n] = quote(d)
		}
	case known && !probed && b.in.Live.Probes == nil && s.rec != nil:
		for _, n := range names {
			if t, ok := s.rec.Parts[n]; ok {
				s.probes[n], s.vals.inputs[n] = unquoteText(t), t
			}
		}
	default:
		s.probes = nil
		s.pending = names
		s.vals.unknown = append(s.vals.unknown, names...)
		sort.Strings(s.vals.unknown)
	}
	return ""
}

// compare finds the inputs that moved since the last successful run or apply.
func (b *builder) compare(s *subject) {
	if s.rec == nil || len(s.rec.Parts) == 0 {
		return // it never succeeded: everything would be new
	}
	ignored := s.blk.Lifecycle.IgnoreChanges
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
	for _, path := range ignored {
		b.keepIgnored(s, path)
	}
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
	if l := s.vals.leaves[path]; l != nil {
		m.attr = l.attr
		r.Code, r.By = l.attr.Code, l.by
		if l.attr.Sensitive {
			r.Old, r.New = masked(old), masked(text)
		}
	} else if c, ok := s.blk.Kind.ProbeCodes[path]; ok {
		r.Code = c
	} else if a := attrAt(s.blk.Kind.Body(), path); a != nil {
		m.attr = a
		r.Code = a.Code
		if a.Sensitive {
			r.Old, r.New = masked(old), masked(text)
		}
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

func masked(text string) string {
	if text == "" {
		return ""
	}
	return "(sensitive)"
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

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func diagnostic(blk *config.Block, summary, detail string) Diagnostic {
	return Diagnostic{Severity: "error", Summary: summary, Detail: detail, Address: blk.Addr.String(), File: blk.Range.Filename, Line: blk.Range.Start.Line}
}

// diagnostics turns HCL's into the plan's; errors are left out when a closed
// gate explains them already.
func diagnostics(blk *config.Block, diags hcl.Diagnostics, errs bool) []Diagnostic {
	var out []Diagnostic
	for _, hd := range diags {
		if hd.Severity == hcl.DiagError && !errs {
			continue
		}
		d := Diagnostic{Severity: "error", Summary: hd.Summary, Detail: hd.Detail, Address: blk.Addr.String(), File: blk.Range.Filename, Line: blk.Range.Start.Line}
		if hd.Severity == hcl.DiagWarning {
			d.Severity = "warning"
		}
		if hd.Subject != nil {
			d.File, d.Line = hd.Subject.Filename, hd.Subject.Start.Line
		}
		out = append(out, d)
	}
	return out
}
