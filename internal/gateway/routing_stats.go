package gateway

// stats is what was counted since the present routes were taken.
func (d *dataPlane) stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Stats{Generation: d.routes.Generation, Since: d.since, Instance: d.instance,
		InFlight: d.router.inflight.Load(), Shadow: d.shadow, Sink: d.outlet.status()}
	if d.mirror != nil {
		seen := d.mirror.comparison()
		s.Shadow = &seen
	}
	at := map[int]int{}
	for _, rel := range d.releases {
		n := rel.spec.Model.Number
		i, known := at[n]
		if !known { // a version that moved to another URL has two releases for a while
			i = len(s.Versions)
			at[n] = i
			s.Versions = append(s.Versions, VersionStats{Version: n, Latency: d.meters.latency(n).minus(d.before[n])})
		}
		s.Versions[i].Tally = s.Versions[i].Plus(rel.tally().minus(d.base[rel]))
		s.Versions[i].InFlight += rel.inflight()
	}
	return s
}
