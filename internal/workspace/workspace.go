// Package workspace makes a project ready to work on: its files, the state
// folder with its key, and an engine with this program's providers.
//
// The command line and the daemon open projects by it, each in its own folders:
// the command line in the project folder itself, the daemon with the files of a
// commit in one place and the state in another. It plans and applies nothing.
// Main entries: Load for the files alone, Open for all of it.
package workspace

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/windows"
	"github.com/continuo-ml/continuo/planner"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/all"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// DotML is the folder of state and caches in a project folder.
const DotML = ".ml"

// WindowsFolder holds what monitors found window by window, below the state folder.
const WindowsFolder = "windows"

// PlansFolder holds the plans that wait, below the state folder.
const PlansFolder = "plans"

// Options say which project, and for whom.
type Options struct {
	// Root is the project folder, absolute. Dir is the folder of its state, key
	// and caches; "" = DotML in Root.
	Root, Dir string
	// State is the folder of the state and the key when they are another project
	// folder's, which is read and not written; "" = Dir.
	State string
	// Vars are the variables given from outside, the later of a name counts.
	Vars []config.VarInput
	// Version is this program's; Exe the command line that starts it.
	Version string
	Exe     []string
	// Environ is the environment that pass_env and variables read.
	Environ func() []string
	// Untrusted loads the files under the limits for a stranger's, whatever they cost.
	Untrusted bool
	// Commit is the commit that Root was written from; "" looks for a checkout.
	Commit string
	// Late leaves the state alone until somebody asks: who takes the lease first reads it after that.
	Late bool
	// LockTimeout is how long a session waits for another holder of the lease.
	LockTimeout time.Duration
	// Term is that of the elected leader that this process is; 0 = nobody is elected.
	Term int64

	// hashed tells that sensitive values were hashed with the key; nil = nobody asks.
	hashed *atomic.Bool
}

// Workspace is an opened project.
type Workspace struct {
	Root, Dir string
	Conf      *config.Project
	Engine    *engine.Engine
	Store     state.Keeper
	Key       []byte
	Vars      []config.VarInput
	// Warnings are what loading had to say.
	Warnings hcl.Diagnostics

	o Options
}

// DiagError carries diagnostics as an error, with the sources for snippets.
type DiagError struct {
	Diags hcl.Diagnostics
	Files map[string]*hcl.File
}

// Error implements error.
func (d DiagError) Error() string { return d.Diags.Error() }

// Plan is a plan that holds nothing but these errors, for whoever shows plans:
// on a pull request, files with errors are told where the plan would stand.
func (d DiagError) Plan() *planner.Plan {
	p := &planner.Plan{FormatVersion: planner.FormatVersion, Created: time.Now()}
	for _, diag := range d.Diags {
		x := planner.Diagnostic{Severity: "warning", Summary: diag.Summary, Detail: diag.Detail}
		if diag.Severity == hcl.DiagError {
			x.Severity = "error"
		}
		if diag.Subject != nil {
			x.File, x.Line = diag.Subject.Filename, diag.Subject.Start.Line
		}
		p.Diagnostics = append(p.Diagnostics, x)
	}
	return p
}

func (o Options) dir() string {
	if o.Dir != "" {
		return o.Dir
	}
	return filepath.Join(o.Root, DotML)
}

func (o Options) stateDir() string {
	if o.State != "" {
		return o.State
	}
	return o.dir()
}

// Load reads the files, and the key if there is one. It errors with a DiagError
// when they are wrong; warnings are returned beside the project.
func Load(ctx context.Context, o Options) (*config.Project, hcl.Diagnostics, error) {
	key, err := ReadKey(o.stateDir())
	if err != nil {
		return nil, nil, err
	}
	known, err := Schemas()
	if err != nil {
		return nil, nil, err
	}
	hash := hasher(key)
	if o.hashed != nil {
		hash = noting(key, o.hashed)
	}
	conf, diags := config.Load(ctx, config.Options{
		Dir: o.Root, Vars: o.Vars, Providers: known, Elsewhere: all.Elsewhere(), ToolVersion: o.Version,
		Modules: filepath.Join(o.dir(), "modules"), Exe: o.Exe, Untrusted: o.Untrusted, Hash: hash,
	})
	if diags.HasErrors() {
		return nil, nil, DiagError{Diags: diags, Files: Sources(o.Root, diags)}
	}
	return conf, diags, nil
}

// Fetch fetches the git modules that the files name and that are not there yet,
// and returns their sources, sorted.
func Fetch(ctx context.Context, o Options) ([]string, error) {
	known, err := Schemas()
	if err != nil {
		return nil, err
	}
	fetched, diags := config.FetchModules(ctx, config.Options{
		Dir: o.Root, Vars: o.Vars, Providers: known, Elsewhere: all.Elsewhere(), ToolVersion: o.Version,
		Modules: filepath.Join(o.dir(), "modules"), Exe: o.Exe,
	})
	if diags.HasErrors() {
		return fetched, DiagError{Diags: diags, Files: Sources(o.Root, diags)}
	}
	return fetched, nil
}

// Open loads the files and makes an engine ready, and the state folder with its
// key where there is none. The state is read while the files are loaded, for
// those who only look (see Options.Late).
func Open(ctx context.Context, o Options) (*Workspace, error) {
	// The key comes first: the project's digest covers sensitive values as keyed hashes.
	key, err := makeKey(o.stateDir())
	if err != nil {
		return nil, err
	}
	is, err := readBackend(o.stateDir())
	if err != nil {
		return nil, err
	}
	o.hashed = &atomic.Bool{}
	w := &Workspace{Root: o.Root, Dir: o.dir(), Key: key, Vars: o.Vars, o: o}
	if w.Store, err = openKeeper(is, o, key); err != nil {
		return nil, err
	}
	var ahead func(context.Context) (*state.Snapshot, error)
	if !o.Late {
		ahead = readAhead(ctx, w.Store)
	}
	if w.Conf, w.Warnings, err = Load(ctx, o); err != nil {
		return nil, err
	}
	// A stranger's files do not say where the state is.
	if want := w.Conf.Settings.Backend; !o.Untrusted && !want.Same(is) {
		if err := follow(o.stateDir(), is, want); err != nil {
			return nil, err
		}
		if w.Store, err = openKeeper(want, o, key); err != nil {
			return nil, err
		}
		ahead = nil
	}
	w.Engine = &engine.Engine{
		Project: w.Conf, Store: w.Store, Now: time.Now, Hash: noting(key, o.hashed), Commit: o.Commit,
		Parallel: w.Conf.Settings.Parallelism, LockTimeout: o.LockTimeout, Connect: w.connect, Prefetched: ahead,
		Elsewhere: w.elsewhere,
	}
	w.Engine.Windows = func(a resource.Address, list []state.Window) error {
		return windows.Append(filepath.Join(w.Dir, WindowsFolder), a, list)
	}
	if o.Commit == "" {
		git := openCheckout(o.Root)
		w.Engine.Commit = git.commit()
		w.Engine.Dirty = func() bool { return git.dirty(w.Conf.Files) }
	}
	return w, nil
}

// Bare is the state alone, for when the files cannot be loaded, and for those
// who want nothing else.
func Bare(o Options) (*Workspace, error) {
	is, err := readBackend(o.stateDir())
	if err != nil {
		return nil, err
	}
	w := &Workspace{Root: o.Root, Dir: o.dir(), o: o}
	w.Store, err = openKeeper(is, o, nil)
	return w, err
}

// Close writes back caches.
func (w *Workspace) Close() error { return w.Engine.Close() }

// Sources reads the files that diagnostics point into, for their snippets.
func Sources(root string, diags hcl.Diagnostics) map[string]*hcl.File {
	files := map[string]*hcl.File{}
	for _, d := range diags {
		if d.Subject == nil || files[d.Subject.Filename] != nil {
			continue
		}
		path := d.Subject.Filename
		if !filepath.IsAbs(path) {
			path = filepath.Join(root, path)
		}
		// A file that is gone by now has no snippet; the diagnostic stands by itself.
		if raw, err := os.ReadFile(path); err == nil && len(raw) <= config.MaxFileBytes {
			files[d.Subject.Filename] = &hcl.File{Bytes: raw}
		}
	}
	return files
}

// Schemas turns the providers' structs into what config checks files with.
func Schemas() (map[string]config.ProviderSchema, error) {
	out := map[string]config.ProviderSchema{}
	for _, d := range all.Definitions() {
		s := config.ProviderSchema{Name: d.Name, Kinds: d.Kinds, Named: d.Named, Nested: map[string]*resource.Schema{}}
		var err error
		if d.Config != nil {
			if s.Config, err = resource.SchemaOf(d.Config); err != nil {
				return nil, fmt.Errorf("provider %s: %w", d.Name, err)
			}
		}
		for kind, v := range d.Nested {
			if s.Nested[kind], err = resource.SchemaOf(v); err != nil {
				return nil, fmt.Errorf("provider %s, block of %s: %w", d.Name, kind, err)
			}
		}
		out[d.Name] = s
	}
	return out, nil
}

// readAhead starts to read the state and returns the function that waits for it.
func readAhead(ctx context.Context, from state.Store) func(context.Context) (*state.Snapshot, error) {
	type result struct {
		snap *state.Snapshot
		err  error
	}
	ch := make(chan result, 1)
	go func() {
		snap, err := from.Snapshot(ctx)
		ch <- result{snap, err}
	}()
	once := sync.OnceValues(func() (*state.Snapshot, error) {
		r := <-ch
		return r.snap, r.err
	})
	return func(context.Context) (*state.Snapshot, error) { return once() }
}

// connect makes a provider ready: "kubernetes.eu" is the provider kubernetes
// with the configuration of that alias.
func (w *Workspace) connect(ctx context.Context, name string, cfg config.ProviderConfig) (*providers.Provider, error) {
	base, _, _ := strings.Cut(name, ".")
	for _, d := range all.Definitions() {
		if d.Name == base {
			return d.Connect(ctx, w.env(), cfg.Value)
		}
	}
	return nil, fmt.Errorf("this version of ml has no provider %q", base)
}

func (w *Workspace) env() providers.Env {
	return providers.Env{
		Root: w.Root, Dir: w.Dir, Version: w.o.Version, Exe: w.o.Exe, Key: w.Key, Artifacts: w.Conf.Settings.Artifacts,
		Now: time.Now, LookupEnv: w.lookupEnv, Environ: w.o.Environ,
	}
}

func (w *Workspace) lookupEnv(name string) (string, bool) {
	for _, kv := range w.o.Environ() {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}
