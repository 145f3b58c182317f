//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/e2e/internal/binaries"
)

// The modules of the folder build. Their versions are in their go.mod files.
var (
	kubernetes = binaries.Module{
		Name: "kubernetes", Path: "k8s.io/kubernetes",
		Tools: []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"},
		// A node and an API server that call themselves v0.0.0 are refused by clients that look at versions.
		LDFlags: "-X k8s.io/component-base/version.gitVersion=v1.35.4 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=35",
	}
	coredns = binaries.Module{Name: "coredns", Path: "github.com/coredns/coredns", Tools: []string{"coredns"}}
	kserve  = binaries.Module{Name: "kserve", Path: "github.com/kserve/kserve", Tools: []string{"manager", "agent", "router"}}
	trainer = binaries.Module{Name: "trainer", Path: "github.com/kubeflow/trainer/v2", Tools: []string{"trainer-controller-manager"}}
	// Its dashboard is built by others than Go, and not published.
	traefik = binaries.Module{Name: "traefik", Path: "github.com/traefik/traefik/v3", Tools: []string{"traefik"}, Adds: map[string]string{"webui/static/index.html": "no dashboard\n"}}
	knative = binaries.Module{Name: "knative", Path: "knative.dev/serving", Tools: []string{"activator", "autoscaler", "controller", "queue", "webhook"}}
	katib   = binaries.Module{
		Name: "katib", Path: "github.com/kubeflow/katib", Tools: []string{"katib-controller", "katib-db-manager", "goptuna-suggestion", "file-metricscollector"},
		From: map[string]string{
			"katib-controller": "cmd/katib-controller/v1beta1", "katib-db-manager": "cmd/db-manager/v1beta1",
			"goptuna-suggestion": "cmd/suggestion/goptuna/v1beta1", "file-metricscollector": "cmd/metricscollector/v1beta1/file-metricscollector",
		},
	}
	jobset = binaries.Module{Name: "jobset", Path: "sigs.k8s.io/jobset", Tools: []string{"jobset"}}
)

func modules(base bool) []binaries.Module {
	if base {
		return []binaries.Module{kubernetes, coredns}
	}
	return []binaries.Module{kubernetes, coredns, kserve, trainer, jobset}
}

// need is a program that comes from a Debian package.
type need struct{ file, pkg string }

var needed = []need{
	{"etcd", "etcd-server"}, {"containerd", "containerd"}, {"ctr", "containerd"}, {"runc", "runc"},
	{"/usr/lib/cni/bridge", "containernetworking-plugins"}, {"nft", "nftables"}, {"ip", "iproute2"}, {"debootstrap", "debootstrap"},
}

// needs names everything that this machine lacks, one a line.
func (c *cluster) needs() error {
	return missing(os.Geteuid(), needed, func(file string) bool {
		_, err := exec.LookPath(file)
		return err == nil
	})
}

func missing(uid int, all []need, there func(file string) bool) error {
	var lines []error
	if uid != 0 {
		lines = append(lines, errors.New("not root: containers, a bridge and mounts need it (run as root, or set ML_E2E_KUBECONFIG to use another cluster)"))
	}
	var packages []string
	for _, n := range all {
		if !there(n.file) {
			lines = append(lines, fmt.Errorf("%s is missing: apt-get install -y %s", n.file, n.pkg))
			if !slices.Contains(packages, n.pkg) {
				packages = append(packages, n.pkg)
			}
		}
	}
	if len(packages) > 1 {
		lines = append(lines, fmt.Errorf("all at once: apt-get install -y --no-install-recommends %s", strings.Join(packages, " ")))
	}
	return errors.Join(lines...)
}

// build makes programs and images that are not in the cache, and finds those that are.
func (c *cluster) build(ctx context.Context, base bool) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.buildModules(gctx, modules(base)...) })
	g.Go(func() error { return c.makeLayers(gctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	c.say("programs and images are there")
	return nil
}

func (c *cluster) buildModules(ctx context.Context, all ...binaries.Module) error {
	for _, m := range all {
		if built, err := c.builder.Built(m); err != nil {
			return err
		} else if !built {
			c.say("building %s from %s, which takes minutes and is done once", strings.Join(m.Tools, ", "), m.Path)
		}
	}
	for _, m := range all {
		dir, err := c.builder.Build(ctx, m)
		if err != nil {
			return err
		}
		for _, t := range m.Tools {
			c.bin[t] = filepath.Join(dir, t)
		}
		if c.files[m.Name], err = c.builder.Files(ctx, m); err != nil {
			return err
		}
	}
	return nil
}
