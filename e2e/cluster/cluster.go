//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/api"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/host"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/image"
	"github.com/continuo-ml/continuo/e2e/internal/binaries"
)

// The addresses of the cluster; see the comment of this package.
const (
	nodeIP       = "10.88.0.1"
	podRange     = "10.88.0.0/16"
	serviceRange = "10.96.0.0/16"
	apiServer    = "https://" + nodeIP + ":6443"
	registryHost = nodeIP + ":5050"
	authRegistry = nodeIP + ":5051"
	authUser     = "continuo"
	nodeName     = "node1"
)

// cluster is one cluster on this machine: where it is, and what it runs.
type cluster struct {
	dir     host.Dir
	group   string // control group of all pods
	out     io.Writer
	builder binaries.Builder
	store   image.Store
	began   time.Time

	bin   map[string]string // program → its file
	files map[string]string // module → folder of its source
}

func newCluster(out io.Writer) (*cluster, error) {
	source, err := findSource()
	if err != nil {
		return nil, err
	}
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("find the cache folder: %w: set XDG_CACHE_HOME", err)
		}
		base = filepath.Join(home, ".cache")
	}
	cache := filepath.Join(base, "continuo-e2e")
	dir, group := filepath.Join(cache, "run"), "continuo-e2e"
	if given := os.Getenv("ML_E2E_DIR"); given != "" && given != dir {
		if dir, err = filepath.Abs(given); err != nil {
			return nil, fmt.Errorf("find the folder of the run: %w", err)
		}
		// Control groups are the one thing that a container of this machine shares with it.
		sum := sha256.Sum256([]byte(dir))
		group += "-" + hex.EncodeToString(sum[:3])
	}
	return &cluster{
		dir:     host.Dir(dir),
		group:   group,
		out:     out,
		builder: binaries.Builder{Source: filepath.Join(source, "e2e", "cluster", "build"), Cache: cache, Log: io.Discard},
		store:   image.Store{Dir: filepath.Join(cache, "images")},
		began:   time.Now(),
		bin:     map[string]string{},
		files:   map[string]string{},
	}, nil
}

// findSource returns the root of the repository that the working folder lies in.
func findSource() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "e2e", "cluster", "build")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("find the repository: %s is not inside it", dir)
		}
	}
}

func (c *cluster) machine() host.Machine {
	return host.Machine{
		Dir:     c.dir,
		Bridge:  "continuo0",
		Address: nodeIP + "/16",
		Service: serviceRange,
		Table:   "continuo-e2e",
		Private: []int{kservePort, jobsetPort, trainerPort},
		Tables:  []string{"ip kube-proxy", "ip6 kube-proxy"},
		Group:   c.group,
		Sysctls: []string{
			"net/ipv4/ip_forward", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
			"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "net/ipv4/conf/all/route_localnet",
		},
		Shared: []string{"/var/log/containers", "/run/containerd", "/var/lib/cni", "/opt/containerd", "/var/lib/kubelet"},
	}
}

// say prints one line with the seconds since the start.
func (c *cluster) say(format string, args ...any) {
	fmt.Fprintf(c.out, "%5.1fs  %s\n", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

// up builds, starts and checks.
func (c *cluster) up(ctx context.Context, base bool) error {
	if given := os.Getenv("ML_E2E_KUBECONFIG"); given != "" && given != c.kubeconfig("admin") {
		c.say("ML_E2E_KUBECONFIG is set: nothing is started, that cluster is checked")
		return c.quick(ctx, false)
	}
	if err := c.needs(); err != nil {
		return err
	}
	if whole, err := c.whole(ctx, base); err != nil {
		return err
	} else if whole {
		c.say("it runs already")
		return c.printEnv()
	}
	start := c.start
	if onlyBase, err := c.onlyBase(ctx); err != nil {
		return err
	} else if onlyBase && !base {
		c.say("Kubernetes runs already: what stands on it is added")
		start = func(ctx context.Context, _ bool) error { return c.extend(ctx) }
	} else if err := c.down(ctx); err != nil {
		return err
	}
	if err := c.build(ctx, base); err != nil {
		return err
	}
	if err := start(ctx, base); err != nil {
		return fmt.Errorf("%w\n(what was started is left to be looked at; make cluster-down takes it away)", err)
	}
	if err := c.quick(ctx, base); err != nil {
		return err
	}
	return c.printEnv()
}

// extras are the components that stand on Kubernetes.
var extras = []string{"trainer", "jobset", "kserve"}

// whole reports whether every component runs and the quick checks hold.
func (c *cluster) whole(ctx context.Context, base bool) (bool, error) {
	running, err := c.dir.Running()
	if err != nil || len(running) == 0 {
		return false, err
	}
	for _, names := range order {
		for _, name := range names {
			if name == "traefik" && !c.dir.Known(name) {
				continue // it was never asked for
			}
			if !slices.Contains(running, name) && !(base && slices.Contains(extras, name)) {
				c.say("%s does not run", name)
				return false, nil
			}
		}
	}
	if err := c.quick(ctx, base); err != nil {
		c.say("%v", err)
		return false, nil
	}
	return true, nil
}

// onlyBase reports whether Kubernetes runs, and nothing was ever started on it.
func (c *cluster) onlyBase(ctx context.Context) (bool, error) {
	for _, name := range extras {
		if c.dir.Known(name) {
			return false, nil
		}
	}
	return c.whole(ctx, true)
}

func (c *cluster) start(ctx context.Context, base bool) error {
	if err := c.prepare(); err != nil {
		return err
	}
	if err := c.machine().Set(ctx); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := c.startRegistries(gctx); err != nil {
			return err
		}
		return c.pushImages(gctx, base)
	})
	g.Go(func() error { return c.dir.Start(gctx, c.containerd()) })
	g.Go(func() error { return c.startControlPlane(gctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	c.say("control plane, containerd and registry run")
	g, gctx = errgroup.WithContext(ctx)
	for _, comp := range []host.Component{c.kubelet(), c.kubeProxy(), c.coreDNS()} {
		g.Go(func() error { return c.dir.Start(gctx, comp) })
	}
	if !base {
		g.Go(func() error { return c.startExtras(gctx) })
	}
	return g.Wait()
}

func (c *cluster) startExtras(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.startKServe(gctx) })
	g.Go(func() error { return c.startTraining(gctx) })
	return g.Wait()
}

// extend adds what stands on Kubernetes to a cluster that runs.
func (c *cluster) extend(ctx context.Context) error {
	if err := c.pushImages(ctx, false); err != nil {
		return err
	}
	return c.startExtras(ctx)
}

// order is the order in which components stop, those of one line together: whoever would start something again goes first.
var order = [][]string{
	{"traefik", "trainer", "jobset", "kserve", "kube-scheduler", "kube-controller-manager", "kubelet", "kube-proxy", "coredns"},
	{"kube-apiserver", "registry", "registry-auth"},
	{"etcd", "containerd"},
}

// down stops what up started. A second call finds nothing and is harmless.
func (c *cluster) down(ctx context.Context) error {
	if left, err := c.left(); err != nil || len(left) == 0 {
		return err
	}
	for _, names := range order {
		var g errgroup.Group // one that does not stop in time must not keep the others alive
		for _, name := range names {
			g.Go(func() error { return c.dir.Stop(ctx, name) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	c.say("components have stopped")
	if err := c.machine().Unset(ctx); err != nil {
		return err
	}
	c.say("the machine is as it was")
	left, err := c.left()
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := os.RemoveAll(c.dir.Path(name)); err != nil {
			return fmt.Errorf("empty the folder of the run: %w", err)
		}
	}
	return nil
}

// left returns what lies in the folder of the run, without the logs: they stay until the next start, for they are what one looks for after
// a failure.
func (c *cluster) left() ([]string, error) {
	entries, err := os.ReadDir(string(c.dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the folder of the run: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "logs" {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// restart starts a component again as it was started, and returns when it is ready.
func (c *cluster) restart(ctx context.Context, name string) error {
	ready, ok := c.ready()[name]
	if !ok {
		return fmt.Errorf("restart %s: no such component", name)
	}
	return c.dir.Restart(ctx, name, ready)
}

func (c *cluster) admin() (*api.Client, error) {
	file := c.kubeconfig("admin")
	if given := os.Getenv("ML_E2E_KUBECONFIG"); given != "" {
		file = given
	}
	return api.Load(file)
}

// printEnv prints what tests need to know, as NAME=VALUE.
func (c *cluster) printEnv() error {
	password, err := os.ReadFile(c.dir.Path("pki", "registry-password"))
	if err != nil {
		return fmt.Errorf("the cluster does not run: %w: make cluster starts it", err)
	}
	lines := []string{
		"ML_E2E_KUBECONFIG=" + c.kubeconfig("admin"),
		"ML_E2E_REGISTRY=" + registryHost,
		"ML_E2E_AUTH_REGISTRY=" + authRegistry,
		"ML_E2E_AUTH_USER=" + authUser,
		"ML_E2E_AUTH_PASSWORD=" + string(password),
		"ML_E2E_DIR=" + string(c.dir),
	}
	if dir, err := c.builder.Dir(kubernetes); err == nil {
		lines = append(lines, "ML_E2E_KUBECTL="+filepath.Join(dir, "kubectl"))
	}
	if c.dir.Known("traefik") {
		lines = append(lines, "ML_E2E_GATEWAY="+gatewayName, "ML_E2E_GATEWAY_URL="+gatewayURL)
	}
	_, err = fmt.Fprintln(c.out, strings.Join(lines, "\n"))
	return err
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}
