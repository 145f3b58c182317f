package pod

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
)

// DigestLabel of an image holds our own digest of its content.
const DigestLabel = "continuo.dev/digest"

// PushData stores a file or a folder as an input, unless the registry has it.
func PushData(ctx context.Context, c *oci.Client, repo, path string) (Artifact, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Artifact{}, fmt.Errorf("store %s: %w", path, err)
	}
	if info.IsDir() {
		return push(ctx, c, oci.PushRequest{Dir: path, Prefix: DataPrefix, Repo: repo})
	}
	name := filepath.Base(path)
	a, err := push(ctx, c, oci.PushRequest{Dir: filepath.Dir(path), Files: []string{name}, Prefix: DataPrefix, Repo: repo})
	a.File = name
	return a, err
}

// PushCode stores some files of a folder, given as slash paths in it, as the code of a command, unless the registry has them.
func PushCode(ctx context.Context, c *oci.Client, repo, dir string, some []string) (Artifact, error) {
	return push(ctx, c, oci.PushRequest{Dir: dir, Files: some, Prefix: CodePrefix, Repo: repo})
}

// PushModel stores the folder of a model, unless the registry has it.
func PushModel(ctx context.Context, c *oci.Client, at ModelPlace, dir string) (Model, error) {
	digest, m, err := files.DigestDir(dir)
	if err != nil {
		return Model{}, fmt.Errorf("store the model: %w", err)
	}
	img, err := c.PushDir(ctx, oci.PushRequest{
		Base: at.Base, Dir: dir, Prefix: ModelPrefix, Repo: at.Repo, Tag: oci.ContentTag(digest), Labels: map[string]string{DigestLabel: "sha256:" + digest},
	})
	if err != nil {
		return Model{}, fmt.Errorf("store the model: %w", err)
	}
	return Model{Digest: digest, Ref: img.Ref, Bytes: m.Bytes()}, nil
}

// push stores files under their content tag.
func push(ctx context.Context, c *oci.Client, req oci.PushRequest) (Artifact, error) {
	digest, _, err := files.DigestFiles(req.Dir, req.Files)
	if err != nil {
		return Artifact{}, err
	}
	req.Tag, req.Labels = oci.ContentTag(digest), map[string]string{DigestLabel: "sha256:" + digest}
	img, err := c.PushDir(ctx, req)
	if err != nil {
		return Artifact{}, err
	}
	return Artifact{Ref: img.Ref, Digest: "sha256:" + digest}, nil
}
