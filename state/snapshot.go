package state

import (
	"github.com/continuo-ml/continuo/resource"
)

// Record is the record of an address, nil for none.
func (s *Snapshot) Record(addr resource.Address) *Record { return s.Records[addr] }

// RecordDigest is a digest over everything in a record, "" for none: it moves
// when the record does.
func (s *Snapshot) RecordDigest(addr resource.Address) (resource.Digest, error) {
	r := s.Records[addr]
	if r == nil {
		return "", nil
	}
	raw, err := marshal(r)
	if err != nil {
		return "", err
	}
	return resource.DigestOf(raw), nil
}

// Version is version n of an address, nil for none.
func (s *Snapshot) Version(addr resource.Address, n int) *Version {
	for _, v := range s.Versions[addr] {
		if v.Number == n {
			return v
		}
	}
	return nil
}

// LatestVersion is the newest version that is still kept, nil for none.
func (s *Snapshot) LatestVersion(addr resource.Address) *Version {
	if v := s.Versions[addr]; len(v) > 0 {
		return v[len(v)-1]
	}
	return nil
}

// NextVersion is the number that the next version of an address will get.
func (s *Snapshot) NextVersion(addr resource.Address) int { return s.Counters[addr] + 1 }

// Signal is a monitor's signal by name, nil for none.
func (s *Snapshot) Signal(addr resource.Address, name string) *Signal {
	for _, g := range s.Signals[addr] {
		if g.Name == name {
			return g
		}
	}
	return nil
}

// Quarantined returns the quarantine of a version's digest at an address, nil for none.
func (s *Snapshot) Quarantined(addr resource.Address, digest resource.Digest) *Quarantine {
	for _, q := range s.Quarantines[addr] {
		if q.Digest == digest {
			return q
		}
	}
	return nil
}

// Approval is what allows the plan with this digest, nil for nothing.
func (s *Snapshot) Approval(plan resource.Digest) *Approval {
	for _, a := range s.Approvals {
		if a.Plan == plan {
			return a
		}
	}
	return nil
}

// RunFor is the newest run of an address that went well on these inputs.
func (s *Snapshot) RunFor(addr resource.Address, inputs resource.Digest) (RunKey, bool) {
	runs := s.Runs[addr]
	for i := len(runs) - 1; i >= 0; i-- {
		if runs[i].Inputs == inputs && runs[i].Phase == resource.PhaseReady {
			return runs[i], true
		}
	}
	return RunKey{}, false
}
