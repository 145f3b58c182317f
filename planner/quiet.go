package planner

import (
	"maps"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
)

// quiet says whether nothing in a block's own values asks for a step: they and
// what its sources hold are what the last success recorded, to the letter. It is
// a short cut through decide for most of a large project, so whatever could need
// a second look is not quiet: a failed run, what is held at a version, a trigger
// that time or a signal sets off.
func quiet(s *subject, probe *Probe) bool {
	k, rec := s.blk.Kind, s.rec
	if rec == nil || rec.Phase != resource.PhaseReady || rec.Provider != s.blk.Provider ||
		len(s.vals.unknown) > 0 || k.PinAttr != "" || k.KeepAttr != "" || len(s.blk.Feedback) > 0 {
		return false
	}
	if k.Triggers != nil {
		if t, err := k.Triggers(s.value); err != nil || asksByItself(t) {
			return false
		}
	}
	return sameParts(s, probe) && maps.Equal(s.vals.judge, rec.Judge) && len(s.movedPolicy()) == 0
}

// asksByItself says whether a trigger may be due although nothing moved.
func asksByItself(t resource.Triggers) bool {
	return len(t.On) > 0 || t.Schedule != "" || t.MaxAge > 0
}

// sameParts says whether the inputs, with the digests of the sources, are the
// recorded ones.
func sameParts(s *subject, probe *Probe) bool {
	rec, found := s.rec.Parts, 0
	if len(s.blk.Kind.Probes) > 0 {
		if probe == nil || probe.Err != "" {
			return false
		}
		for name, digest := range probe.Values {
			if rec[name] != quote(digest) {
				return false
			}
			found++
		}
	}
	for path, text := range s.vals.inputs {
		if old, ok := rec[path]; !ok || old != text {
			return false
		}
		found++
	}
	return found == len(rec)
}

// disturbed says whether a block whose own values are quiet has to be looked at
// all the same: it is asked for, or it is not as recorded.
func (b *builder) disturbed(blk *config.Block) bool {
	_, live := b.in.Live.Objects[blk.Addr]
	return live || b.replace[blk.Addr]
}
