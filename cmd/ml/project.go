package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/engine"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/all"
	"github.com/continuo-ml/continuo/report"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/bolt"
)

// dotML is the folder of state and caches.
const dotML = ".ml"

// diagError carries diagnostics as an error, with the sources for snippets.
type diagError struct {
	diags hcl.Diagnostics
	files map[string]*hcl.File
}

// Error implements error.
func (d diagError) Error() string { return d.diags.Error() }

// project is an opened project: configuration, state and engine.
type project struct {
	root, dir string
	conf      *config.Project
	engine    *engine.Engine
	store     *bolt.Store
	key       []byte
	vars      []config.VarInput
}

// root is the project folder, absolute.
func (a *app) projectDir() (string, error) {
	dir := a.chdir
	if dir == "" {
		dir = "."
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	st, err := os.Stat(abs)
	if err != nil {
		return "", fmt.Errorf("-chdir: %w", err)
	}
	if !st.IsDir() {
		return "", fmt.Errorf("-chdir: %s is not a folder", abs)
	}
	return abs, nil
}

// load reads the configuration.
func (a *app) load(ctx context.Context) (*config.Project, []config.VarInput, string, error) {
	dir, err := a.projectDir()
	if err != nil {
		return nil, nil, "", err
	}
	vars, err := a.vars.inputs(environ())
	if err != nil {
		return nil, nil, "", err
	}
	schemas, err := schemas()
	if err != nil {
		return nil, nil, "", err
	}
	key, err := readKey(dir)
	if err != nil {
		return nil, nil, "", err
	}
	conf, diags := config.Load(ctx, config.Options{
		Dir: dir, Vars: vars, Providers: schemas, Elsewhere: all.Elsewhere(), ToolVersion: toolVersion(),
		Modules: filepath.Join(dir, dotML, "modules"), Exe: []string{exe()},
		Hash: hasher(key),
	})
	if diags.HasErrors() {
		return nil, nil, "", diagError{diags: diags, files: sources(dir, diags)}
	}
	if len(diags) > 0 { // warnings
		if err := report.Diagnostics(a.Err, diags, sources(dir, diags), a.errStyle()); err != nil {
			return nil, nil, "", err
		}
	}
	return conf, vars, dir, nil
}

// sources reads the files that diagnostics point into, for their snippets.
func sources(dir string, diags hcl.Diagnostics) map[string]*hcl.File {
	files := map[string]*hcl.File{}
	for _, d := range diags {
		if d.Subject == nil || files[d.Subject.Filename] != nil {
			continue
		}
		path := d.Subject.Filename
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		// A file that is gone by now has no snippet; the diagnostic stands by itself.
		if raw, err := os.ReadFile(path); err == nil && len(raw) <= config.MaxFileBytes {
			files[d.Subject.Filename] = &hcl.File{Bytes: raw}
		}
	}
	return files
}

// schemas turns the providers' structs into what config checks files with.
func schemas() (map[string]config.ProviderSchema, error) {
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

// open loads the project and makes its engine ready. The state is read while
// the files are loaded, for the commands that only look.
func (a *app) open(ctx context.Context) (*project, error) {
	ahead := a.readAhead(ctx)
	key, err := a.makeKey()
	if err != nil {
		return nil, err
	}
	conf, vars, root, err := a.load(ctx)
	if err != nil {
		return nil, err
	}
	boundMemory(len(conf.Blocks))
	p := &project{root: root, dir: filepath.Join(root, dotML), conf: conf, vars: vars, key: key}
	p.store = bolt.Open(filepath.Join(p.dir, "state.db"), bolt.Options{})
	git := openCheckout(root)
	p.engine = &engine.Engine{
		Project: conf, Store: p.store, Now: time.Now, Hash: hasher(p.key), Commit: git.commit(),
		Dirty:    func() bool { return git.dirty(conf.Files) },
		Parallel: conf.Settings.Parallelism, LockTimeout: a.lockTimeout,
		Connect: p.connect, Prefetched: ahead, VirtualEnv: os.Getenv("VIRTUAL_ENV"),
	}
	return p, nil
}

// makeKey makes the state folder and the key in it, before the files are loaded:
// their digest covers sensitive values as keyed hashes.
func (a *app) makeKey() ([]byte, error) {
	root, err := a.projectDir()
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(filepath.Join(root, dotML), 0o755); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	return ensureKey(root)
}

// readAhead starts to read the state and returns the function that waits for it.
func (a *app) readAhead(ctx context.Context) func(context.Context) (*state.Snapshot, error) {
	type result struct {
		snap *state.Snapshot
		err  error
	}
	dir, err := a.projectDir()
	if err != nil {
		return nil // the caller finds the same error and reports it
	}
	ch := make(chan result, 1)
	go func() {
		snap, err := bolt.Open(filepath.Join(dir, dotML, "state.db"), bolt.Options{}).Snapshot(ctx)
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
func (p *project) connect(ctx context.Context, name string, cfg config.ProviderConfig) (*providers.Provider, error) {
	base, _, _ := strings.Cut(name, ".")
	for _, d := range all.Definitions() {
		if d.Name == base {
			return d.Connect(ctx, p.env(), cfg.Value)
		}
	}
	return nil, fmt.Errorf("this version of ml has no provider %q", base)
}

func (p *project) env() providers.Env {
	return providers.Env{
		Root: p.root, Dir: p.dir, Version: toolVersion(), Exe: []string{exe()}, Key: p.key, Artifacts: p.conf.Settings.Artifacts,
		Now: time.Now, LookupEnv: os.LookupEnv, Environ: environ,
	}
}

// close writes back caches.
func (p *project) close() error { return p.engine.Close() }

// exe is this program's own path, for detached helpers.
func exe() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

const keyFile = "key"

// readKey reads the project's key; nil when there is none yet.
func readKey(root string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(root, dotML, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("project key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("project key %s is damaged; delete it to make a new one (saved plans become invalid, sensitive values count as changed)", filepath.Join(root, dotML, keyFile))
	}
	return key, nil
}

// ensureKey makes the key that plan files are authenticated with and sensitive
// values are hashed with. It never leaves the machine.
func ensureKey(root string) ([]byte, error) {
	if key, err := readKey(root); key != nil || err != nil {
		return key, err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("project key: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(root, dotML, keyFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return readKey(root)
	}
	if err != nil {
		return nil, fmt.Errorf("project key: %w", err)
	}
	if _, err := f.WriteString(hex.EncodeToString(key) + "\n"); err != nil {
		return nil, errors.Join(fmt.Errorf("project key: %w", err), f.Close())
	}
	// A key that a power cut took would make every saved plan a stranger's and every sensitive value a new one.
	if err := errors.Join(f.Sync(), f.Close(), durable.SyncDir(filepath.Join(root, dotML))); err != nil {
		return nil, fmt.Errorf("project key: %w", err)
	}
	return key, nil
}

func hasher(key []byte) func(string) string {
	return func(s string) string {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s))
		return hex.EncodeToString(h.Sum(nil))[:32]
	}
}
