package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// Desired is what a gateway shall serve, and how it gets there.
type Desired struct {
	// Generation is set by Apply; it rises with every change.
	Generation int64 `json:"generation"`
	// Name and Address ("deployment.tumors") say whose gateway this is, in messages.
	Name    string `json:"name"`
	Address string `json:"address"`
	// Port is the port on 127.0.0.1; 0 chooses one once and keeps it for ever.
	Port        int       `json:"port"`
	Model       Version   `json:"model"`
	Server      Server    `json:"server"`
	Transformer *Server   `json:"transformer,omitempty"`
	Readiness   Readiness `json:"readiness"`
	Rollout     Rollout   `json:"rollout"`
	// Drain is how long requests in flight may take when their server goes
	// away; 0 is 30 s.
	Drain   time.Duration `json:"drain"`
	Capture Capture       `json:"capture"`
	Sink    *Sink         `json:"sink,omitempty"`
	Limits  Limits        `json:"limits"`
	// Force rolls out a quarantined version, and lifts its quarantine.
	Force bool `json:"force,omitempty"`
}

// Version is a model version: its number, the digest of its content and the
// folder where it lies.
type Version struct {
	Number int    `json:"number"`
	Digest string `json:"digest"`
	Dir    string `json:"dir"`
}

// String is how messages name a version.
func (v Version) String() string { return fmt.Sprintf("version %d", v.Number) }

// Server is a command that serves HTTP on 127.0.0.1:$PORT. Its environment is
// PATH, HOME and LANG as the gateway was started with them, HOST (127.0.0.1), then Env, then PORT, ML_MODEL_DIR (unless Env has it),
// and for a transformer PREDICTOR_HOST (host:port).
type Server struct {
	Command []string          `json:"command"`
	Dir     string            `json:"dir"`
	Env     map[string]string `json:"env,omitempty"`
	// PassEnv are names of variables that servers get from the environment in
	// which the gateway was started: their values are in no file.
	PassEnv []string `json:"pass_env,omitempty"`
	// Replicas is how many run side by side; 0 is 1. A transformer runs once
	// beside each predictor, whatever it says here.
	Replicas int `json:"replicas,omitempty"`
}

// Readiness says when a server may have traffic: when GET Path answers 2xx,
// or, with no Path, when GET / gets any HTTP answer.
type Readiness struct {
	Path string `json:"path,omitempty"`
	// Timeout is the longest that a start may take; 0 is 2 minutes.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Rollout strategies.
const (
	Rolling   = "rolling"    // when the new version is ready, all traffic goes to it
	Canary    = "canary"     // traffic moves in steps, each with a verdict
	BlueGreen = "blue_green" // all traffic moves, the old version stays for one interval
	Shadow    = "shadow"     // the new version gets copies; its answers are compared, never used
)

// What a canary does when too few requests came within MaxWait.
const (
	Hold    = "hold"
	Promote = "promote"
	AbortIt = "abort"
)

// Rollout is how a new version replaces the old one. The first version of a
// deployment has nothing to replace and skips all of it.
type Rollout struct {
	Strategy string `json:"strategy"`
	// Steps are percentages of the traffic, rising; empty is 10, 50, 100.
	Steps []int `json:"steps,omitempty"`
	// Interval is how long a step lasts at least; 0 is 30 s where a step means
	// something.
	Interval time.Duration `json:"interval,omitempty"`
	Abort    Abort         `json:"abort"`
	// OnNoTraffic is Hold (default), Promote or AbortIt.
	OnNoTraffic string `json:"on_no_traffic,omitempty"`
	// MaxWait is how long a step waits for requests; 0 is ten intervals.
	MaxWait time.Duration `json:"max_wait,omitempty"`
	// ShadowRequests and ShadowDuration say when a comparison is complete,
	// whichever comes first; both 0 is 100 requests.
	ShadowRequests int           `json:"shadow_requests,omitempty"`
	ShadowDuration time.Duration `json:"shadow_duration,omitempty"`
}

// Abort says which answers make a new version bad.
type Abort struct {
	// ErrorRate is the share of failed requests that is still allowed, 0 to 1.
	ErrorRate *float64 `json:"error_rate,omitempty"`
	// P99 is what the 99th percentile of latency may be.
	P99 *time.Duration `json:"p99,omitempty"`
	// MinRequests is how many requests a verdict needs; with a limit set, at least 1.
	MinRequests int `json:"min_requests,omitempty"`
}

// Capture says what to keep of requests and answers; see package capture.
type Capture struct {
	Enabled  bool  `json:"enabled"`
	MaxBytes int64 `json:"max_bytes,omitempty"`
	MaxBody  int   `json:"max_body,omitempty"`
}

// Sink is where answers are sent on to: one of URL and File.
type Sink struct {
	URL  string `json:"url,omitempty"`
	File string `json:"file,omitempty"`
}

// Defaults of Limits, the longest log of a server, in bytes, and the most servers of a release.
const (
	DefaultMaxRequest  = 32 << 20
	DefaultMaxInFlight = 1024
	MaxLog             = 8 << 20
	MaxReplicas        = 64
)

// Limits bound what clients can do to a gateway and its servers.
type Limits struct {
	// MaxBody is the longest request body in bytes; 0 is 32 MiB.
	MaxBody int64 `json:"max_body,omitempty"`
	// MaxInFlight is how many requests run at once; 0 is 1024. More get 503.
	MaxInFlight int `json:"max_in_flight,omitempty"`
	// Timeout is how long a server may take to begin its answer, and between
	// two parts of it; 0 is 60 s.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// withDefaults returns d with every zero that means something written out.
func (d Desired) withDefaults() Desired {
	orElse(&d.Drain, 30*time.Second)
	orElse(&d.Readiness.Timeout, 2*time.Minute)
	d.Limits = d.Limits.withDefaults()
	d.Server.Replicas = max(d.Server.Replicas, 1)
	d.Rollout = d.Rollout.WithDefaults()
	return d
}

func (l Limits) withDefaults() Limits {
	orElse(&l.Timeout, time.Minute)
	if l.MaxBody <= 0 {
		l.MaxBody = DefaultMaxRequest
	}
	if l.MaxInFlight <= 0 {
		l.MaxInFlight = DefaultMaxInFlight
	}
	return l
}

func orElse(v *time.Duration, def time.Duration) {
	if *v <= 0 {
		*v = def
	}
}

// WithDefaults returns r with every zero that means something written out.
func (r Rollout) WithDefaults() Rollout {
	if r.Strategy == "" {
		r.Strategy = Rolling
	}
	if len(r.Steps) == 0 {
		r.Steps = []int{10, 50, 100}
	}
	if r.OnNoTraffic == "" {
		r.OnNoTraffic = Hold
	}
	// With nothing to measure, blue_green need not keep the old version.
	if measured := r.Abort.ErrorRate != nil || r.Abort.P99 != nil; measured || r.Strategy == Canary || r.Strategy == Shadow {
		orElse(&r.Interval, 30*time.Second)
	}
	orElse(&r.MaxWait, 10*r.Interval)
	if r.ShadowRequests <= 0 && r.ShadowDuration <= 0 {
		r.ShadowRequests = 100
	}
	if r.Abort.ErrorRate != nil || r.Abort.P99 != nil {
		r.Abort.MinRequests = max(r.Abort.MinRequests, 1)
	}
	return r
}

// validate says what is wrong with d, all of it at once.
func (d Desired) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if d.Name == "" {
		bad("name: missing")
	}
	if d.Port < 0 || d.Port > 65535 {
		bad("port: %d is not between 0 and 65535", d.Port)
	}
	errs = append(errs, d.Server.validate("server"))
	if d.Transformer != nil {
		errs = append(errs, d.Transformer.validate("transformer"))
	}
	if p := d.Readiness.Path; p != "" && !strings.HasPrefix(p, "/") {
		bad("readiness.path: %q does not begin with /", p)
	}
	if s := d.Sink; s != nil {
		errs = append(errs, s.validate())
	}
	errs = append(errs, d.Rollout.Validate())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("deployment %q: %w", d.Name, err)
	}
	return nil
}

func (s Server) validate(field string) error {
	switch {
	case len(s.Command) == 0 || s.Command[0] == "":
		return fmt.Errorf("%s.command: missing", field)
	case s.Replicas < 0 || s.Replicas > MaxReplicas:
		return fmt.Errorf("%s.replicas: %d is not between 0 and %d", field, s.Replicas, MaxReplicas)
	}
	for name, value := range s.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return fmt.Errorf("%s.env: %q is not a name and value that a process can have", field, name)
		}
	}
	return nil
}

func (s Sink) validate() error {
	if (s.URL == "") == (s.File == "") {
		return errors.New("sink: set one of url and file")
	}
	if s.File != "" {
		if !filepath.IsAbs(s.File) {
			return fmt.Errorf("sink.file: %q is not absolute", s.File)
		}
		return nil
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("sink.url: not an http or https URL")
	}
	return nil
}

// Validate says what is wrong with r.
func (r Rollout) Validate() error {
	switch r.Strategy {
	case "", Rolling, Canary, BlueGreen, Shadow:
	default:
		return fmt.Errorf("rollout.strategy: %q is none of rolling, canary, blue_green, shadow", r.Strategy)
	}
	switch r.OnNoTraffic {
	case "", Hold, Promote, AbortIt:
	default:
		return fmt.Errorf("rollout.on_no_traffic: %q is none of hold, promote, abort", r.OnNoTraffic)
	}
	last := 0
	for _, s := range r.Steps {
		if s <= last || s > 100 {
			return fmt.Errorf("rollout.steps: %v do not rise between 1 and 100", r.Steps)
		}
		last = s
	}
	// Written so that NaN fails too.
	if e := r.Abort.ErrorRate; e != nil && !(*e >= 0 && *e <= 1) {
		return fmt.Errorf("rollout.abort.error_rate: %v is not between 0 and 1", *e)
	}
	if p := r.Abort.P99; p != nil && *p <= 0 {
		return fmt.Errorf("rollout.abort.p99: %v is not above 0", *p)
	}
	if r.Interval < 0 || r.MaxWait < 0 || r.ShadowDuration < 0 || r.Abort.MinRequests < 0 {
		return errors.New("rollout: interval, max_wait, shadow_duration and min_requests cannot be negative")
	}
	return nil
}

// spec is the part of a Desired that needs new servers when it changes. It is
// kept in state.json, so that a restarted gateway can bring the old release
// back while desired.json already holds the new one.
type spec struct {
	Model       Version   `json:"model"`
	Server      Server    `json:"server"`
	Transformer *Server   `json:"transformer,omitempty"`
	Readiness   Readiness `json:"readiness"`
}

func (d Desired) spec() spec {
	return spec{Model: d.Model, Server: d.Server, Transformer: d.Transformer, Readiness: d.Readiness}
}

// key is the same for specs that the same servers serve. The number of
// replicas is not part of it, that changes in place; nor is the readiness,
// which is about how to wait.
func (s spec) key() (string, error) {
	s.Server.Replicas, s.Readiness = 0, Readiness{}
	if s.Transformer != nil {
		t := *s.Transformer
		t.Replicas = 0
		s.Transformer = &t
	}
	data, err := json.Marshal(s) // maps are sorted
	if err != nil {
		return "", fmt.Errorf("encode release: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), nil
}
