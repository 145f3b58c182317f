package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/modelformat"
	"github.com/continuo-ml/continuo/internal/oci"
)

// Where things lie in an image.
const (
	appDir    = "/app"
	modelDir  = "/models"
	modelEnv  = "ML_MODEL_DIR"
	modelMode = "model"
)

// build assembles the image of a block and stores it.
func (p *pack) build(ctx context.Context, spec config.Package, o *op) (_ built, err error) {
	repo, err := p.repo(spec, o.req.Address)
	if err != nil {
		return built{}, err
	}
	req := oci.BuildRequest{
		Platform: cmp.Or(spec.Platform, p.platform), User: spec.User, Env: map[string]string{}, Labels: map[string]string{},
		Repo: repo, Tags: slices.Sorted(slices.Values(spec.Tags)),
	}
	d := detail{Platform: req.Platform}
	work, err := o.scratch()
	if err != nil {
		return built{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	model := ""
	if spec.Model != nil {
		found, dir, err := p.model(ctx, *spec.Model, spec.Trust, o)
		if err != nil {
			return built{}, err
		}
		model, d.Format, d.Why = dir, found.Format, found.Why
		for _, c := range found.Code {
			d.Code = append(d.Code, c.String())
		}
		req.Labels["continuo.dev/model"] = spec.Model.Digest
		if f := servable(found.Format); f != "" {
			req.Labels["continuo.dev/model-format"] = string(f)
		}
	}
	app := filepath.Join(work, "app")
	if spec.Mode != modelMode {
		if d.Files, err = p.stage(ctx, spec, o, app); err != nil {
			return built{}, err
		}
	}
	switch {
	case spec.Dockerfile != "":
		err = p.dockerfile(ctx, spec, o, &req, work, model)
	default:
		err = p.layers(ctx, spec, &req, &d, app, model)
	}
	if err != nil {
		return built{}, err
	}
	req.Labels["continuo.dev/address"] = o.req.Address.String()
	maps.Copy(req.Env, spec.Env)
	maps.Copy(req.Labels, spec.Labels)
	img, err := p.client.Build(ctx, req)
	if err != nil {
		return built{}, err
	}
	return built{Ref: ref{Image: img.Ref, Repo: repo, Digest: img.Digest, Tags: req.Tags}, Bytes: img.Bytes, Detail: d}, nil
}

// layers says what lies on top of the base. The base is looked up first and taken by its digest, so that all that is said of it is said of
// one image.
func (p *pack) layers(ctx context.Context, spec config.Package, req *oci.BuildRequest, d *detail, app, model string) error {
	if spec.Base != "" {
		base, digest, err := p.client.Pin(ctx, spec.Base)
		if err != nil {
			return fmt.Errorf("the base image: %w", err)
		}
		d.Base, req.Base = base, base
		req.Labels["org.opencontainers.image.base.name"] = spec.Base
		req.Labels["org.opencontainers.image.base.digest"] = string(digest)
	}
	if d.Files > 0 {
		req.Layers = append(req.Layers, oci.Layer{Dir: app, Prefix: appDir})
	}
	if model != "" {
		l := oci.Layer{Dir: model, Prefix: modelDir}
		if strings.HasPrefix(spec.Model.URI, oci.Scheme) {
			l.From = spec.Model.URI // its layer there has the same bytes
		}
		req.Layers = append(req.Layers, l)
	}
	if spec.Mode == modelMode {
		return nil
	}
	if len(req.Layers) == 0 && len(spec.Command) == 0 {
		return errors.New("it holds nothing: sources match no file")
	}
	if d.Files > 0 || len(spec.Command) > 0 {
		req.WorkDir = appDir
	}
	if len(spec.Command) > 0 {
		req.Entrypoint = spec.Command
	}
	if model != "" {
		req.Env[modelEnv] = modelDir
	}
	return nil
}

// scratch makes an empty folder for the time of an operation. It lies in the operation's own, so that what a killed one left is
// found by whoever goes on with it.
func (o *op) scratch() (string, error) {
	dir := filepath.Join(o.dir, "work")
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// notTrusted says why a model needs trust.
func notTrusted(m config.Model, found modelformat.Found) error {
	format := cmp.Or(string(found.Format), "of a format that is not known")
	return fmt.Errorf("version %d of %s is %s and runs code when it is loaded: %s; set trust = true if you trust whoever made it, or save it in a format that holds data only, such as ONNX or safetensors", m.Version, m.Address, format, found.Code[0])
}
