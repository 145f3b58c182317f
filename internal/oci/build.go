package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// uploads is how many layers are sent at a time.
const uploads = 3

// BuildRequest says what an image is made of.
type BuildRequest struct {
	// Base is the image below; "" means nothing at all. Platform picks from an index; "" means [DefaultPlatform].
	Base     string
	Platform string
	// Archive, instead of Base, is a file that holds the image below, as `docker save` writes it.
	Archive string
	Layers  []Layer
	// What is set here replaces what the base says. A new Entrypoint without a Cmd drops the base's Cmd, as Docker does.
	Entrypoint, Cmd []string
	WorkDir, User   string
	// Env and Labels are added to those of the base.
	Env, Labels map[string]string
	// Repo is where the image goes, and Tags which tags then point to it.
	Repo string
	Tags []string
}

// Build makes an image and stores it. The digest depends on nothing but the base's digest, the files' contents and modes, and the
// other fields but Repo and Tags. Tags move only once the image was read back by its digest.
func (c *Client) Build(ctx context.Context, req BuildRequest) (Image, error) {
	repo, err := c.parseRepo(req.Repo)
	if err != nil {
		return Image{}, fmt.Errorf("build an image: %w", err)
	}
	img, err := c.assemble(ctx, req)
	if err != nil {
		return Image{}, fmt.Errorf("build an image for %s%s: %w", Scheme, repo, err)
	}
	tags := make([]name.Tag, len(req.Tags))
	for i, t := range req.Tags {
		if tags[i], err = name.NewTag(repo.Name()+":"+t, c.nameOptions(repo.Name())...); err != nil {
			return Image{}, fmt.Errorf("build an image for %s%s: tag %q: %w", Scheme, repo, t, err)
		}
	}
	digest, err := c.push(ctx, repo, img)
	if err != nil {
		return Image{}, fail("push", repo, err)
	}
	for _, tag := range tags {
		if err := c.tag(ctx, tag, img, digest); err != nil {
			return Image{}, fail("push", tag, err)
		}
	}
	out, err := describe(repo, digest, img)
	if err != nil {
		return Image{}, fail("push", repo, err)
	}
	return out, nil
}

// assemble makes the image, in memory but for its layers.
func (c *Client) assemble(ctx context.Context, req BuildRequest) (v1.Image, error) {
	platform, err := parsePlatform(req.Platform)
	if err != nil {
		return nil, err
	}
	var img v1.Image
	var media types.MediaType
	if req.Archive != "" {
		img, media, err = archived(req.Archive)
	} else {
		img, media, err = c.base(ctx, req.Base, platform)
	}
	if err != nil {
		return nil, err
	}
	var adds []mutate.Addendum
	for _, l := range req.Layers {
		t, err := newTarLayer(ctx, l, media)
		if err != nil {
			return nil, fmt.Errorf("layer from %s: %w", l.Dir, err)
		}
		layer, err := c.mountable(t, l.From)
		if err != nil {
			return nil, fmt.Errorf("layer from %s: %w", l.Dir, err)
		}
		adds = append(adds, mutate.Addendum{Layer: layer, MediaType: media, History: v1.History{
			Created: v1.Time{Time: time.Unix(0, 0).UTC()}, CreatedBy: "continuo: files in /" + trimPrefix(l.Prefix),
		}})
	}
	if img, err = mutate.Append(img, adds...); err != nil {
		return nil, err
	}
	conf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if len(conf.RootFS.DiffIDs) > maxLayers {
		return nil, fmt.Errorf("it would have %d layers; %d are possible", len(conf.RootFS.DiffIDs), maxLayers)
	}
	if req.Base != "" || req.Archive != "" {
		if err := wantPlatform(conf, platform, cmp.Or(req.Base, "the image in "+req.Archive)); err != nil {
			return nil, err
		}
	} else {
		conf.OS, conf.Architecture, conf.Variant, conf.OSVersion = platform.OS, platform.Architecture, platform.Variant, platform.OSVersion
		conf.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	}
	configure(&conf.Config, req)
	return mutate.ConfigFile(img, conf)
}

// mountable is the layer with the place that the registry may take it from.
func (c *Client) mountable(l v1.Layer, from string) (v1.Layer, error) {
	if from == "" {
		return l, nil
	}
	ref, err := c.parse(from)
	if err != nil {
		return nil, err
	}
	return &remote.MountableLayer{Layer: l, Reference: ref}, nil
}

// base returns the image below and the media type of what goes on top.
func (c *Client) base(ctx context.Context, ref string, platform v1.Platform) (v1.Image, types.MediaType, error) {
	if ref == "" {
		img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
		return mutate.ConfigMediaType(img, types.OCIConfigJSON), types.OCIUncompressedLayer, nil
	}
	r, err := c.parse(ref)
	if err != nil {
		return nil, "", err
	}
	d, err := c.get(ctx, r, platform)
	if err != nil {
		return nil, "", fail("look up the base image", r, err)
	}
	img, err := c.image(ctx, d)
	if err != nil {
		return nil, "", fail("look up the base image", r, err)
	}
	media, err := img.MediaType()
	if err != nil {
		return nil, "", err
	}
	if media == types.DockerManifestSchema2 {
		return img, types.DockerUncompressedLayer, nil
	}
	return img, types.OCIUncompressedLayer, nil
}

func configure(conf *v1.Config, req BuildRequest) {
	if req.Entrypoint != nil {
		conf.Entrypoint, conf.Cmd = req.Entrypoint, nil
	}
	if req.Cmd != nil {
		conf.Cmd = req.Cmd
	}
	if req.WorkDir != "" {
		conf.WorkingDir = req.WorkDir
	}
	if req.User != "" {
		conf.User = req.User
	}
	for _, k := range slices.Sorted(maps.Keys(req.Env)) {
		conf.Env = slices.DeleteFunc(slices.Clone(conf.Env), func(kv string) bool { return strings.HasPrefix(kv, k+"=") })
		conf.Env = append(conf.Env, k+"="+req.Env[k])
	}
	if len(req.Labels) > 0 {
		labels := maps.Clone(conf.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, req.Labels)
		conf.Labels = labels
	}
}

// push stores an image under its digest alone, and reads it back.
func (c *Client) push(ctx context.Context, repo name.Repository, img v1.Image) (v1.Hash, error) {
	digest, err := img.Digest()
	if err != nil {
		return digest, err
	}
	layers, err := img.Layers()
	if err != nil {
		return digest, err
	}
	conf, err := partial.ConfigLayer(img)
	if err != nil {
		return digest, err
	}
	// A pusher remembers what it sent; one that lived longer would skip a blob that the registry has thrown away since.
	var pusher *remote.Pusher
	if pusher, err = remote.NewPusher(c.remote(v1.Platform{})...); err != nil {
		return digest, err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(uploads)
	for _, l := range append(layers, conf) {
		group.Go(func() error {
			return c.retry(gctx, func(ctx context.Context) error { return pusher.Upload(ctx, repo, l) })
		})
	}
	if err := group.Wait(); err != nil {
		return digest, err
	}
	return digest, c.tag(ctx, repo.Digest(digest.String()), img, digest)
}

// tag makes ref, a tag or a digest, stand for img, and reads it back.
func (c *Client) tag(ctx context.Context, ref name.Reference, img remote.Taggable, want v1.Hash) error {
	err := c.retry(ctx, func(ctx context.Context) error {
		return remote.Put(ref, img, append(c.remote(v1.Platform{}), remote.WithContext(ctx))...)
	})
	if err != nil {
		return err
	}
	got, err := c.get(ctx, ref, v1.Platform{})
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if got.Digest != want {
		return fmt.Errorf("read back: it is %s, and %s was pushed; somebody else pushes there too, or the registry rewrites images", got.Digest, want)
	}
	return nil
}

// PushRequest says which files of a folder become an image of one layer.
type PushRequest struct {
	Base   string // image below; "" means none
	Dir    string
	Files  []string // slash paths in Dir; nil for all that is there
	Prefix string   // folder in the image
	Repo   string
	// Tag points to the image then. One that [ContentTag] made and that is there already stands for these very files, and nothing is pushed.
	Tag    string
	Labels map[string]string
}

// PushDir stores the files of a folder.
func (c *Client) PushDir(ctx context.Context, req PushRequest) (Image, error) {
	var tags []string
	if req.Tag != "" {
		tags = []string{req.Tag}
	}
	if isContentTag(req.Tag) {
		img, err := c.Resolve(ctx, req.Repo+":"+req.Tag)
		if !errors.Is(err, ErrNotFound) {
			return img, err
		}
	}
	return c.Build(ctx, BuildRequest{
		Base: req.Base, Layers: []Layer{{Dir: req.Dir, Files: req.Files, Prefix: req.Prefix}},
		Labels: req.Labels, Repo: req.Repo, Tags: tags,
	})
}

// Tag makes tag, in the repository of ref, stand for the image that ref names by its digest, and reads it back.
func (c *Client) Tag(ctx context.Context, ref, tag string) error {
	from, err := c.parse(ref)
	if err != nil {
		return err
	}
	to, err := name.NewTag(from.Context().Name()+":"+tag, c.nameOptions(from.Context().Name())...)
	if err != nil {
		return fmt.Errorf("tag %s: %w", ref, err)
	}
	d, err := c.get(ctx, from, v1.Platform{})
	if err != nil {
		return fail("tag", from, err)
	}
	return fail("tag", to, c.tag(ctx, to, d, d.Digest))
}
