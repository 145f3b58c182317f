package engine

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// Limits of plan files.
const (
	MaxPlanBytes = 256 << 20
	PlanLifetime = 24 * time.Hour
)

// ErrStale says that something that a saved plan's own steps read has moved.
var ErrStale = errors.New("stale plan")

// errNoKey: anyone can authenticate with no key.
var errNoKey = errors.New("this project has no key, so no plan was made in it; make one with ml plan -out=FILE")

// planMagic opens a plan file; the number is the format's.
const planMagic = "ml-plan 1 "

// SavedPlan is what a plan file holds.
type SavedPlan struct {
	Tool string `json:"tool"` // version of ml that made it
	// Vars are the variables that were given, the later of a name first to count.
	// Sensitive ones are left out and must be given again.
	Vars []SavedVar `json:"vars,omitempty"`
	// Read are the digests of the files and variables that it was made from, as in
	// the project's Contents; those of secrets are keyed. They only explain: the
	// plan's ConfigDigest decides.
	Read    map[string]resource.Digest `json:"read,omitempty"`
	Options SavedOptions               `json:"options"`
	Who     string                     `json:"who,omitempty"` // made it
	Plan    *planner.Plan              `json:"plan"`
	// Digest is that of all the above as written: what an approval names.
	Digest resource.Digest `json:"-"`
}

// SavedVar is a variable from the environment, a flag or a file: its text, or its
// value as JSON with the type.
type SavedVar struct {
	Name   string          `json:"name"`
	Source string          `json:"source"`
	Text   *string         `json:"text,omitempty"`
	Value  json.RawMessage `json:"value,omitempty"`
}

// SavedOptions are the planner options that a saved plan was made with.
type SavedOptions struct {
	Targets []resource.Address `json:"targets,omitempty"`
	Replace []resource.Address `json:"replace,omitempty"`
	Destroy bool               `json:"destroy,omitempty"`
}

// WritePlan writes the plan file, readable by its owner only, whole or not at
// all. key authenticates it: a file that was changed, or that another project
// made, is refused when it is read.
func WritePlan(path string, key []byte, p *SavedPlan) error {
	raw, err := encodePlan(key, p)
	if err == nil {
		err = durable.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	return nil
}

// encodePlan is the content of a plan's file; it fills in the plan's digest.
func encodePlan(key []byte, p *SavedPlan) ([]byte, error) {
	if len(key) == 0 {
		return nil, errNoKey
	}
	body, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	p.Digest = resource.DigestOf(body)
	return append([]byte(planMagic+mac(key, body)+"\n"), body...), nil
}

func mac(key, body []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// ReadPlan reads a plan file once, checks that this project made it and nobody
// changed it, and that it is neither older than a day nor from the future.
func ReadPlan(path string, key []byte, tool string, now time.Time) (*SavedPlan, error) {
	if len(key) == 0 {
		return nil, fmt.Errorf("read plan %s: %w", path, errNoKey)
	}
	raw, err := readRegular(path, MaxPlanBytes)
	if err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	return parsePlan(path, raw, key, tool, now)
}

// parsePlan checks what was read; path is for messages.
func parsePlan(path string, raw, key []byte, tool string, now time.Time) (*SavedPlan, error) {
	head, body, ok := bytes.Cut(raw, []byte("\n"))
	sum, isPlan := strings.CutPrefix(string(head), planMagic)
	if !ok || !isPlan {
		return nil, fmt.Errorf("%s is not a plan file; make one with ml plan -out=FILE", path)
	}
	if !hmac.Equal([]byte(sum), []byte(mac(key, body))) {
		return nil, fmt.Errorf("%s was changed, or was made in another project; make a new plan here", path)
	}
	var p SavedPlan
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w; make a new plan", path, err)
	}
	if p.Plan == nil {
		return nil, fmt.Errorf("%s holds no plan; make a new one", path)
	}
	p.Digest = resource.DigestOf(body)
	switch age := now.Sub(p.Plan.Created); {
	case p.Tool != tool:
		return nil, fmt.Errorf("%s was made by ml %s, this is %s; make a new plan", path, p.Tool, tool)
	case age > PlanLifetime:
		return nil, fmt.Errorf("%s is %s old; plans expire after %s, make a new one", path, age.Round(time.Minute), PlanLifetime)
	case age < -time.Minute:
		return nil, fmt.Errorf("%s was made in the future (%s); check the clock and make a new plan", path, p.Plan.Created.Format(time.RFC3339))
	}
	return &p, nil
}

// readRegular reads a regular file of at most limit bytes; it never blocks on a
// FIFO or device.
func readRegular(path string, limit int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	// Without waiting: a FIFO may have taken the file's place by now.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	now, err := f.Stat()
	if err != nil || !os.SameFile(st, now) {
		return nil, errors.Join(fmt.Errorf("%s was replaced while it was opened", path), err)
	}
	if now.Size() > limit {
		return nil, fmt.Errorf("%s is larger than %d MiB", path, limit>>20)
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s is larger than %d MiB", path, limit>>20)
	}
	return raw, nil
}

// Resume makes a saved plan ready to run on the world as it is now: it reads
// state and sources again and errors with ErrStale, naming what moved, when
// anything that the plan's own steps read is not as it was.
func (s *Session) Resume(ctx context.Context, saved *SavedPlan) (*Planned, error) {
	p := saved.Plan
	snap := s.now.snapshot()
	// A plan made before there was a state rests on no record at all, which each
	// of its steps says.
	if p.Lineage != "" && p.Lineage != snap.Lineage {
		return nil, fmt.Errorf("%w: it was made for another state (%s, here %s)", ErrStale, p.Lineage, snap.Lineage)
	}
	if p.ConfigDigest != s.e.Project.Digest {
		return nil, fmt.Errorf("%w: %s; plan again", ErrStale, s.e.configMoved(saved.Read))
	}
	in := planner.Input{Project: s.e.Project, Prior: snap, Now: p.Created, Options: planner.Options{
		Targets: saved.Options.Targets, Replace: saved.Options.Replace, Destroy: saved.Options.Destroy, Hash: s.e.Hash,
	}}
	live, err := s.e.refresh(ctx, snap, &state.Decoder{}, refreshing{probes: !saved.Options.Destroy})
	if err != nil {
		return nil, err
	}
	in.Live = live
	if err := checkStale(p, in); err != nil {
		return nil, err
	}
	return &Planned{Plan: p, Input: in}, nil
}

// configMoved names the files and variables that moved, never a value.
func (e *Engine) configMoved(before map[string]resource.Digest) string {
	if before == nil {
		return "the configuration files or variables moved since"
	}
	names := e.Project.MovedSince(before)
	if rest := len(names) - 5; rest > 0 {
		names = append(names[:5:5], fmt.Sprintf("%d more", rest))
	}
	return "it was planned with another content of " + strings.Join(names, ", ")
}

// checkStale compares what each step read with what is there now.
func checkStale(p *planner.Plan, in planner.Input) error {
	for _, st := range p.Steps {
		if st.Action == resource.Noop || st.Action == resource.Blocked || st.Action == resource.Move {
			continue
		}
		at := st.Address
		if st.From != nil {
			at = *st.From
		}
		if now := planner.RecordDigest(in.Prior, at); now != st.Exec.Record && st.Exec.Record+now != "" {
			return fmt.Errorf("%w: the record of %s moved since", ErrStale, at)
		}
		if probe, ok := in.Live.Probes[st.Address]; ok && st.Exec.Probes != nil {
			for name, planned := range st.Exec.Probes {
				if now := probe.Values[name]; now != planned {
					return fmt.Errorf("%w: the %s of %s moved since: %s, planned %s %s", ErrStale, name, st.Address, resource.Digest(now).Short(), resource.Digest(planned).Short(), probe.Err)
				}
			}
		}
		if now := planner.LiveDigest(in.Live.Objects[at]); now != st.Exec.Live {
			return fmt.Errorf("%w: the live object of %s moved since", ErrStale, at)
		}
	}
	return nil
}
