package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/continuo-ml/continuo/resource"
)

// ErrUnsupported is what the removal of a tag matches where the registry removes none.
var ErrUnsupported = errors.New("the registry removes no tags")

// Pin says what a reference stands for now, by its digest (oci://HOST/REPOSITORY@sha256:…), and looks no further: it may be an image or
// an index of several. It is one small request.
func (c *Client) Pin(ctx context.Context, ref string) (string, resource.Digest, error) {
	r, err := c.parse(ref)
	if err != nil {
		return "", "", err
	}
	h, err := c.head(ctx, r)
	if err != nil {
		return "", "", fail("look up", r, err)
	}
	return byDigest(r.Context(), h), resource.Digest(h.String()), nil
}

// Tagged says what a tag points to; "" when there is no such tag. It is one small request.
func (c *Client) Tagged(ctx context.Context, repo, tag string) (resource.Digest, error) {
	ref, err := c.tagRef(repo, tag)
	if err != nil {
		return "", err
	}
	h, err := c.head(ctx, ref)
	switch err = fail("look up", ref, err); {
	case errors.Is(err, ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	}
	return resource.Digest(h.String()), nil
}

func (c *Client) head(ctx context.Context, ref name.Reference) (h v1.Hash, err error) {
	err = c.retry(ctx, func(ctx context.Context) error {
		d, err := remote.Head(ref, append(c.remote(v1.Platform{}), remote.WithContext(ctx))...)
		if err == nil {
			h = d.Digest
		}
		return err
	})
	return h, err
}

// Untag removes a tag if it points to digest, and reports whether it did. The image stays, under its digest. A registry
// that removes no tags is an error that matches [ErrUnsupported].
func (c *Client) Untag(ctx context.Context, repo, tag string, digest resource.Digest) (bool, error) {
	ref, err := c.tagRef(repo, tag)
	if err != nil {
		return false, err
	}
	now, err := c.Tagged(ctx, repo, tag)
	if err != nil || now != digest {
		return false, err
	}
	err = c.retry(ctx, func(ctx context.Context) error {
		return remote.Delete(ref, append(c.remote(v1.Platform{}), remote.WithContext(ctx))...)
	})
	var answer *transport.Error
	if errors.As(err, &answer) && unsupported(answer) {
		return false, fmt.Errorf("remove %s%s: %w (it answers %d)", Scheme, ref, ErrUnsupported, answer.StatusCode)
	}
	switch err = fail("remove", ref, err); {
	case errors.Is(err, ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, nil
}

// unsupported recognises the answers of registries that remove no tags: some say 405, some 400 with a code, and some take the
// tag for a digest that is none.
func unsupported(e *transport.Error) bool {
	return e.StatusCode == http.StatusMethodNotAllowed || e.StatusCode == http.StatusNotImplemented ||
		e.StatusCode == http.StatusBadRequest && (hasCode(e, transport.UnsupportedErrorCode) || hasCode(e, transport.DigestInvalidErrorCode))
}

func (c *Client) tagRef(repo, tag string) (name.Tag, error) {
	r, err := c.parseRepo(repo)
	if err != nil {
		return name.Tag{}, err
	}
	ref, err := name.NewTag(r.Name()+":"+tag, c.nameOptions(r.Name())...)
	if err != nil {
		return ref, fmt.Errorf("tag %q: %w", tag, err)
	}
	return ref, nil
}
