package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// Routes is what a router (Route) passes on, and to whom. It is the content of
// its routes file and of PUT /routes; whoever decides about a rollout writes it.
type Routes struct {
	// Generation rises with every change; a router never goes back to a lower one.
	Generation int64 `json:"generation"`
	// Name and Address ("deployment.tumors") say whose router this is, in messages.
	Name    string `json:"name,omitempty"`
	Address string `json:"address,omitempty"`
	// Current gets all the traffic that Candidate does not; nil while nothing
	// can serve yet, and requests get 503.
	Current *Backend `json:"current,omitempty"`
	// Candidate gets Weight percent of the traffic.
	Candidate *Backend `json:"candidate,omitempty"`
	Weight    int      `json:"weight,omitempty"`
	// Mirror sends copies of requests to the candidate and compares the answers.
	Mirror bool `json:"mirror,omitempty"`
	// SlowAfter is the latency beyond which Stats count an answer as slow; 0
	// counts none. It is what Rollout.Abort.P99 is judged by.
	SlowAfter time.Duration `json:"slow_after,omitempty"`
	Capture   Capture       `json:"capture"`
	// Sink may only have a URL: a router has no folder of the project's.
	Sink   *Sink  `json:"sink,omitempty"`
	Limits Limits `json:"limits"`
}

// Backend is a version that something else runs and that answers under a URL.
type Backend struct {
	// Version is the model version's number, at least 1.
	Version int `json:"version"`
	// Digest is that of the version's content; a router only reports it.
	Digest string `json:"digest,omitempty"`
	// URL is "http://HOST[:PORT]". Several servers may stand behind it: each
	// new connection is balanced by whoever owns the name.
	URL string `json:"url"`
	// Explain is the URL of what explains the version's predictions: requests whose path ends in ":explain" go there. "" sends
	// them where all go. They are counted with the version's, and are neither captured nor mirrored: they are no predictions.
	Explain string `json:"explain,omitempty"`
}

// ParseRoutes decodes and validates routes. Unknown fields are an error: a
// router that is older than its routes must not serve half of them.
func ParseRoutes(data []byte) (Routes, error) {
	var r Routes
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Routes{}, fmt.Errorf("read routes: %w", err)
	}
	return r, r.Validate()
}

// Validate says what is wrong with r.
func (r Routes) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if r.Generation < 1 {
		bad("generation: %d is not above 0", r.Generation)
	}
	if r.Weight < 0 || r.Weight > 100 {
		bad("weight: %d is not between 0 and 100", r.Weight)
	}
	if r.SlowAfter < 0 {
		bad("slow_after: %v is negative", r.SlowAfter)
	}
	if r.Candidate != nil && r.Current == nil {
		bad("candidate: there is no current version beside it")
	}
	if r.Candidate == nil && (r.Weight > 0 || r.Mirror) {
		bad("weight and mirror: there is no candidate")
	}
	for name, b := range map[string]*Backend{"current": r.Current, "candidate": r.Candidate} {
		if b == nil {
			continue
		}
		if b.Version < 1 {
			bad("%s.version: %d is not above 0", name, b.Version)
		}
		if _, _, err := addr(b.URL); err != nil {
			bad("%s.url: %w", name, err)
		}
		if b.Explain != "" {
			if _, _, err := addr(b.Explain); err != nil {
				bad("%s.explain: %w", name, err)
			}
		}
	}
	if r.Current != nil && r.Candidate != nil && r.Current.Version == r.Candidate.Version {
		bad("candidate.version: %d is the current version, too", r.Candidate.Version)
	}
	if s := r.Sink; s != nil {
		if s.File != "" {
			bad("sink.file: a router sends answers to a url only")
		} else {
			errs = append(errs, s.validate())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	return nil
}

// addr returns where to connect to, and what the server is called. They differ
// by the dot that ends a full name: it saves the search list of a resolver, and
// servers do not expect it.
func addr(of string) (dial, host string, err error) {
	u, err := url.Parse(of)
	if err != nil {
		return "", "", errors.New("not a URL")
	}
	if u.Scheme != "http" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", "", fmt.Errorf("%q is not http://HOST[:PORT]", u.Redacted())
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port), net.JoinHostPort(strings.TrimSuffix(u.Hostname(), "."), port), nil
}

// same reports whether two routes say the same.
func (r Routes) same(o Routes) bool { return reflect.DeepEqual(r, o) }

// Stats is what a router counted since it took its present routes.
type Stats struct {
	Generation int64 `json:"generation"`
	// Since is when these routes were taken; all counts below began then.
	Since time.Time `json:"since,omitzero"`
	// Instance is new whenever the router's process is, and its counts with it.
	Instance string `json:"instance"`
	// InFlight is the number of requests that run.
	InFlight int64          `json:"in_flight"`
	Versions []VersionStats `json:"versions"`
	// Shadow is what the mirror found since the candidate got its first copy.
	Shadow *Comparison `json:"shadow,omitempty"`
	Sink   *SinkStatus `json:"sink,omitempty"`
}

// VersionStats is what one version did, see Tally.
type VersionStats struct {
	Version int `json:"version"`
	Tally
	// InFlight counts requests that the version has not answered yet. A version
	// that has left the routes stays listed while there are any.
	InFlight int64 `json:"in_flight"`
	// Latency counts the answers by their time; clients that left are not in it.
	Latency Histogram `json:"latency"`
}

// Histogram counts observations: Counts[i] are those at most Bounds[i], in
// seconds, and above the bound before; the last count is above all bounds.
type Histogram struct {
	Bounds []float64 `json:"bounds"`
	Counts []uint64  `json:"counts"`
}

// Of returns the stats of a version; zero when it is not listed.
func (s Stats) Of(version int) VersionStats {
	for _, v := range s.Versions {
		if v.Version == version {
			return v
		}
	}
	return VersionStats{Version: version}
}

// Plus adds two tallies, such as those of two routers.
func (t Tally) Plus(u Tally) Tally {
	return Tally{t.Requests + u.Requests, t.Errors + u.Errors, t.Slow + u.Slow}
}

// minus is the histogram of what came after before.
func (h Histogram) minus(before Histogram) Histogram {
	counts := make([]uint64, len(h.Counts))
	for i, n := range h.Counts {
		counts[i] = n
		if i < len(before.Counts) {
			counts[i] -= min(n, before.Counts[i])
		}
	}
	h.Counts = counts
	return h
}
