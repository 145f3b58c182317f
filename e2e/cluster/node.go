//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/continuo-ml/continuo/e2e/cluster/internal/host"
)

func (c *cluster) containerdSocket() string { return c.dir.Path("containerd.sock") }

func (c *cluster) containerd() host.Component {
	return host.Component{
		Name:  "containerd",
		Args:  []string{"containerd", "--config", c.dir.Path("config", "containerd.toml")},
		Ready: c.ready()["containerd"], Deadline: 30 * time.Second,
	}
}

func (c *cluster) containerdReady(ctx context.Context) error {
	return listens(ctx, "unix", c.containerdSocket())
}

func (c *cluster) kubelet() host.Component {
	return host.Component{
		Name: "kubelet",
		Args: []string{
			c.bin["kubelet"], "--config=" + c.dir.Path("config", "kubelet.json"), "--kubeconfig=" + c.kubeconfig("kubelet"),
			"--root-dir=" + c.dir.Path("kubelet"), "--cert-dir=" + c.dir.Path("pki", "kubelet"), "--hostname-override=" + nodeName, "--node-ip=" + nodeIP,
		},
		Ready: c.ready()["kubelet"], Deadline: 60 * time.Second,
	}
}

// nodeReady returns nil once the node takes pods.
func (c *cluster) nodeReady(ctx context.Context) error {
	client, err := c.admin()
	if err != nil {
		return err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Conditions []struct{ Type, Status, Message string }
			}
		}
	}
	if err := client.Get(ctx, "/api/v1/nodes", &list); err != nil {
		return err
	}
	if len(list.Items) == 0 {
		return errors.New("no node has registered")
	}
	for _, n := range list.Items {
		ready := false
		for _, cond := range n.Status.Conditions {
			if cond.Type != "Ready" {
				continue
			}
			if ready = cond.Status == "True"; !ready {
				return fmt.Errorf("node %s is not ready: %s", n.Metadata.Name, cond.Message)
			}
		}
		if !ready {
			return fmt.Errorf("node %s has not said whether it is ready", n.Metadata.Name)
		}
	}
	return nil
}

func (c *cluster) kubeProxy() host.Component {
	return host.Component{
		Name:  "kube-proxy",
		Args:  []string{c.bin["kube-proxy"], "--config=" + c.dir.Path("config", "kube-proxy.json"), "--hostname-override=" + nodeName},
		Ready: c.ready()["kube-proxy"], Deadline: 60 * time.Second,
	}
}

func (c *cluster) coreDNS() host.Component {
	return host.Component{
		Name:  "coredns",
		Args:  []string{c.bin["coredns"], "-conf", c.dir.Path("config", "Corefile")},
		Ready: c.ready()["coredns"], Deadline: 60 * time.Second,
	}
}

// writeConfigs writes the configuration of all that runs on the node.
func (c *cluster) writeConfigs() error {
	kubelet, err := json.MarshalIndent(c.kubeletConfig(), "", "  ")
	if err != nil {
		return err
	}
	proxy, err := json.MarshalIndent(c.proxyConfig(), "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(
		c.write(string(kubelet), "config", "kubelet.json"),
		c.write(string(proxy), "config", "kube-proxy.json"),
		c.write(c.containerdConfig(), "config", "containerd.toml"),
		c.write(cniConfig(c.dir.Path("ipam")), "config", "cni", "10-continuo.conflist"),
		c.write(hostConfig(registryHost), "config", "certs.d", registryHost, "hosts.toml"),
		c.write(hostConfig(authRegistry), "config", "certs.d", authRegistry, "hosts.toml"),
		c.write(corefile(c.kubeconfig("coredns")), "config", "Corefile"),
	)
}

func (c *cluster) kubeletConfig() map[string]any {
	return map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": nodeIP, "containerRuntimeEndpoint": "unix://" + c.containerdSocket(),
		"authentication": map[string]any{
			"x509": map[string]any{"clientCAFile": c.dir.Path("pki", "ca.crt")}, "webhook": map[string]any{"enabled": false},
			"anonymous": map[string]any{"enabled": false},
		},
		"authorization": map[string]any{"mode": "AlwaysAllow"}, // for those who have the client certificate
		"clusterDNS":    []string{nodeIP}, "clusterDomain": "cluster.local",
		"cgroupDriver": "cgroupfs", "cgroupRoot": "/" + c.group, "failCgroupV1": false, "enforceNodeAllocatable": []string{},
		"failSwapOn": false, "oomScoreAdj": 0, // lowering it needs CAP_SYS_RESOURCE
		"podLogsDir": c.dir.Path("pods"), "volumePluginDir": c.dir.Path("kubelet", "plugins-exec"),
		"makeIPTablesUtilChains": false, "maxPods": 500, "serializeImagePulls": false, "registryPullQPS": 0, "eventRecordQPS": 0,
		"kubeAPIQPS": 200, "kubeAPIBurst": 400, "imageGCHighThresholdPercent": 100,
		// What other programs fill is not the pods' fault.
		"evictionHard": map[string]any{"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%"},
	}
}

func (c *cluster) proxyConfig() map[string]any {
	return map[string]any{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode": "nftables", "clusterCIDR": podRange, "clientConnection": map[string]any{"kubeconfig": c.kubeconfig("kube-proxy")},
		"healthzBindAddress": "127.0.0.1:10256", "metricsBindAddress": "127.0.0.1:10249", "oomScoreAdj": 0,
		// Two pods on one bridge would answer each other directly, past the translation, where the kernel has no br_netfilter.
		"nftables": map[string]any{"masqueradeAll": true, "minSyncPeriod": "100ms"},
		// Kernel settings of connection tracking stay as they are.
		"conntrack": map[string]any{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
	}
}

func (c *cluster) containerdConfig() string {
	return fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = [
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]

[grpc]
  address = %q

[plugins."io.containerd.internal.v1.opt"]
  path = %q

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  # Raising a score needs CAP_SYS_RESOURCE; without this no sandbox starts on machines that lack it.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  # Below the folder of the run, so that they go with its other mounts.
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = %q

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = %q
`, c.dir.Path("containerd", "root"), c.dir.Path("containerd", "state"), c.containerdSocket(), c.dir.Path("containerd", "opt"),
		registryHost+"/pause:1", c.dir.Path("config", "cni"), c.dir.Path("config", "certs.d"))
}

// hostConfig tells containerd that this registry speaks plain HTTP.
func hostConfig(host string) string {
	return fmt.Sprintf("server = \"http://%s\"\n\n[host.\"http://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", host, host)
}

// cniConfig hangs pods on the bridge. Leaving the machine is translated by the cluster's own packet filter table, so no plugin needs iptables.
func cniConfig(data string) string {
	return fmt.Sprintf(`{
  "cniVersion": "0.4.0",
  "name": "continuo",
  "plugins": [
    {
      "type": "bridge", "bridge": "continuo0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
      "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": %q, "gateway": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}
    }
  ]
}
`, data, podRange, nodeIP)
}

func corefile(kubeconfig string) string {
	return fmt.Sprintf(`.:53 {
    bind %s
    errors
    ready 127.0.0.1:18181
    kubernetes cluster.local in-addr.arpa {
        kubeconfig %s
        pods insecure
        fallthrough in-addr.arpa
        ttl 5
    }
    forward . /etc/resolv.conf
    cache 5
}
`, nodeIP, kubeconfig)
}
