package runs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/source"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

// Claims reads persistent volume claims, which only pods of a cluster reach. It changes nothing on them. It is safe for concurrent use.
type Claims interface {
	// Digest returns what a claim holds now. Within the life of a provider a source keeps the version first read.
	Digest(ctx context.Context, q ClaimRequest) (source.Version, error)
	// Fetch puts the files that have the content q.Want into dir, a folder that does not exist yet: a single file by its own name, those of
	// a folder or a pattern by their paths in it. If the claim holds other content by now the error matches files.ErrMoved. Whoever
	// called compares the content with what was wanted.
	Fetch(ctx context.Context, q ClaimRequest, dir string) (source.Version, error)
}

// ClaimRequest is a dataset's source on a claim.
type ClaimRequest struct {
	Address resource.Address
	// Spec is the block: what only one provider understands says where the claim is.
	Spec   cty.Value
	Source string
	Want   resource.Digest // of Fetch
}

// ClaimData serves the datasets whose source is on a claim. Once it was read, such data is frozen on this machine, judged and
// dealt out like any other.
func ClaimData(w *Workspace, x Executor, claims Claims) providers.Driver {
	return providers.For(&dataset{command{Workspace: w, exec: x}, claims})
}

// notOnClaim refuses what another provider serves.
func notOnClaim(addr resource.Address, text string) error {
	if source.IsClaim(text) {
		_, err := source.ParseClaim(text)
		if err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
		return nil
	}
	what := fmt.Sprintf("source %q is on none", text)
	if text == "" {
		what = "this one has a command"
	}
	return fmt.Errorf("%s: this provider reads datasets on claims (source = \"pvc://CLAIM/PATH\"), and %s; leave provider out, or name \"local\"", addr, what)
}

func (d *dataset) probeClaim(ctx context.Context, text string, req providers.ProbeRequest) (map[string]string, error) {
	if err := notOnClaim(req.Address, text); err != nil {
		return nil, err
	}
	v, err := d.claims.Digest(ctx, ClaimRequest{Address: req.Address, Spec: req.Spec, Source: text})
	if err != nil {
		return nil, fmt.Errorf("%s: source: %w", req.Address, err)
	}
	return map[string]string{"content": string(resource.DigestOfHex(v.Hex))}, nil
}

// fetchClaim is freeze for a source on a claim.
func (d *dataset) fetchClaim(ctx context.Context, x *files.Index, text string, want resource.Digest, req providers.ApplyRequest) (f frozen, err error) {
	if err := notOnClaim(req.Address, text); err != nil {
		return f, err
	}
	q := ClaimRequest{Address: req.Address, Spec: req.Spec, Source: text, Want: want}
	if want == "" {
		v, err := d.claims.Digest(ctx, q)
		if err != nil {
			return f, err
		}
		q.Want = resource.DigestOfHex(v.Hex)
	}
	f.digest = q.Want
	if err := mkdir(d.version(f.digest)); err != nil {
		return f, err
	}
	tmp, err := os.MkdirTemp(d.dataDir(), ".scan-*")
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	c := fetched{dir: filepath.Join(tmp, "files"), name: source.Name(text)}
	if c.isDir, c.has, err = d.stands(f.digest, text); err != nil {
		return f, err
	}
	get := func() (err error) {
		v, err := d.claims.Fetch(ctx, q, c.dir)
		c.isDir, c.has = v.IsDir, err == nil
		return err
	}
	if !c.has {
		if err := get(); err != nil {
			return f, err
		}
	}
	f.path = d.frozenAt(f.digest, c.name, c.isDir)
	s, err := x.Place(f.digest.Hex(), f.path, func(to string) error {
		if ok, err := exists(c.dir); err != nil || !ok { // what stands there is not what it was
			if err := errors.Join(err, get()); err != nil {
				return err
			}
		}
		return c.move(to)
	})
	f.files, f.bytes = len(s.Files), s.Bytes
	return f, err
}

// stands finds out whether a version is frozen already, as a folder or as a file.
func (d *dataset) stands(digest resource.Digest, text string) (isDir, ok bool, err error) {
	for _, isDir := range []bool{false, true} {
		info, err := os.Lstat(d.frozenAt(digest, source.Name(text), isDir))
		if err == nil && info.IsDir() == isDir {
			return isDir, true, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, false, err
		}
	}
	return false, false, nil
}

// fetched is what came from a claim.
type fetched struct {
	dir, name  string
	isDir, has bool
}

// move puts it at a path.
func (c *fetched) move(to string) error {
	if c.isDir {
		return os.Rename(c.dir, to)
	}
	return os.Rename(filepath.Join(c.dir, c.name), to)
}
