package pods

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/continuo-ml/continuo/internal/files"
	"github.com/continuo-ml/continuo/internal/oci"
	"github.com/continuo-ml/continuo/internal/pod"
)

// Store is the registry below which everything of a project lies that pods need or make.
type Store struct {
	URI    string // of the ml block
	Client *oci.Client
}

// base is the artifact store without its scheme.
func (s Store) base() (string, error) {
	base, ok := strings.CutPrefix(s.URI, oci.Scheme)
	if !ok || base == "" {
		return "", fmt.Errorf("artifacts %q: pods need a registry; set ml { artifacts = \"oci://HOST/NAME\" }", s.URI)
	}
	return strings.TrimSuffix(base, "/"), nil
}

// Repo is a repository below it.
func (s Store) Repo(name string) (string, error) {
	base, err := s.base()
	return base + "/" + name, err
}

// Runner finds the image that holds this program as /ml: one that is given, or one made of this executable and kept in the artifact store.
type Runner struct {
	Store
	Exe      []string // the command line that starts this program
	Given    string   // "" = this executable
	Provider string   // for messages

	mu  sync.Mutex
	ref string
}

// Image is the image's reference, by digest, without a scheme. It is found once in the life of this process.
func (r *Runner) Image(ctx context.Context) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ref != "" {
		return r.ref, nil
	}
	var img oci.Image
	var err error
	if r.Given != "" {
		img, err = r.Client.Resolve(ctx, r.Given)
	} else {
		img, err = r.build(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("runner image: %w", err)
	}
	r.ref = strings.TrimPrefix(img.Ref, oci.Scheme)
	return r.ref, nil
}

func (r *Runner) build(ctx context.Context) (_ oci.Image, err error) {
	repo, err := r.Repo("runner")
	if err != nil {
		return oci.Image{}, err
	}
	if len(r.Exe) == 0 {
		return oci.Image{}, fmt.Errorf("this program does not know its own file; set runner_image in provider %q", r.Provider)
	}
	platform, err := checkExecutable(r.Exe[0])
	if err != nil {
		return oci.Image{}, err
	}
	dir, err := os.MkdirTemp("", "ml-runner-*")
	if err != nil {
		return oci.Image{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := copyFile(r.Exe[0], filepath.Join(dir, pod.Program), 0o755); err != nil {
		return oci.Image{}, err
	}
	digest, _, err := files.DigestDir(dir)
	if err != nil {
		return oci.Image{}, err
	}
	tag := oci.ContentTag(digest)
	img, err := r.Client.Resolve(ctx, repo+":"+tag)
	if errors.Is(err, oci.ErrNotFound) {
		img, err = r.Client.Build(ctx, oci.BuildRequest{Platform: platform, Layers: []oci.Layer{{Dir: dir}}, Entrypoint: []string{"/" + pod.Program}, Repo: repo, Tags: []string{tag}})
	}
	return img, err
}

// checkExecutable looks whether a program can run in any Linux container: built for Linux, and in need of no library. It
// returns its platform.
func checkExecutable(path string) (platform string, err error) {
	const other = "set runner_image in the provider's block to an image of the same version that holds /ml"
	f, err := elf.Open(path)
	var format *elf.FormatError
	if errors.As(err, &format) {
		return "", fmt.Errorf("%s is no program for Linux, and pods run nothing else: %s", path, other)
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", fmt.Errorf("%s needs shared libraries, which a user's image may lack: build it with CGO_ENABLED=0, or %s", path, other)
		}
	}
	if f.Machine == elf.EM_X86_64 {
		return "linux/amd64", nil
	}
	if f.Machine == elf.EM_AARCH64 {
		return "linux/arm64", nil
	}
	return "", fmt.Errorf("%s is for %s: %s", path, f.Machine, other)
}

func copyFile(from, to string, mode os.FileMode) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
