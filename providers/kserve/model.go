package kserve

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/pod"
	"github.com/continuo-ml/continuo/resource"
)

// modelLabel on an image says which model lies in it, by the digest of its content.
const modelLabel = "continuo.dev/model"

// modelcar is the image that KServe mounts for a version: the model in /models, on a base with sh. The image that a training stores is
// nothing but the model, and KServe could not start it. It is made once for a model and a base.
func (d *deployment) modelcar(ctx context.Context, m config.Model, base string) (_ string, err error) {
	to, err := d.artifacts.Repo("modelcars/" + strings.ToLower(slugOf(m)))
	if err != nil {
		return "", err
	}
	below, err := d.artifacts.Client.Resolve(ctx, base)
	if err != nil {
		return "", fmt.Errorf("modelcar_base: %w", err)
	}
	tag := oci.ContentTag(resource.DigestOf([]byte("modelcar\n" + m.Digest + "\n" + string(below.Digest) + "\n")).Hex())
	img, err := d.artifacts.Client.Resolve(ctx, to+":"+tag)
	if err == nil || !errors.Is(err, oci.ErrNotFound) {
		return img.Ref, err
	}
	tmp, err := os.MkdirTemp("", "ml-modelcar-*")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	dir := filepath.Join(tmp, "model")
	if err := d.checkout(ctx, m, dir); err != nil {
		return "", err
	}
	if got, _, err := files.DigestDir(dir); err != nil {
		return "", err
	} else if got != resource.Digest(m.Digest).Hex() {
		return "", fmt.Errorf("model version %d: %s holds %s, not %s", m.Version, m.URI, got, resource.Digest(m.Digest).Short())
	}
	// The base by its digest: a tag may move until it is read again.
	img, err = d.artifacts.Client.Build(ctx, oci.BuildRequest{Base: below.Ref, Layers: []oci.Layer{{Dir: dir, Prefix: "/" + pod.ModelPrefix}}, Repo: to, Tags: []string{tag},
		Labels: map[string]string{modelLabel: m.Digest, pod.DigestLabel: m.Digest}})
	return img.Ref, err
}

// slugOf names a model in the artifact store.
func slugOf(m config.Model) string {
	if a, err := resource.ParseAddress(m.Address); err == nil {
		return a.Slug()
	}
	return m.Name
}

// checkout puts a model's files into dir, from wherever the training left them.
func (d *deployment) checkout(ctx context.Context, m config.Model, dir string) error {
	if strings.HasPrefix(m.URI, oci.Scheme) {
		return d.artifacts.Client.PullDir(ctx, m.URI, pod.ModelPrefix, dir)
	}
	hex := resource.Digest(m.Digest).Hex()
	// ARTIFACTS/manifests/HEX.json
	at := filepath.Dir(filepath.Dir(d.work.Abs(m.URI)))
	if m.URI == "" || filepath.Base(filepath.Dir(m.URI)) != "manifests" {
		return fmt.Errorf("model version %d lies at %q, which is neither a registry nor the project's artifact store", m.Version, m.URI)
	}
	store, err := files.OpenStore(at)
	if err != nil {
		return err
	}
	if err := store.Checkout(hex, dir); err != nil {
		return fmt.Errorf("model version %d: %w", m.Version, err)
	}
	return nil
}
