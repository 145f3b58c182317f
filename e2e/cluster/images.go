//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/host"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/image"
)

// The layers of Python images, one on top of the other.
var pythonSteps = []image.Step{{Name: "python-sklearn", Packages: []string{"python3-sklearn"}}, {Name: "python-torch", Packages: []string{"python3-torch"}}}

// debian is what images are made of. ML_E2E_MIRROR names another archive.
func debian() image.Debian {
	mirror := os.Getenv("ML_E2E_MIRROR")
	if mirror == "" {
		mirror = "http://deb.debian.org/debian"
	}
	return image.Debian{Suite: "bookworm", Mirror: mirror}
}

// makeLayers fills the store with the layers that take long.
func (c *cluster) makeLayers(ctx context.Context) error {
	log, err := c.openLog("images")
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // only a log
	if _, err := c.store.Busybox(ctx, log); err != nil {
		return fmt.Errorf("%w (log: %s)", err, log.Name())
	}
	if _, err := debian().Layers(ctx, c.store, log, pythonSteps...); err != nil {
		return fmt.Errorf("%w (log: %s)", err, log.Name())
	}
	return nil
}

func (c *cluster) openLog(name string) (*os.File, error) {
	if err := os.MkdirAll(c.dir.Path("logs"), 0o755); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return os.OpenFile(c.dir.Log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

func (c *cluster) startRegistries(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, comp := range c.registries() {
		g.Go(func() error { return c.dir.Start(gctx, comp) })
	}
	return g.Wait()
}

// registries are two: one for everybody, which has the images of the cluster, and one that wants a user and password.
func (c *cluster) registries() []host.Component {
	self := c.dir.Path("bin", "cluster")
	open, auth := "127.0.0.1:5050", "127.0.0.1:5051"
	return []host.Component{
		{
			Name:     "registry",
			Args:     []string{self, "registry", "-listen", registryHost + "," + open, "-dir", c.dir.Path("registry"), "-also", c.store.Blobs()},
			Ready:    c.ready()["registry"],
			Deadline: 20 * time.Second,
		},
		{
			Name:     "registry-auth",
			Args:     []string{self, "registry", "-listen", authRegistry + "," + auth, "-dir", c.dir.Path("registry-auth"), "-user", authUser},
			Env:      []string{"ML_E2E_AUTH_PASSWORD=" + c.read("pki", "registry-password")},
			Ready:    c.ready()["registry-auth"],
			Deadline: 20 * time.Second,
		},
	}
}

// pushImages pushes what pods of the cluster need.
func (c *cluster) pushImages(ctx context.Context, base bool) error {
	images, err := c.images(ctx, base)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, i := range images {
		g.Go(func() error {
			_, err := i.Push(gctx, registryHost)
			return err
		})
	}
	return g.Wait()
}

func (c *cluster) images(ctx context.Context, base bool) ([]image.Image, error) {
	log, err := c.openLog("images")
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // only a log
	box, err := c.store.Busybox(ctx, log)
	if err != nil {
		return nil, err
	}
	python, err := debian().Layers(ctx, c.store, log, pythonSteps...)
	if err != nil {
		return nil, err
	}
	pause, err := c.store.Program(c.dir.Path("bin", "pause"), "pause")
	if err != nil {
		return nil, err
	}
	model, err := c.store.Text("models/model.json", `{"model": "check"}`+"\n")
	if err != nil {
		return nil, err
	}
	env := []string{"PYTHONUNBUFFERED=1", "LANG=C.UTF-8"}
	all := []image.Image{
		{Name: "pause:1", Layers: []*image.Layer{pause}, Entrypoint: []string{"/pause"}},
		{Name: "busybox:1", Layers: []*image.Layer{box}, Cmd: []string{"sh"}},
		{Name: "check-model:1", Layers: []*image.Layer{box, model}}, // for the check of KServe
		{Name: "python-sklearn:12", Layers: python[:1], Cmd: []string{"python3"}, Env: env},
		{Name: "python-torch:12", Layers: python, Cmd: []string{"python3"}, Env: env},
	}
	if base {
		return all, nil
	}
	for _, name := range []string{"agent", "router"} {
		l, err := c.store.Program(c.bin[name], "ko-app/"+name)
		if err != nil {
			return nil, err
		}
		all = append(all, image.Image{Name: "kserve-" + name + ":1", Layers: []*image.Layer{l}, Entrypoint: []string{"/ko-app/" + name}, User: nobody})
	}
	return all, nil
}

// nobody is the user of KServe's own images: the pods of an InferenceGraph refuse one that would run as root.
const nobody = "65532"

// copySelf puts this program and the pods' first process where the run keeps them: what "go run" built is gone when it ends.
func (c *cluster) copySelf() error {
	if err := c.copyAs("cluster"); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", c.dir.Path("bin", "pause"), "./pause")
	cmd.Dir, cmd.Env = filepath.Dir(c.builder.Source), append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build pause: %w: %s", err, out)
	}
	return nil
}

// copyAs puts this program under a name where the run keeps programs.
func (c *cluster) copyAs(name string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		return fmt.Errorf("copy this program: %w", err)
	}
	if err := os.WriteFile(c.dir.Path("bin", name), text, 0o755); err != nil {
		return fmt.Errorf("copy this program: %w", err)
	}
	return nil
}
