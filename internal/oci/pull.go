package oci

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// maxWindow bounds the memory in bytes that a zstd stream may ask for.
const maxWindow = 128 << 20

// PullDir puts what lies below prefix in the image ref into dir, which must not exist or be empty, and appears whole or
// not at all. All layers count, with their removals. Files get the mode 0644, or 0755 if they could be executed, and belong to whoever
// calls. Whatever could lead or reach out of dir is an error that matches [ErrHostile], also a hard link. dir is not synced to the disk.
func (c *Client) PullDir(ctx context.Context, ref, prefix, dir string) (err error) {
	r, err := c.parse(ref)
	if err != nil {
		return err
	}
	if err := vacant(dir); err != nil {
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	platform, err := parsePlatform("")
	if err != nil {
		return err
	}
	d, err := c.get(ctx, r, platform)
	if err != nil {
		return fail("pull", r, err)
	}
	img, err := c.anyImage(ctx, d)
	if err != nil {
		return fail("pull", r, err)
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	stage, err := os.MkdirTemp(parent, ".pull-*")
	if err != nil {
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stage)) }()
	fresh := filepath.Join(stage, "new")
	err = c.retry(ctx, func(ctx context.Context) error {
		if err := os.RemoveAll(fresh); err != nil {
			return err
		}
		return c.unpack(ctx, d, img, trimPrefix(prefix), fresh)
	})
	if err != nil {
		return fail("pull", r, err)
	}
	// Remove takes an empty folder and nothing else.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	if err := os.Rename(fresh, dir); err != nil {
		return fmt.Errorf("pull %s: %w", ref, err)
	}
	return nil
}

// vacant returns an error if there is something at dir.
func vacant(dir string) error {
	list, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(list) > 0:
		return fmt.Errorf("%s is not empty (%s); name a new folder", dir, list[0].Name())
	}
	return nil
}

// unpack puts the image's files into the new folder dir.
func (c *Client) unpack(ctx context.Context, d *remote.Descriptor, img v1.Image, prefix, dir string) (err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	if len(layers) > maxLayers {
		return hostile("it has %d layers; %d are possible", len(layers), maxLayers)
	}
	x := newExtractor(root, prefix, c.opt)
	for _, l := range layers {
		if err := x.layer(ctx, l); err != nil {
			return err
		}
	}
	if err := x.checkLinks(); err != nil {
		return err
	}
	if x.files == 0 {
		return fmt.Errorf("it (%s) holds no file below /%s", d.Digest, prefix)
	}
	return nil
}

// layer unpacks one layer on top of what is there.
func (x *extractor) layer(ctx context.Context, l v1.Layer) (err error) {
	size, err := l.Size()
	if err != nil {
		return err
	}
	raw, err := l.Compressed()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, raw.Close()) }()
	src := bufio.NewReaderSize(contextReader{ctx, raw}, 1<<20)
	plain, end, err := decompress(src)
	if err != nil {
		return err
	}
	defer end()
	limit := max(x.opt.Small, size*x.opt.MaxRatio)
	bounded := &boundedReader{r: plain, left: limit, err: hostile("a layer of %d bytes unpacks to more than %d: a bomb", size, limit)}
	if err := x.archive(bounded); err != nil {
		return err
	}
	// The digest is known to be right only at the end of the blob, and an archive may end before.
	if _, err := io.Copy(io.Discard, bounded); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, src)
	return err
}

// decompress looks at the first bytes: the media types of layers that others pushed are often wrong.
func decompress(src *bufio.Reader) (r io.Reader, end func(), err error) {
	magic, err := src.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, nil, fmt.Errorf("unpack a layer: %w", err)
		}
		return z, func() {}, nil
	case len(magic) == 4 && string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, nil, fmt.Errorf("unpack a layer: %w", err)
		}
		return z, z.Close, nil
	}
	return src, func() {}, nil
}

// boundedReader errs with err after left bytes.
type boundedReader struct {
	r    io.Reader
	left int64
	err  error
}

// Read implements io.Reader.
func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, b.err
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}
