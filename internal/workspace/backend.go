package workspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/durable"
	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
	"github.com/continuo-ml/continuo/state/bolt"
	"github.com/continuo-ml/continuo/state/remote"
	"github.com/continuo-ml/continuo/state/remote/kube"
	"github.com/continuo-ml/continuo/state/remote/s3"
)

const (
	stateFile = "state.db"
	// backendFile says where the state of this folder is, if not in stateFile.
	// It is what counts: the files of a project say where it should be.
	backendFile = "backend.json"
	// backendDir is what this machine remembers of states elsewhere.
	backendDir = "backend"
)

// kept is what backendFile holds.
type kept struct {
	Type  string            `json:"type"`
	Attrs map[string]string `json:"attrs"`
}

// readBackend says where the state of a folder is; nil is its own file.
func readBackend(dir string) (*config.Backend, error) {
	var k kept
	found, err := durable.ReadJSON(filepath.Join(dir, backendFile), &k)
	if err != nil {
		return nil, fmt.Errorf("find the state: %w; `ml init -reconfigure` writes that file anew from the project's files", err)
	}
	if !found {
		return nil, nil
	}
	return &config.Backend{Type: k.Type, Attrs: k.Attrs}, nil
}

func writeBackend(dir string, b *config.Backend) error {
	path := filepath.Join(dir, backendFile)
	if b == nil {
		return durable.RemoveIfThere(path)
	}
	return durable.WriteJSON(path, kept{b.Type, b.Attrs})
}

// Place names where a backend keeps the state, for people.
func Place(b *config.Backend) string {
	if b == nil {
		return filepath.Join(DotML, stateFile)
	}
	blobs, err := blobsOf(b, "")
	if err != nil {
		return b.Type
	}
	return blobs.Where()
}

func blobsOf(b *config.Backend, version string) (remote.Blobs, error) {
	switch b.Type {
	case "s3":
		return s3.New(s3.Options{Bucket: b.Attrs["bucket"], Prefix: b.Attrs["prefix"], Region: b.Attrs["region"], Endpoint: b.Attrs["endpoint"]}), nil
	case "kubernetes":
		return kube.New(kube.Options{Name: b.Attrs["name"], Namespace: b.Attrs["namespace"], Context: b.Attrs["context"], Kubeconfig: b.Attrs["kubeconfig"], Version: version}), nil
	}
	return nil, fmt.Errorf("this version of ml cannot keep a state in %q", b.Type)
}

// openKeeper opens the state that a backend names. With a key, it refuses a
// state whose sensitive values were hashed with another one.
func openKeeper(b *config.Backend, o Options, key []byte) (state.Keeper, error) {
	dir := o.stateDir()
	if b == nil {
		return bolt.Open(filepath.Join(dir, stateFile), bolt.Options{Term: o.Term}), nil
	}
	blobs, err := blobsOf(b, o.Version)
	if err != nil {
		return nil, err
	}
	opts := remote.Options{Dir: filepath.Join(dir, backendDir, placeID(b)), Project: filepath.Dir(dir), Bound: bound}
	if key != nil {
		opts.Key, opts.Keyed = fingerprint(key), o.hashed.Load
	}
	return remote.Open(blobs, opts), nil
}

// placeID is the name of the folder for what is remembered of a place.
func placeID(b *config.Backend) string {
	text := b.Type
	for _, k := range slices.Sorted(maps.Keys(b.Attrs)) {
		text += "\x00" + k + "\x00" + b.Attrs[k]
	}
	return resource.DigestOf([]byte(text)).Hex()[:16]
}

// bound says what lives on the machine that made it: the servers of the provider
// local and, while it is under way, whatever that provider does.
func bound(provider string, a resource.Address, open bool) bool {
	return ofMachine(provider) && (open || a.Kind == "deployment")
}

// ofMachine says whether what a provider runs and keeps is on one machine.
func ofMachine(provider string) bool {
	base, _, _ := strings.Cut(provider, ".")
	return base == "local"
}

// elsewhere names the other machine that what a provider runs and keeps is on.
func (w *Workspace) elsewhere(provider string) string {
	shared, ok := w.Store.(*remote.Store)
	if !ok || !ofMachine(provider) {
		return ""
	}
	if home := shared.Elsewhere(); home != nil {
		return home.Who + ", in " + home.Dir
	}
	return ""
}

// Patience is how long to wait for the lease: least, or as long as it takes to see
// that the holder of a shared state is gone, for those who work unattended.
func (w *Workspace) Patience(least time.Duration) time.Duration {
	if shared, ok := w.Store.(*remote.Store); ok {
		return max(least, shared.FollowAfter())
	}
	return least
}

// hasFile says whether the folder has, or had, a state of its own.
func hasFile(dir string) (bool, error) {
	for _, name := range []string{stateFile, "serial"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// follow makes the files' word on where the state is count in a folder that has
// none yet, and refuses it in one whose state is elsewhere.
func follow(dir string, is, want *config.Backend) error {
	if want.Same(is) {
		return nil
	}
	if is == nil {
		has, err := hasFile(dir)
		if err != nil {
			return err
		}
		if !has {
			return writeBackend(dir, want)
		}
	}
	return fmt.Errorf("%w: the files keep the state in %s, but that of this folder is in %s: `ml init -migrate-state` moves it there, `ml init -reconfigure` leaves it and uses what is at the new place",
		ErrBackend, Place(want), Place(is))
}

// Follow makes the files' word on where the state is count in a folder that has
// none yet. It errors with ErrBackend when the folder's state is elsewhere.
// Files with errors, such as a variable that is not set yet, say nothing: the
// command that needs them tells.
func Follow(ctx context.Context, o Options) error {
	conf, _, err := Load(ctx, o)
	var diags DiagError
	if errors.As(err, &diags) {
		return nil
	}
	if err != nil {
		return err
	}
	is, err := readBackend(o.stateDir())
	if err != nil {
		return err
	}
	return follow(o.stateDir(), is, conf.Settings.Backend)
}

// ErrBackend: the files name another place for the state than the one it is in.
var ErrBackend = errors.New("the state is elsewhere")

// Reconfigure makes the folder use the state at the place that the files name,
// and moves nothing. It returns that place.
func Reconfigure(ctx context.Context, o Options) (string, error) {
	conf, _, err := Load(ctx, o)
	if err != nil {
		return "", err
	}
	want := conf.Settings.Backend
	return Place(want), writeBackend(o.stateDir(), want)
}

// Migrate moves the state of the folder to the place that the files name: it is
// copied, read back and compared before the old place gives it up, where a copy
// stays. It returns both places, which are the same when nothing was to do.
func Migrate(ctx context.Context, o Options) (from, to string, err error) {
	conf, _, err := Load(ctx, o)
	if err != nil {
		return "", "", err
	}
	dir, want := o.stateDir(), conf.Settings.Backend
	is, err := readBackend(dir)
	if err != nil {
		return "", "", err
	}
	from, to = Place(is), Place(want)
	if want.Same(is) {
		return from, to, nil
	}
	old, err := openKeeper(is, o, nil)
	if err != nil {
		return from, to, err
	}
	next, err := openKeeper(want, o, nil)
	if err != nil {
		return from, to, err
	}
	err = old.Handover(ctx, to, func(entries []state.Entry) error { return copyState(ctx, next, entries) })
	if err != nil {
		return from, to, fmt.Errorf("move the state from %s to %s: %w", from, to, err)
	}
	// Last: until here the folder uses the old place, and what is gone from there says so itself.
	return from, to, writeBackend(dir, want)
}

// copyState fills a store and compares what it holds then. One that holds the
// same already was filled by a move that was cut short.
func copyState(ctx context.Context, next state.Keeper, entries []state.Entry) error {
	if entries == nil {
		return nil // nothing to move: what is at the new place is used
	}
	there, err := next.Dump(ctx)
	if err != nil && !errors.Is(err, state.ErrMoved) && !errors.Is(err, state.ErrOlder) {
		return err
	}
	if there != nil && state.SameContent(entries, there) {
		return nil
	}
	if there != nil {
		return fmt.Errorf("there is another state in %s already; name a new place, or `ml init -reconfigure` to use that one", next.Where())
	}
	if err := next.Fill(ctx, entries); err != nil {
		return err
	}
	if there, err = next.Dump(ctx); err != nil {
		return fmt.Errorf("read the copy back: %w", err)
	}
	if !state.SameContent(entries, there) {
		return fmt.Errorf("the copy in %s is not what was copied; nothing was given up", next.Where())
	}
	return nil
}

// AdoptLocal makes this folder the home of what the provider local serves.
func AdoptLocal(ctx context.Context, o Options) error {
	is, err := readBackend(o.stateDir())
	if err != nil {
		return err
	}
	k, err := openKeeper(is, o, nil)
	if err != nil {
		return err
	}
	if r, ok := k.(*remote.Store); ok {
		return r.AdoptLocal(ctx)
	}
	return nil
}
