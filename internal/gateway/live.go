package gateway

import (
	"time"

	"github.com/continuo-ml/continuo/internal/proc"
)

// Phase is where a deployment is.
type Phase string

// Phases. All but PhaseStarting and PhaseRolling are outcomes that Wait
// returns on; a held rollout goes on by itself when requests come.
const (
	PhaseStarting Phase = "starting"
	PhaseReady    Phase = "ready"
	PhaseRolling  Phase = "rolling"
	PhaseHeld     Phase = "held"
	PhaseAborted  Phase = "aborted"
	PhaseFailed   Phase = "failed"
	PhaseStopped  Phase = "stopped"
)

// Live is what a gateway reports of itself.
type Live struct {
	// Generation is the Desired that the rest speaks about.
	Generation int64  `json:"generation"`
	Name       string `json:"name"`
	Address    string `json:"address"`
	Phase      Phase  `json:"phase"`
	Message    string `json:"message"`
	// Endpoint is "http://127.0.0.1:PORT"; it stays the same for ever.
	Endpoint string `json:"endpoint"`
	// Current serves all the traffic that Candidate does not; its Number is 0
	// before the first version is ready.
	Current   Version  `json:"current"`
	Candidate *Version `json:"candidate,omitempty"`
	// Weight is the percentage of the traffic that Candidate gets.
	Weight      int            `json:"weight"`
	Progress    Progress       `json:"progress"`
	Quarantined []Quarantine   `json:"quarantined,omitempty"`
	Servers     []ServerStatus `json:"servers,omitempty"`
	Shadow      *Comparison    `json:"shadow,omitempty"`
	Sink        *SinkStatus    `json:"sink,omitempty"`
	Updated     time.Time      `json:"updated"`

	// Alive says whether the gateway's process runs, by identity, at the time
	// of Read; Process and Admin ("http://127.0.0.1:PORT") are its own.
	Alive   bool          `json:"alive"`
	Process proc.Identity `json:"process"`
	Admin   string        `json:"admin"`
}

// Quarantine is a version that a rollout found bad, with the evidence.
type Quarantine struct {
	Version Version   `json:"version"`
	Reason  string    `json:"reason"`
	Time    time.Time `json:"time"`
	// Release is the fingerprint of version, command and environment.
	Release string `json:"release"`
}

// ServerStatus is one server process.
type ServerStatus struct {
	Version int `json:"version"`
	Replica int `json:"replica"`
	// Role is "predictor" or "transformer".
	Role    string        `json:"role"`
	Process proc.Identity `json:"process"`
	Port    int           `json:"port"`
	Ready   bool          `json:"ready"`
	// Restarts counts the starts after the first.
	Restarts  int    `json:"restarts"`
	LastError string `json:"last_error,omitempty"`
}

// SinkStatus is how far a sink is behind.
type SinkStatus struct {
	// Unsent counts the captured answers behind the last that arrived.
	Unsent uint64 `json:"unsent"`
	// Full says that so many wait that requests are refused.
	Full bool `json:"full,omitempty"`
	// Failure says why the last attempt to send failed, if it did.
	Failure string `json:"failure,omitempty"`
}

// Comparison is what a shadow rollout has found so far.
type Comparison struct {
	Compared int `json:"compared"`
	Differed int `json:"differed"`
	// Dropped counts requests that were not compared, because the candidate
	// was too slow to keep up or a body was too long.
	Dropped  int          `json:"dropped"`
	Examples []Difference `json:"examples,omitempty"`
}

// Difference is one answer that was not the same.
type Difference struct {
	ID string `json:"id"`
	// Where is a JSON path, "status", or "answer".
	Where     string `json:"where"`
	Current   string `json:"current"`
	Candidate string `json:"candidate"`
}

// outcome reports whether a rollout has come to rest in p.
func (p Phase) outcome() bool {
	switch p {
	case PhaseReady, PhaseHeld, PhaseAborted, PhaseFailed, PhaseStopped:
		return true
	case PhaseStarting, PhaseRolling:
		return false
	}
	return false
}
