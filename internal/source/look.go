package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/internal/files"
)

// objects is a place that has objects, each with an identity.
type objects interface {
	// list finds the objects of a's host whose keys begin with a prefix that holds all that a can mean. single reports that
	// a is the key of the one object returned.
	list(ctx context.Context, a address) (found []object, single bool, err error)
	// get reads an object from byte at on. It errors with ErrChanged when the object is not the one that was listed, and may
	// begin at 0 all the same, which from tells.
	get(ctx context.Context, a address, o object, at int64) (body io.ReadCloser, from int64, err error)
}

// trees is a place that has files under one identity for all of them.
type trees interface {
	// resolve returns the identity of what a stands for.
	resolve(ctx context.Context, a address) (string, error)
	// pull puts the files of a, as they are under the identity whole, into the new folder dir. single reports that a stands for one file.
	pull(ctx context.Context, a address, whole, dir string) (single bool, err error)
}

// open returns the place of an address, as objects or trees.
func (r *Reader) open(a address) (any, error) {
	switch a.scheme {
	case schemeHTTPS, schemeHTTP:
		return &web{r: r, client: r.webClient(a)}, nil
	case schemeS3:
		return r.s3, nil
	case schemeGS:
		return r.gs, nil
	case schemeAzure:
		return r.azure, nil
	case schemeGit:
		return repository{local: r.opt.localGit}, nil
	case schemeOCI:
		return registry{r.opt.OCI}, nil
	}
	return nil, fmt.Errorf("source %s: only pods of a cluster reach a claim; set provider = \"kubernetes\" in the dataset, which reads it in a pod", a.text)
}

// look finds what an address holds now, and has all of it in the cache, or known by identity, when it returns.
func (r *Reader) look(ctx context.Context, a address) (*listing, error) {
	place, err := r.open(a)
	if err != nil {
		return nil, err
	}
	if t, ok := place.(trees); ok {
		return r.lookTree(ctx, a, t)
	}
	p := place.(objects)
	// A place where an object is exchanged between list and download is listed anew.
	for try := 1; ; try++ {
		l, err := r.listed(ctx, a, p)
		if err == nil {
			l, err = r.complete(ctx, a, p, l)
		}
		if err == nil || !errors.Is(err, ErrChanged) || try == r.opt.Attempts {
			return l, err
		}
		if err := r.pause(ctx, try, 0); err != nil {
			return nil, err
		}
	}
}

// listed asks the place for its objects and chooses those of the address.
func (r *Reader) listed(ctx context.Context, a address, p objects) (*listing, error) {
	var found []object
	var single bool
	err := r.retry(ctx, func() (err error) {
		found, single, err = p.list(ctx, a)
		return err
	})
	if err != nil {
		return nil, err
	}
	l := &listing{IsDir: !single}
	if single {
		l.Objects = found
		return l, r.within(l)
	}
	if l.Objects, err = choose(a, found); err != nil {
		return nil, err
	}
	if len(l.Objects) == 0 {
		return nil, kinded{ErrNotFound, errors.New("nothing is there")}
	}
	return l, r.within(l)
}

// choose keeps the objects that an address of several means, with paths below its folder.
func choose(a address, found []object) ([]object, error) {
	base := strings.TrimSuffix(a.key, "/")
	var glob files.Matcher
	if a.glob {
		var err error
		if glob, err = files.NewMatcher(base); err != nil {
			return nil, err
		}
		if base = glob.Base(); base == "." {
			base = ""
		}
	}
	if base != "" {
		base += "/"
	}
	out := make([]object, 0, len(found))
	for _, o := range found {
		rel, ok := strings.CutPrefix(o.Key, base)
		if !ok || rel == "" || strings.HasSuffix(rel, "/") {
			continue // a folder's own marker
		}
		if a.glob && path.Clean(o.Key) == o.Key && !glob.Match(o.Key) {
			continue
		}
		if err := checkName(rel); err != nil {
			return nil, err
		}
		if ignored(rel) {
			continue // as a folder of the project would
		}
		o.Path = rel
		out = append(out, o)
	}
	slices.SortFunc(out, func(p, q object) int { return cmp.Compare(p.Path, q.Path) })
	return out, checkTree(out)
}

// checkTree refuses objects that cannot be files beside each other.
func checkTree(sorted []object) error {
	paths := make(map[string]bool, len(sorted))
	for _, o := range sorted {
		paths[o.Path] = true
	}
	for _, o := range sorted {
		for at := path.Dir(o.Path); at != "."; at = path.Dir(at) {
			if paths[at] {
				return kinded{ErrHostile, fmt.Errorf("%q and %q cannot both be files; rename one, or name the files with a pattern", at, o.Path)}
			}
		}
	}
	return nil
}

// within holds a listing to the limits.
func (r *Reader) within(l *listing) error {
	if len(l.Objects) > r.opt.MaxObjects {
		return fmt.Errorf("it has more than %d objects; name fewer with a pattern", r.opt.MaxObjects)
	}
	left := r.opt.MaxBytes
	for _, o := range l.Objects {
		if left -= max(o.Size, 0); left < 0 {
			return fmt.Errorf("it has more than %d bytes; name fewer objects with a pattern", r.opt.MaxBytes)
		}
	}
	return nil
}

// complete fills in the sums of a listing: from the list of last time where the identity is the same, else by download.
func (r *Reader) complete(ctx context.Context, a address, p objects, l *listing) (*listing, error) {
	known := map[string]object{}
	if before := r.store.recall(a); before != nil {
		for _, o := range before.Objects {
			known[o.Key] = o
		}
	}
	moved := len(known) != len(l.Objects)
	var missing []int
	for i := range l.Objects {
		o := &l.Objects[i]
		k, ok := known[o.Key]
		if ok && o.ID != "" && k.ID == o.ID && (k.Size == o.Size || o.Size < 0) && isHex(k.Sum) {
			o.Sum, o.Size = k.Sum, k.Size
			continue
		}
		missing, moved = append(missing, i), true
	}
	if !moved {
		return l, nil
	}
	err := r.downloads(ctx, a, p, l, missing)
	// What was downloaded is known, also if something else failed.
	have := *l
	if err != nil {
		have.Objects = slices.DeleteFunc(slices.Clone(l.Objects), func(o object) bool { return o.Sum == "" })
	}
	if len(have.Objects) > 0 {
		err = errors.Join(err, r.store.remember(a, &have))
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// downloads fetches the objects of l at the given places.
func (r *Reader) downloads(ctx context.Context, a address, p objects, l *listing, at []int) error {
	g, all := errgroup.WithContext(ctx)
	g.SetLimit(r.opt.Parallel)
	for _, i := range at {
		if all.Err() != nil {
			break
		}
		g.Go(func() error {
			o, err := r.download(all, a, p, l.Objects[i])
			if err != nil {
				if len(l.Objects) > 1 {
					err = fmt.Errorf("%s: %w", l.Objects[i].Key, err)
				}
				return err
			}
			l.Objects[i] = o
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// fetch has the blobs of a listing in the cache: those that are missing are downloaded, under the identity that they had.
func (r *Reader) fetch(ctx context.Context, a address, l *listing) (*listing, error) {
	place, err := r.open(a)
	if err != nil {
		return nil, err
	}
	if t, ok := place.(trees); ok {
		return r.pullTree(ctx, a, t, l.Whole)
	}
	out := &listing{IsDir: l.IsDir, Objects: slices.Clone(l.Objects)}
	var missing []int
	for i, o := range out.Objects {
		if !r.store.has(o.Sum, o.Size) {
			missing = append(missing, i)
		}
	}
	err = r.downloads(ctx, a, place.(objects), out, missing)
	if errors.Is(err, ErrChanged) || errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("%w since the plan: plan again: %w", files.ErrMoved, err)
	}
	return out, err
}

// retry calls f until it succeeds, fails for good, or has had its attempts.
func (r *Reader) retry(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		if err == nil || ctx.Err() != nil || !temporary(err) {
			return err
		}
		if n >= r.opt.Attempts {
			return fmt.Errorf("%w (tried %d times)", err, n)
		}
		var busy *busyError
		var after time.Duration
		if errors.As(err, &busy) {
			after = busy.after
		}
		if after > r.opt.MaxWait {
			return fmt.Errorf("%w (it asks to wait %s)", err, after)
		}
		if werr := r.pause(ctx, n, after); werr != nil {
			return errors.Join(werr, err)
		}
	}
}

// pause waits before the attempt after the n-th.
func (r *Reader) pause(ctx context.Context, n int, after time.Duration) error {
	if after == 0 {
		after = time.Duration((0.75 + rand.Float64()/2) * float64(min(r.opt.Wait<<(n-1), r.opt.MaxWait)))
	}
	t := time.NewTimer(after)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
