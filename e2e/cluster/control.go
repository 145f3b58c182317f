//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/api"
	"github.com/continuo-ml/continuo/e2e/cluster/internal/host"
)

// etcdURL is where etcd answers; its usual ports are left to others.
const etcdURL = "http://127.0.0.1:12379"

func (c *cluster) startControlPlane(ctx context.Context) error {
	for _, comp := range []host.Component{c.etcd(), c.apiServer()} {
		if err := c.dir.Start(ctx, comp); err != nil {
			return err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, comp := range []host.Component{c.controllerManager(), c.scheduler()} {
		g.Go(func() error { return c.dir.Start(gctx, comp) })
	}
	return g.Wait()
}

func (c *cluster) etcd() host.Component {
	const peer = "http://127.0.0.1:12380"
	return host.Component{
		Name: "etcd",
		Args: []string{
			"etcd", "--name=e2e", "--data-dir=" + c.dir.Path("etcd"), "--listen-client-urls=" + etcdURL, "--advertise-client-urls=" + etcdURL,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=e2e=" + peer,
			"--unsafe-no-fsync", // nothing here outlives the machine
			"--quota-backend-bytes=4294967296", "--auto-compaction-mode=periodic", "--auto-compaction-retention=5m",
		},
		Ready: c.ready()["etcd"], Deadline: 30 * time.Second,
	}
}

func (c *cluster) apiServer() host.Component {
	pki := func(name string) string { return c.dir.Path("pki", name) }
	return host.Component{
		Name: "kube-apiserver",
		Args: []string{
			c.bin["kube-apiserver"], "--etcd-servers=" + etcdURL,
			// Pods reach it at the address that it advertises, so it cannot be loopback.
			"--bind-address=" + nodeIP, "--advertise-address=" + nodeIP, "--secure-port=6443",
			"--tls-cert-file=" + pki("server.crt"), "--tls-private-key-file=" + pki("server.key"), "--cert-dir=" + pki("apiserver"),
			"--token-auth-file=" + pki("tokens.csv"), "--authorization-mode=Node,RBAC", "--allow-privileged=true",
			"--service-cluster-ip-range=" + serviceRange, "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
			"--service-account-key-file=" + pki("service-account.pub"), "--service-account-signing-key-file=" + pki("service-account.key"),
			"--kubelet-client-certificate=" + pki("kubelet-client.crt"), "--kubelet-client-key=" + pki("kubelet-client.key"),
			"--kubelet-preferred-address-types=InternalIP", // names of nodes are in no DNS
			"--profiling=false",
		},
		Ready: c.ready()["kube-apiserver"], Deadline: 90 * time.Second,
	}
}

func (c *cluster) controllerManager() host.Component {
	return host.Component{
		Name: "kube-controller-manager",
		Args: []string{
			c.bin["kube-controller-manager"], "--kubeconfig=" + c.kubeconfig("kube-controller-manager"), "--bind-address=127.0.0.1",
			"--cert-dir=" + c.dir.Path("pki", "controller-manager"), "--root-ca-file=" + c.dir.Path("pki", "ca.crt"),
			"--service-account-private-key-file=" + c.dir.Path("pki", "service-account.key"), "--use-service-account-credentials=true",
			"--leader-elect=false", "--flex-volume-plugin-dir=" + c.dir.Path("kubelet", "plugins-exec"), "--profiling=false",
			"--kube-api-qps=200", "--kube-api-burst=400",
		},
		Ready: c.ready()["kube-controller-manager"], Deadline: 60 * time.Second,
	}
}

func (c *cluster) scheduler() host.Component {
	return host.Component{
		Name: "kube-scheduler",
		Args: []string{
			c.bin["kube-scheduler"], "--kubeconfig=" + c.kubeconfig("kube-scheduler"), "--bind-address=127.0.0.1",
			"--cert-dir=" + c.dir.Path("pki", "scheduler"), "--leader-elect=false", "--profiling=false", "--kube-api-qps=200", "--kube-api-burst=400",
		},
		Ready: c.ready()["kube-scheduler"], Deadline: 60 * time.Second,
	}
}

// ready says for each component how it shows that it works.
func (c *cluster) ready() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"etcd":                    answers(etcdURL+"/health", http.StatusOK),
		"kube-apiserver":          c.apiReady,
		"kube-controller-manager": answers("https://127.0.0.1:10257/healthz", http.StatusOK),
		"kube-scheduler":          answers("https://127.0.0.1:10259/healthz", http.StatusOK),
		"containerd":              c.containerdReady,
		"kubelet":                 c.nodeReady,
		"kube-proxy":              answers("http://127.0.0.1:10256/healthz", http.StatusOK),
		"coredns":                 answers("http://127.0.0.1:18181/ready", http.StatusOK),
		"registry":                answers("http://"+registryHost+"/v2/", http.StatusOK),
		"registry-auth":           answers("http://"+authRegistry+"/v2/", http.StatusUnauthorized),
		"kserve":                  c.kserveReady,
		"jobset":                  answers("http://127.0.0.1:18082/readyz", http.StatusOK),
		"trainer":                 answers("http://127.0.0.1:18083/readyz", http.StatusOK),
		"traefik":                 c.gatewayReady(),
		standinName:               standinReady(),
	}
}

func (c *cluster) apiReady(ctx context.Context) error {
	client, err := api.Load(c.kubeconfig("admin"))
	if err != nil {
		return err
	}
	return client.Get(ctx, "/readyz", nil)
}

// answers returns a check that GET url answers with this status. Certificates are not looked at: some components sign their own, for
// loopback alone.
func answers(url string, status int) func(context.Context) error {
	client := &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
	}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(resp.Body, 512))
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		if resp.StatusCode != status {
			return fmt.Errorf("GET %s: %s: %s", url, resp.Status, text)
		}
		return nil
	}
}

// listens returns nil if a socket accepts connections.
func listens(ctx context.Context, network, address string) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	return conn.Close()
}
