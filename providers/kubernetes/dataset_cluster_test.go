//go:build e2e

package kubernetes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

// claim makes a claim in the namespace whose volume is the folder that is returned.
func (p *place) claim(name string) string {
	p.T.Helper()
	dir := p.T.TempDir()
	text := strings.NewReplacer("VOLUME", p.namespace+"-"+name, "NAMESPACE", p.namespace, "CLAIM", name, "DIR", dir).Replace(`
apiVersion: v1
kind: PersistentVolume
metadata: {name: VOLUME}
spec:
  capacity: {storage: 10Mi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  claimRef: {namespace: NAMESPACE, name: CLAIM}
  hostPath: {path: DIR}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: CLAIM, namespace: NAMESPACE}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: ""
  volumeName: VOLUME
  resources: {requests: {storage: 10Mi}}
`)
	for doc := range strings.SplitSeq(text, "---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			p.T.Fatal(err)
		}
		made, err := p.admin.Apply(p.T.Context(), u, kube.ApplyOptions{})
		if err != nil {
			p.T.Fatal(err)
		}
		p.T.Cleanup(func() {
			if err := p.admin.Delete(context.WithoutCancel(p.T.Context()), made.Ref, kube.DeleteOptions{}); err != nil {
				p.T.Error(err)
			}
		})
	}
	providertest.WaitFor(p.T, func() bool {
		u, err := p.admin.Get(p.T.Context(), kube.Ref{Version: "v1", Kind: "PersistentVolumeClaim", Namespace: p.namespace, Name: name})
		if err != nil {
			p.T.Fatal(err)
		}
		phase, _, err := unstructured.NestedString(u.Object, "status", "phase")
		return err == nil && phase == "Bound"
	})
	return dir
}

// onClaims is a dataset, with the nested block of this provider.
type onClaims struct {
	config.Dataset
	Kubernetes *pods.ClaimBlock `ml:"kubernetes,block"`
}

// dataset is the driver of datasets as another `ml` would have it.
func (p *place) dataset() providers.Driver {
	d, _ := p.fresh("").Dataset(claimBlock)
	return d
}

// impersonating is a kubeconfig that acts as somebody else.
func impersonating(t *testing.T, path, user string) string {
	t.Helper()
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range cfg.AuthInfos {
		u.Impersonate = user
	}
	out := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOnAClusterADatasetOnAClaimKeepsTheContract(t *testing.T) {
	p := onCluster(t)
	const rows = "id,age\n1,34\n2,51\n3,28\n4,77\n"
	if err := os.WriteFile(filepath.Join(p.claim("clinic"), "x.csv"), []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := onClaims{Dataset: config.Dataset{Source: "pvc://clinic/x.csv", Splits: []config.SplitDef{{Name: "a", Fraction: 0.5}}}}
	providertest.Run(t, providertest.Case{
		Driver: p.dataset(), Kind: "dataset", AfterDelete: resource.PhaseReady, Spec: providertest.Encoded(t, spec),
		Prepare: func(req *providers.ApplyRequest) {
			req.Probed = map[string]string{"content": string(resource.DigestOf([]byte(rows)))}
		},
	})
	p.nothingLeft()
}

func TestOnAClusterWhatKeepsAClaimFromBeingReadIsOneLine(t *testing.T) {
	p := onCluster(t)
	dir := p.claim("clinic")
	if err := os.WriteFile(filepath.Join(dir, "x.csv"), []byte("id\n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "etc")); err != nil {
		t.Fatal(err)
	}
	probe := func(p *place, spec onClaims) error {
		d, ok := providers.As[providers.Prober](p.dataset())
		if !ok {
			t.Fatal("a dataset cannot be asked for its version")
		}
		_, err := d.Probe(t.Context(), providers.ProbeRequest{Address: providertest.AddressOf("dataset"), Spec: providertest.Encoded(t, spec)})
		return err
	}
	noNode := pods.ClaimBlock{NodeSelector: map[string]string{"continuo.dev/none": "x"}, StartTimeout: 4 * time.Second}
	for name, c := range map[string]struct {
		source string
		block  *pods.ClaimBlock
		why    string
	}{
		"no such claim":         {"pvc://nobody/x.csv", nil, "there is no claim nobody"},
		"no such file":          {"pvc://clinic/y.csv", nil, "there is nothing on the claim under that name"},
		"out of the volume":     {"pvc://clinic/etc/hostname", nil, "etc"},
		"no node":               {"pvc://clinic/x.csv", &noNode, "no node takes it"},
		"a namespace of others": {"pvc://clinic/x.csv", &pods.ClaimBlock{Namespace: "kube-system"}, "kube-system"},
	} {
		t.Run(name, func(t *testing.T) {
			err := probe(p, onClaims{config.Dataset{Source: c.source}, c.block})
			if err == nil || !strings.Contains(err.Error(), c.why) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want %q", err, c.why)
			} else {
				t.Log(err)
			}
		})
	}
	p.nothingLeft()
	others := *p
	others.settings.Kubeconfig = impersonating(t, os.Getenv("ML_E2E_KUBECONFIG"), "system:serviceaccount:"+p.namespace+":default")
	var no *kube.ForbiddenError
	if err := probe(&others, onClaims{Dataset: config.Dataset{Source: "pvc://clinic/x.csv"}}); !errors.As(err, &no) || strings.Contains(err.Error(), "\n") {
		t.Errorf("who may not read claims is told: %v", err)
	} else {
		t.Log(err)
	}
}
