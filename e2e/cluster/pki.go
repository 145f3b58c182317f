//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"time"
)

// identities are who speaks to the API server, by token. Groups are those that the built-in roles are bound to.
var identities = []struct{ name, user, groups string }{
	{"admin", "admin", "system:masters"},
	{"kube-controller-manager", "system:kube-controller-manager", ""},
	{"kube-scheduler", "system:kube-scheduler", ""},
	{"kube-proxy", "system:kube-proxy", ""},
	{"kubelet", "system:node:" + nodeName, "system:nodes"},
	{"coredns", "coredns", "system:masters"},
	{"kserve", "kserve", "system:masters"},
	{"trainer", "trainer", "system:masters"},
}

// prepare fills the folder of the run with everything that is a file: keys, tokens, kubeconfigs, this program.
func (c *cluster) prepare() error {
	for _, dir := range []string{"pki", "kubeconfig", "config", "bin"} {
		if err := os.MkdirAll(c.dir.Path(dir), 0o755); err != nil {
			return fmt.Errorf("prepare the folder of the run: %w", err)
		}
	}
	// Logs of the run before are of no use any more.
	old, err := os.ReadDir(c.dir.Path("logs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("prepare the folder of the run: %w", err)
	}
	for _, e := range old {
		if err := os.Remove(c.dir.Path("logs", e.Name())); err != nil {
			return fmt.Errorf("prepare the folder of the run: %w", err)
		}
	}
	if err := errors.Join(c.certificates(), c.writeTokens(), c.writeConfigs(), c.copySelf()); err != nil {
		return fmt.Errorf("prepare the folder of the run: %w", err)
	}
	return nil
}

// certificates writes an authority of this run alone and what it signs: one certificate for every server, one client certificate with
// which the API server comes to the kubelet, and the key of service account tokens.
func (c *cluster) certificates() error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := template(1, "continuo-e2e")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	if err := c.sign("ca", ca, ca, caKey, caKey); err != nil {
		return err
	}
	server := template(2, "server")
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	server.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	server.IPAddresses = []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(nodeIP), net.ParseIP("10.96.0.1")}
	client := template(3, "kube-apiserver-kubelet-client")
	client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for name, t := range map[string]*x509.Certificate{"server": server, "kubelet-client": client} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		if err := c.sign(name, t, ca, key, caKey); err != nil {
			return err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	return errors.Join(c.writeKey("service-account", key), os.WriteFile(c.dir.Path("pki", "service-account.pub"), text, 0o644))
}

func template(serial int64, name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func (c *cluster) sign(name string, t, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, parentKey)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return errors.Join(os.WriteFile(c.dir.Path("pki", name+".crt"), text, 0o644), c.writeKey(name, key))
}

func (c *cluster) writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(c.dir.Path("pki", name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func (c *cluster) kubeconfig(name string) string { return c.dir.Path("kubeconfig", name) }

func (c *cluster) writeTokens() error {
	var rows strings.Builder
	for _, id := range identities {
		token := rand.Text()
		fmt.Fprintf(&rows, "%s,%s,%s,%q\n", token, id.user, id.user, id.groups)
		text, err := json.MarshalIndent(map[string]any{
			"apiVersion": "v1", "kind": "Config", "current-context": "e2e",
			"clusters": []any{map[string]any{"name": "e2e", "cluster": map[string]any{"server": apiServer, "certificate-authority": c.dir.Path("pki", "ca.crt")}}},
			"users":    []any{map[string]any{"name": id.name, "user": map[string]any{"token": token}}},
			"contexts": []any{map[string]any{"name": "e2e", "context": map[string]any{"cluster": "e2e", "user": id.name}}},
		}, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.kubeconfig(id.name), text, 0o600); err != nil {
			return err
		}
	}
	return errors.Join(
		os.WriteFile(c.dir.Path("pki", "tokens.csv"), []byte(rows.String()), 0o600),
		os.WriteFile(c.dir.Path("pki", "registry-password"), []byte(rand.Text()), 0o600),
	)
}

// read returns the text of a file of the run; a file that is missing is an error where it is used.
func (c *cluster) read(path ...string) string {
	text, err := os.ReadFile(c.dir.Path(path...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// write puts a configuration file into the run and returns its path.
func (c *cluster) write(text string, path ...string) error {
	file := c.dir.Path(path...)
	if err := os.MkdirAll(strings.TrimSuffix(file, path[len(path)-1]), 0o755); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}
