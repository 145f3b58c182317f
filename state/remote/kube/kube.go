// Package kube keeps a state in Secrets of a namespace of a Kubernetes cluster.
//
// A head is replaced only under the resourceVersion that its writer saw, so of
// two one is refused by the API server. Credentials are those of the usual
// kubeconfig, or of the pod. Its main entry is [New].
package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/state/remote"
)

// Options say which cluster and under which name.
type Options struct {
	// Name is what the names of all Secrets begin with.
	Name string
	// Namespace, Context and Kubeconfig override what the usual kubeconfig says.
	Namespace, Context, Kubeconfig string
	Version                        string // of this program
	// Within bounds one request; 0 means 20 s.
	Within time.Duration
}

// Namespace is a namespace of a cluster as a place. It implements remote.Blobs.
type Namespace struct {
	opts Options

	mu    sync.Mutex
	vault *kube.Vault
}

var _ remote.Blobs = (*Namespace)(nil)

// New returns the place. It asks nothing before the first use.
func New(o Options) *Namespace {
	if o.Within == 0 {
		o.Within = 20 * time.Second
	}
	return &Namespace{opts: o}
}

// Where implements remote.Blobs.
func (n *Namespace) Where() string {
	return "kubernetes://" + cmp.Or(n.opts.Namespace, "(the context's namespace)") + "/" + n.opts.Name
}

// Limit implements remote.Blobs.
func (n *Namespace) Limit() int { return kube.VaultLimit }

// Check implements remote.Blobs: every API server keeps resourceVersions.
func (n *Namespace) Check(context.Context) error { return nil }

// do makes one request, whose errors are those of remote.Blobs.
func (n *Namespace) do(ctx context.Context, f func(*kube.Vault) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	v, err := n.connect(ctx)
	if err == nil {
		err = f(v)
	}
	var again *kube.Retryable
	var denied *kube.ForbiddenError
	switch {
	case errors.Is(err, kube.ErrPassed):
		return remote.ErrPassed
	case errors.Is(err, kube.ErrNotFound):
		return remote.ErrAbsent
	case errors.As(err, &denied):
		return fmt.Errorf("the right to %s secrets in namespace %s is missing: ask for it (deploy/rbac-state.yaml has it); the API server says: %s", denied.Verb, denied.Namespace, denied.Message)
	case errors.As(err, &again):
		return fmt.Errorf("%w: %w", remote.ErrBusy, err)
	}
	return err
}

func (n *Namespace) connect(ctx context.Context) (*kube.Vault, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.vault != nil {
		return n.vault, nil
	}
	c, err := kube.Connect(ctx, kube.Config{
		Kubeconfig: n.opts.Kubeconfig, Context: n.opts.Context, Namespace: n.opts.Namespace, Version: n.opts.Version,
		RetryFor: -1, AnswerWithin: n.opts.Within, // repeats are the Store's
	})
	if err != nil {
		return nil, err
	}
	n.vault = c.Vault(n.opts.Name)
	return n.vault, nil
}

// Get implements remote.Blobs.
func (n *Namespace) Get(ctx context.Context, name string) (data []byte, version string, err error) {
	err = n.do(ctx, func(v *kube.Vault) (err error) {
		data, version, err = v.Get(ctx, name)
		return err
	})
	return data, version, err
}

// Put implements remote.Blobs.
func (n *Namespace) Put(ctx context.Context, name string, data []byte, at string) (version string, err error) {
	err = n.do(ctx, func(v *kube.Vault) (err error) {
		version, err = v.Put(ctx, name, data, at)
		return err
	})
	return version, err
}

// Delete implements remote.Blobs.
func (n *Namespace) Delete(ctx context.Context, name string) error {
	return n.do(ctx, func(v *kube.Vault) error { return v.Delete(ctx, name) })
}

// List implements remote.Blobs. The time of an object is that of its creation.
func (n *Namespace) List(ctx context.Context, prefix string) (found []remote.Info, err error) {
	err = n.do(ctx, func(v *kube.Vault) error {
		found = nil
		all, err := v.List(ctx)
		for _, o := range all {
			if strings.HasPrefix(o.Name, prefix) {
				found = append(found, remote.Info{Name: o.Name, Modified: o.Created})
			}
		}
		return err
	})
	slices.SortFunc(found, func(a, b remote.Info) int { return cmp.Compare(a.Name, b.Name) })
	return found, err
}
