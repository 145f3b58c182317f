package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/continuo-ml/continuo/internal/oci"
)

// registry reads the files of an image. Its identity is the manifest's digest.
type registry struct{ client *oci.Client }

// image takes an address apart: the image, and the file or folder in it, "" for all of it.
func image(a address) (ref, at string, err error) {
	ref, at, _ = strings.Cut(a.key, "//")
	at = strings.TrimSuffix(at, "/")
	if at != "" {
		if err := checkKey(at); err != nil {
			return "", "", fmt.Errorf("%w; write %s", err, forms[schemeOCI])
		}
	}
	return oci.Scheme + ref, at, nil
}

// resolve implements trees.
func (p registry) resolve(ctx context.Context, a address) (string, error) {
	ref, _, err := image(a)
	if err != nil {
		return "", err
	}
	img, err := p.client.Resolve(ctx, ref)
	if err != nil {
		return "", explainOCI(a, err)
	}
	return img.Ref, nil
}

// pull implements trees. What is pulled is the image of that digest, wherever a tag has moved since.
func (p registry) pull(ctx context.Context, a address, whole, dir string) (single bool, err error) {
	_, at, err := image(a)
	if err != nil {
		return false, err
	}
	err = p.client.PullDir(ctx, whole, at, dir)
	if !errors.Is(err, oci.ErrNoFolder) {
		return false, explainOCI(a, err)
	}
	all := dir + ".all"
	defer func() { err = errors.Join(err, os.RemoveAll(all)) }()
	if err := p.client.PullDir(ctx, whole, strings.TrimPrefix(path.Dir(at), "."), all); err != nil {
		return false, explainOCI(a, err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return false, err
	}
	return true, os.Rename(filepath.Join(all, path.Base(at)), filepath.Join(dir, path.Base(at)))
}

// explainOCI keeps what the client says, which names place, cause and next step, and says which sort of error it is.
func explainOCI(a address, err error) error {
	kind := error(nil)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, oci.ErrNotFound):
		kind = ErrNotFound
	case errors.Is(err, oci.ErrDenied):
		kind = ErrDenied
	case errors.Is(err, oci.ErrHostile):
		kind = ErrHostile
	}
	if kind != nil {
		err = kinded{kind, err}
	}
	return &Error{Place: a.text, Err: err}
}
