package pod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
)

// fetches is how many artifacts are fetched at a time.
const fetches = 3

// errContent is what files match that are not what their digest says.
var errContent = errors.New("has other content")

// bring puts an artifact into dir, unless it is there already and whole.
func bring(ctx context.Context, c *oci.Client, what string, a Artifact, prefix, dir string, readOnly bool) error {
	wrap := func(err error) error { return fmt.Errorf("fetch %s: %w", what, err) }
	if a.Prefix != "" {
		prefix = a.Prefix
	}
	if _, err := os.Lstat(dir); err == nil {
		// From a container of this pod that ended before.
		if a.Digest != "" && verify(a, dir) == nil {
			return nil
		}
		if err := os.RemoveAll(dir); err != nil {
			return wrap(err)
		}
	}
	if err := c.PullDir(ctx, a.Ref, prefix, dir); err != nil {
		return wrap(err)
	}
	if err := verify(a, dir); err != nil {
		return wrap(errors.Join(err, os.RemoveAll(dir)))
	}
	if !readOnly {
		return nil
	}
	if err := protect(dir); err != nil {
		return wrap(err)
	}
	return nil
}

// verify returns an error unless dir holds what the artifact is to be.
func verify(a Artifact, dir string) error {
	if a.File != "" {
		if info, err := os.Lstat(filepath.Join(dir, a.File)); err != nil || !info.Mode().IsRegular() {
			return errors.Join(fmt.Errorf("%s holds no file %s", a.Ref, a.File), err)
		}
	}
	if a.Digest == "" {
		return nil // the reference itself is a digest
	}
	got, m, err := files.DigestDir(dir)
	if err != nil {
		return err
	}
	want := strings.TrimPrefix(a.Digest, "sha256:")
	// The digest of a dataset's source covers no modes, and of a single file not even the name.
	source, err := m.SourceDigest(a.File == "")
	if err != nil && got != want {
		return err
	}
	if got != want && source != want {
		return fmt.Errorf("%s %w: it is %s, and %s was wanted; somebody stored something else under its name; remove the tag of its digest from the registry, and apply again", a.Ref, errContent, got, want)
	}
	return nil
}

// protect makes files read-only.
func protect(dir string) error {
	return filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return os.Chmod(p, info.Mode().Perm()&0o555|0o444)
	})
}

// FetchTask is what a server needs before it starts.
type FetchTask struct {
	V        int       `json:"v"` // TaskVersion
	Dir      string    `json:"dir"`
	Code     *Artifact `json:"code,omitempty"`  // into Dir/code
	Model    *Artifact `json:"model,omitempty"` // into Dir/model, read-only
	Insecure []string  `json:"insecure,omitempty"`
}

// ParseFetch reads a FetchTask from the environment.
func ParseFetch(getenv func(string) string) (FetchTask, error) {
	var t FetchTask
	if getenv(FetchVar) == "" {
		return t, fmt.Errorf("read what to fetch: %s is not set; this command is for pods that ml makes", FetchVar)
	}
	if err := decode([]byte(getenv(FetchVar)), &t); err != nil {
		return t, fmt.Errorf("read what to fetch: %w", err)
	}
	if t.Dir == "" {
		return t, errors.New("read what to fetch: dir: names no folder")
	}
	for what, a := range map[string]*Artifact{"code": t.Code, "model": t.Model} {
		if a != nil {
			if err := a.check(what); err != nil {
				return t, fmt.Errorf("read what to fetch: %w", err)
			}
		}
	}
	return t, nil
}

// Fetch brings code and model. It may be called again for the same folder.
func Fetch(ctx context.Context, c *oci.Client, t FetchTask) error {
	group, ctx := errgroup.WithContext(ctx)
	if t.Code != nil {
		group.Go(func() error {
			return bring(ctx, c, "the code", *t.Code, CodePrefix, filepath.Join(t.Dir, "code"), false)
		})
	}
	if t.Model != nil {
		group.Go(func() error {
			return bring(ctx, c, "the model", *t.Model, ModelPrefix, filepath.Join(t.Dir, "model"), true)
		})
	}
	return group.Wait()
}
