package oci

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/resource"
)

// stage copies the files of a block, as the plan read them, into dir, and returns their number. An image must not hold other
// bytes than its plan says, also when somebody saves a file meanwhile.
func (p *pack) stage(ctx context.Context, spec config.Package, o *op, dir string) (n int, err error) {
	list, have, err := p.w.DigestedCode(spec.Command, sourcesOf(spec.Sources, spec.Dockerfile))
	if err != nil {
		return 0, fmt.Errorf("sources: %w", err)
	}
	if want := resource.Digest(o.req.Probed["code"]); want != "" && want != have {
		return 0, fmt.Errorf("the source moved since the plan: its code was %s and is %s now; plan again", want.Short(), have.Short())
	}
	root, err := os.OpenRoot(p.w.Root)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, f := range list {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := copyFile(root, f, filepath.Join(dir, filepath.FromSlash(f.Path))); err != nil {
			return 0, fmt.Errorf("copy %s: %w", f.Path, err)
		}
	}
	return len(list), nil
}

// copyFile copies one file, and whether it can be executed, if its content is still what was digested.
func copyFile(root *os.Root, f files.FileDigest, to string) (err error) {
	in, err := root.Open(filepath.FromSlash(f.Path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), io.LimitReader(in, f.Size+1))
	if err = errors.Join(err, out.Close(), os.Chmod(to, mode)); err != nil { // whatever the umask is
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != f.Hex {
		return errors.New("it changes while it is read; wait until its writer is done, and plan again")
	}
	return nil
}
