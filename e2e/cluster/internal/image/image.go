//go:build linux

package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is what is pushed under one name.
type Image struct {
	Name       string // REPOSITORY:TAG
	Layers     []*Layer
	Entrypoint []string
	Cmd        []string
	Env        []string
	User       string // "" = root
}

// Push writes the image to the registry at HOST:PORT and returns its digest. Blobs that are there are not sent.
func (i Image) Push(ctx context.Context, host string) (v1.Hash, error) {
	img, err := i.build()
	if err != nil {
		return v1.Hash{}, fmt.Errorf("make image %s: %w", i.Name, err)
	}
	ref, err := name.ParseReference(host+"/"+i.Name, name.Insecure)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("push image: %w", err)
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx), remote.WithAuth(authn.Anonymous)); err != nil {
		return v1.Hash{}, fmt.Errorf("push image %s: %w", ref, err)
	}
	return img.Digest()
}

func (i Image) build() (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range i.Layers {
		var err error
		if img, err = mutate.Append(img, mutate.Addendum{Layer: l, MediaType: types.OCILayerZStd, History: v1.History{Created: v1.Time{Time: Epoch}}}); err != nil {
			return nil, err
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", "amd64", v1.Time{Time: Epoch}
	file.Config.Entrypoint, file.Config.Cmd, file.Config.User = i.Entrypoint, i.Cmd, i.User
	file.Config.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, i.Env...)
	return mutate.ConfigFile(img, file)
}

// Program returns a layer with one static program at path, without a leading slash, keyed by the program's bytes.
func (s Store) Program(program, path string) (*Layer, error) {
	text, err := os.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("make layer: %w", err)
	}
	sum := sha256.Sum256(append([]byte(path+"\x00"), text...))
	key := filepath.Base(program) + "-" + hex.EncodeToString(sum[:8])
	if l := s.Find(key); l != nil {
		return l, nil
	}
	return s.Put(key, func(tw *tar.Writer) error { return addFile(tw, path, text, 0o755) })
}

// Text returns a layer with one file of text at path, without a leading slash.
func (s Store) Text(path, text string) (*Layer, error) {
	sum := sha256.Sum256([]byte(path + "\x00" + text))
	key := "text-" + hex.EncodeToString(sum[:8])
	if l := s.Find(key); l != nil {
		return l, nil
	}
	return s.Put(key, func(tw *tar.Writer) error { return addFile(tw, path, []byte(text), 0o644) })
}

// applets are the names under which the busybox image offers itself: what a shell script in a pod may expect.
var applets = []string{
	"sh", "cat", "cp", "mv", "rm", "ln", "ls", "mkdir", "echo", "env", "sleep", "test", "true", "false", "wget", "nc", "httpd", "nslookup", "tar",
	"head", "tail", "grep", "sed", "awk", "id", "date", "ps", "kill", "find", "sync", "touch", "chmod", "dd", "stat", "wc", "seq", "printf", "readlink",
}

// Busybox returns a layer with Debian's static busybox as /bin/busybox and its applets beside it. It cannot look up names of hosts: a
// static program of Debian needs the C library's files for that.
func (s Store) Busybox(ctx context.Context, log io.Writer) (*Layer, error) {
	const key = "busybox-static-2"
	if l := s.Find(key); l != nil {
		return l, nil
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make busybox layer: %w", err)
	}
	dir, err := os.MkdirTemp(s.Dir, "busybox-")
	if err != nil {
		return nil, fmt.Errorf("make busybox layer: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a leftover folder is in the way of nothing
	get := exec.CommandContext(ctx, "sh", "-c", "apt-get download busybox-static && dpkg-deb -x busybox-static_*.deb .")
	get.Dir = dir
	var last lastLine
	get.Stdout, get.Stderr = log, io.MultiWriter(log, &last)
	if err := get.Run(); err != nil {
		return nil, fmt.Errorf("make busybox layer: apt-get download busybox-static: %w: %s", err, last.text)
	}
	return s.Put(key, func(tw *tar.Writer) error {
		box, err := os.ReadFile(filepath.Join(dir, "bin/busybox"))
		if err != nil {
			return err
		}
		if err := addFile(tw, "bin/busybox", box, 0o755); err != nil {
			return err
		}
		for _, a := range applets {
			h := &tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + a, Linkname: "busybox", Mode: 0o777, ModTime: Epoch}
			if err := tw.WriteHeader(h); err != nil {
				return err
			}
		}
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777, ModTime: Epoch})
	})
}
