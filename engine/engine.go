package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// DefaultParallelism is how many steps run at once when nobody says.
const DefaultParallelism = 10

// Engine works on one project. Its fields are set once, before use.
type Engine struct {
	Project *config.Project
	Store   state.Store
	// Connect makes a provider ready: its name, and its configuration's value.
	Connect func(ctx context.Context, name string, cfg config.ProviderConfig) (*providers.Provider, error)
	Now     func() time.Time
	// Emit takes events; it is called by several goroutines at once.
	Emit func(resource.Event)
	// Windows keeps what monitors found window by window, for people; nil keeps
	// nothing. No verdict depends on it, so an error is told and changes nothing.
	Windows func(monitor resource.Address, list []state.Window) error
	// Hash makes a keyed hash of a sensitive value.
	Hash func(string) string
	// Prefetched, when not nil, gives Plan the state that was read while the
	// files were loaded. A session always reads it anew.
	Prefetched func(context.Context) (*state.Snapshot, error)
	// Elsewhere says on which other machine a provider's things are, which this
	// one cannot see: a plan shows them as they were recorded. "" = none, and a
	// nil function says that of all. A session that was given the lease never asks.
	Elsewhere func(provider string) string
	// Commit names the git commit of the project folder, "" outside a checkout.
	Commit string
	// Dirty says whether the project folder differs from that commit; nil never
	// looks. It is asked only for a plan that does something.
	Dirty func() bool
	// VirtualEnv is the caller's active virtual environment, "" = none: a plan
	// warns about commands that would not see it.
	VirtualEnv string
	// Parallel bounds the steps that run at once; 0 = DefaultParallelism.
	Parallel int
	// LockTimeout is how long Begin waits for another holder; 0 = hardly.
	LockTimeout time.Duration
	// Retry bounds how often a retryable error is tried again.
	Retry RetryPolicy

	mu        sync.Mutex
	connected map[string]*providers.Provider
}

// driver returns the driver for a kind at a provider configuration ("local",
// "kubernetes.eu"), connecting it on first use.
func (e *Engine) driver(ctx context.Context, provider, kind string) (providers.Driver, error) {
	p, err := e.provider(ctx, provider)
	if err != nil {
		return nil, err
	}
	d := p.Drivers[kind]
	if d == nil {
		return nil, fmt.Errorf("provider %q does not serve %s blocks; choose another with provider = …", provider, kind)
	}
	return d, nil
}

func (e *Engine) provider(ctx context.Context, name string) (*providers.Provider, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.connected[name]; p != nil {
		return p, nil
	}
	conf, ok := e.Project.Providers[name]
	if !ok && strings.Contains(name, ".") {
		return nil, fmt.Errorf("provider %q is not configured any more; put its provider block back", name)
	}
	p, err := e.Connect(ctx, name, conf)
	if err != nil {
		return nil, fmt.Errorf("connect provider %q: %w", name, err)
	}
	if e.connected == nil {
		e.connected = map[string]*providers.Provider{}
	}
	e.connected[name] = p
	return p, nil
}

// venvWarnings names the blocks whose command would run outside the caller's
// virtual environment, in one warning: that is rarely meant.
func (e *Engine) venvWarnings(p *planner.Plan) []planner.Diagnostic {
	if e.VirtualEnv == "" {
		return nil
	}
	var blind []string
	for _, st := range p.Steps {
		var spec struct {
			Command []string `json:"command"`
			PassEnv []string `json:"pass_env"`
		}
		// A body without a command is none that could miss the environment.
		if json.Unmarshal(st.After, &spec) != nil || len(spec.Command) == 0 || passes(spec.PassEnv, "VIRTUAL_ENV") {
			continue
		}
		blind = append(blind, st.Address.String())
	}
	if len(blind) == 0 {
		return nil
	}
	return []planner.Diagnostic{{
		Severity: "warning", Summary: "A virtual environment is active but not passed on",
		Detail: fmt.Sprintf("%s runs outside %s. Add pass_env = [\"VIRTUAL_ENV\", \"PATH\"] if the command needs it.", strings.Join(blind, ", "), e.VirtualEnv),
	}}
}

// cannotImport says before anything is approved what no driver can take over.
func (e *Engine) cannotImport(ctx context.Context, p *planner.Plan) []planner.Diagnostic {
	var out []planner.Diagnostic
	for _, st := range p.Steps {
		if st.Action != resource.Import {
			continue
		}
		driver, err := e.driver(ctx, st.Provider, st.Kind)
		if err != nil {
			continue // refreshing has reported it
		}
		if _, ok := providers.As[providers.Importer](driver); !ok {
			out = append(out, planner.Diagnostic{
				Severity: "error", Summary: "This cannot be imported", Address: st.Address.String(),
				Detail: fmt.Sprintf("Provider %q takes over no %s that exists already. Remove the import block; the next apply makes or runs %s.", st.Provider, st.Kind, st.Address),
			})
		}
	}
	return out
}

func passes(globs []string, name string) bool {
	for _, g := range globs {
		if ok, err := path.Match(g, name); err == nil && ok {
			return true
		}
	}
	return false
}

// Close closes the providers that were connected.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for name, p := range e.connected {
		if p.Close != nil {
			if err := p.Close(); err != nil {
				errs = append(errs, fmt.Errorf("close provider %q: %w", name, err))
			}
		}
	}
	e.connected = nil
	return errors.Join(errs...)
}

func (e *Engine) emit(ev resource.Event) {
	if e.Emit == nil {
		return
	}
	if ev.Time.IsZero() {
		ev.Time = e.Now()
	}
	e.Emit(ev)
}

func (e *Engine) parallel() int {
	if e.Parallel > 0 {
		return e.Parallel
	}
	return DefaultParallelism
}

// PlanOptions are the planner's, and whether live state is read.
type PlanOptions struct {
	planner.Options
	NoRefresh bool
	// Pure plans a stranger's files: it reads what lies in the project folder and what is recorded, and asks nobody else. Live state,
	// signals and sources elsewhere are as they were recorded.
	Pure bool
}

// Planned is a plan together with what it was made from, which apply needs.
type Planned struct {
	Plan  *planner.Plan
	Input planner.Input
}

// dirtySuffix marks the commit of a plan whose project folder differs from it.
const dirtySuffix = "+dirty"

// Plan reads state, sources and live objects and plans. It executes nothing and
// writes nothing but caches.
func (e *Engine) Plan(ctx context.Context, o PlanOptions) (*Planned, error) {
	read := e.Store.Snapshot
	if e.Prefetched != nil {
		read = e.Prefetched
	}
	snap, err := read(ctx)
	if err != nil {
		return nil, err
	}
	return e.planOn(ctx, snap, o)
}

func (e *Engine) planOn(ctx context.Context, snap *state.Snapshot, o PlanOptions) (*Planned, error) {
	o.Hash = e.Hash
	in := planner.Input{Project: e.Project, Prior: snap, Now: e.Now().UTC(), Options: o.Options, Decoder: &state.Decoder{}}
	in.Live.Commit = e.Commit
	if !o.NoRefresh {
		in.Evaluated = make(map[resource.Address]planner.Body, len(e.Project.Blocks))
		live, err := e.refresh(ctx, snap, in.Decoder, refreshing{probes: !o.Destroy && !o.RefreshOnly, pure: o.Pure, evaluated: in.Evaluated})
		if err != nil {
			return nil, err
		}
		in.Live = live
	}
	p := planner.Build(in)
	var standing []planner.Diagnostic
	asks := !o.NoRefresh && !o.Pure
	if asks {
		var fixed map[resource.Address][]planner.Immutable
		if standing, fixed = e.preflight(ctx, p, snap); len(fixed) > 0 {
			in.Live.Immutable = fixed
			p = planner.Build(in)
		}
	}
	if p.Commit != "" && e.Dirty != nil && p.Summary.Acts() && e.Dirty() {
		p.Commit += dirtySuffix
	}
	p.Diagnostics = append(p.Diagnostics, e.venvWarnings(p)...)
	if !o.NoRefresh && !o.Pure {
		p.Diagnostics = append(p.Diagnostics, e.elsewhere(snap)...)
	}
	if asks {
		p.Diagnostics = append(p.Diagnostics, e.cannotImport(ctx, p)...)
		p.Diagnostics = append(p.Diagnostics, standing...)
	}
	return &Planned{Plan: p, Input: in}, nil
}

// elsewhere warns that some things are shown as they were recorded.
func (e *Engine) elsewhere(snap *state.Snapshot) []planner.Diagnostic {
	if e.Elsewhere == nil {
		return nil
	}
	for _, a := range slices.SortedFunc(maps.Keys(snap.Records), resource.Address.Compare) {
		provider := snap.Records[a].Provider
		if at := e.Elsewhere(provider); at != "" {
			return []planner.Diagnostic{{
				Severity: "warning", Summary: "Shown as recorded",
				Detail: fmt.Sprintf("What the provider %s runs and keeps is on the machine of %s, and this one cannot see how it is now.", provider, at),
			}}
		}
	}
	return nil
}
