package oci

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/continuo-ml/continuo/resource"
)

// maxConfig bounds an image's configuration in bytes before it is fetched.
const maxConfig = 16 << 20

// Image is what a reference stands for.
type Image struct {
	// Ref names it for ever: oci://HOST/REPOSITORY@sha256:…
	Ref string
	// Digest is that of the manifest, of an index where the image is one for several platforms. The fields below are then
	// those of the image for [DefaultPlatform], or of the first if there is none.
	Digest          resource.Digest
	Labels          map[string]string
	Env             []string // NAME=VALUE
	Entrypoint, Cmd []string
	WorkDir, User   string
	Platform        string
	Bytes           int64 // of all layers, as they are stored
}

// Resolve says what ref stands for now. One that the registry does not know matches [ErrNotFound].
func (c *Client) Resolve(ctx context.Context, ref string) (Image, error) {
	r, err := c.parse(ref)
	if err != nil {
		return Image{}, err
	}
	platform, err := parsePlatform("")
	if err != nil {
		return Image{}, err
	}
	d, err := c.get(ctx, r, platform)
	if err != nil {
		return Image{}, fail("look up", r, err)
	}
	img, err := c.anyImage(ctx, d)
	if err != nil {
		return Image{}, fail("look up", r, err)
	}
	out, err := describe(r.Context(), d.Digest, img)
	if err != nil {
		return Image{}, fail("look up", r, err)
	}
	return out, nil
}

// image returns the image of d with its configuration fetched, and refuses one that would send us elsewhere. Of an index it is the
// one for the platform that d was asked for.
func (c *Client) image(ctx context.Context, d *remote.Descriptor) (v1.Image, error) {
	return c.fetched(ctx, d.Image)
}

// anyImage is image, or the first one of an index that has none for that platform.
func (c *Client) anyImage(ctx context.Context, d *remote.Descriptor) (v1.Image, error) {
	return c.fetched(ctx, func() (v1.Image, error) {
		img, err := d.Image()
		if err == nil || !d.MediaType.IsIndex() {
			return img, err
		}
		index, ierr := d.ImageIndex()
		if ierr != nil {
			return nil, err
		}
		m, ierr := index.IndexManifest()
		if ierr != nil {
			return nil, err
		}
		for _, child := range m.Manifests {
			if child.MediaType.IsImage() {
				return index.Image(child.Digest)
			}
		}
		return nil, err
	})
}

func (c *Client) fetched(ctx context.Context, image func() (v1.Image, error)) (img v1.Image, err error) {
	err = c.retry(ctx, func(context.Context) error {
		img, err = image()
		if err != nil {
			return err
		}
		m, err := img.Manifest()
		if err != nil {
			return err
		}
		if m.Config.Size > maxConfig {
			return fmt.Errorf("its configuration has %d bytes; %d are allowed", m.Config.Size, maxConfig)
		}
		for _, l := range m.Layers {
			if len(l.URLs) > 0 {
				return errors.New("a layer of it lies outside of the registry; push it with its layers")
			}
		}
		_, err = img.RawConfigFile()
		return err
	})
	return img, err
}

func describe(repo name.Repository, digest v1.Hash, img v1.Image) (Image, error) {
	conf, err := img.ConfigFile()
	if err != nil {
		return Image{}, err
	}
	m, err := img.Manifest()
	if err != nil {
		return Image{}, err
	}
	out := Image{
		Ref: byDigest(repo, digest), Digest: resource.Digest(digest.String()),
		Labels: conf.Config.Labels, Env: conf.Config.Env, Entrypoint: conf.Config.Entrypoint, Cmd: conf.Config.Cmd,
		WorkDir: conf.Config.WorkingDir, User: conf.Config.User, Platform: conf.OS + "/" + conf.Architecture,
	}
	for _, l := range m.Layers {
		out.Bytes += l.Size
	}
	return out, nil
}
