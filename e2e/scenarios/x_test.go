//go:build e2e

package scenarios

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/continuo-ml/continuo/internal/oci"
)

// TestX runs two daemons in the cluster by deploy/daemon.yaml as it is shipped, with nothing replaced but names, the image and the repository: they apply a
// project on Kubernetes from a git repository, a change that somebody makes to an object is mended at once, for the daemon watches, and when the pod of the
// one that leads is killed, the other one goes on. One that is stopped beyond its lease writes nothing afterwards.
func TestX(t *testing.T) {
	t.Parallel()
	x := newInCluster(t)
	leads := x.ready("")
	x.level("3")
	out := x.ml("status", "-daemon", x.url)
	for _, want := range []string{"check.unit", "manifest.settings", "passed"} {
		if !strings.Contains(out, want) {
			t.Errorf("ml status -daemon lacks %q:\n%s", want, out)
		}
	}
	// The interval is an hour: only the watch can have begun the cycle that mends it.
	x.edit("9")
	x.level("3")
	if err := x.cluster.typed.CoreV1().ConfigMaps(x.namespace).Delete(t.Context(), "settings", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	x.level("3")

	var now int64
	if err := x.cluster.typed.CoreV1().Pods(x.namespace).Delete(t.Context(), leads, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	next := x.ready(leads)
	t.Logf("%s leads %.0f s after %s was killed", next, time.Since(killed).Seconds(), leads)
	x.edit("9")
	x.level("3")
	lease, err := x.cluster.typed.CoordinationV1().Leases(x.namespace).Get(t.Context(), "ml-daemon", metav1.GetOptions{})
	if err != nil || *lease.Spec.LeaseTransitions < 2 || !strings.HasPrefix(*lease.Spec.HolderIdentity, next+"/") {
		t.Errorf("the lease: %+v, %v; %s leads", lease.Spec, err, next)
	}
	for range counted(t, "ML_E2E_STOPS", 1) {
		next = x.stopped(next)
	}
	x.ml("plan", "-daemon", x.url, "-detailed-exitcode") // the files of this folder are the commit's: nothing to do
}

// inCluster is a project that daemons in the cluster keep applied.
type inCluster struct {
	*world
	url    string
	volume string       // the folder of this machine that the daemons' claim is
	git    *http.Server // what pods fetch from; it serves once there is a certificate
	on     net.Listener
}

func newInCluster(t *testing.T) *inCluster {
	t.Helper()
	x := &inCluster{world: newWorldOf(t, fstest.MapFS{}, "kubernetes")}
	for name, text := range map[string]string{
		"main.ml.hcl": fmt.Sprintf(`ml {
  artifacts        = "oci://%s/%s"
  default_provider = ["kubernetes", "oci"]
}
provider "kubernetes" {
  namespace = %q
  image     = %q
}
check "unit" {
  command = ["python3", "-c", "print(1)"]
  sources = ["main.ml.hcl"]
}
manifest "settings" {
  force   = ["ConfigMap/settings:data.level"]
  objects = [{ apiVersion = "v1", kind = "ConfigMap", metadata = { name = "settings" }, data = { level = "3" } }]
}
`, here.registry, x.namespace, x.namespace, here.image),
	} {
		if err := os.WriteFile(filepath.Join(x.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	url := x.serveGit()
	image := x.pushProgram()
	x.makeVolume()
	x.deploy(image, url)
	return x
}

// serveGit makes the project a commit, and says under which address pods will fetch it.
func (x *inCluster) serveGit() string {
	x.Helper()
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-qm", "first"}} {
		if out, err := x.command(x.Context(), "git", args...); err != nil {
			x.Fatalf("git %s: %v\n%s", args[0], err, out)
		}
	}
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		x.Fatal(err)
	}
	host, _, err := net.SplitHostPort(here.registry)
	if err != nil {
		x.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0")) // beside the registry, which pods reach
	if err != nil {
		x.Fatal(err)
	}
	x.on = l
	x.git = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + x.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}}
	return "https://" + l.Addr().String() + "/.git"
}

// pushProgram makes the image that deploy/daemon.yaml asks for: the program, and nothing else.
func (x *inCluster) pushProgram() string {
	x.Helper()
	img, err := oci.New(oci.Options{}).Build(x.Context(), oci.BuildRequest{
		Layers: []oci.Layer{{Dir: filepath.Dir(here.bin), Files: []string{filepath.Base(here.bin)}, Prefix: "/usr/local/bin"}},
		Repo:   here.registry + "/" + x.namespace + "/ml",
	})
	if err != nil {
		x.Fatal(err)
	}
	return strings.TrimPrefix(img.Ref, oci.Scheme)
}

// makeVolume makes a volume for the claim: a folder of this machine, which the pods' user may write.
func (x *inCluster) makeVolume() {
	x.Helper()
	dir, err := os.MkdirTemp("", "ml-e2e-x-")
	if err == nil {
		err = os.Chown(dir, 65532, 65532)
	}
	if err != nil {
		x.Fatal(err)
	}
	x.volume = dir
	name := x.namespace + "-ml-daemon"
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")},
		AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}},
		ClaimRef:                      &corev1.ObjectReference{Namespace: x.namespace, Name: "ml-daemon"},
	}}
	if _, err := x.cluster.typed.CoreV1().PersistentVolumes().Create(x.Context(), pv, metav1.CreateOptions{}); err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		deployments := x.cluster.typed.AppsV1().Deployments(x.namespace)
		if err := deployments.Delete(ctx, "ml-daemon", metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			x.Error(err)
		}
		until(ctx, x.T, "the daemons to end", func() bool { return len(x.pods(ctx)) == 0 })
		if err := x.cluster.typed.CoreV1().PersistentVolumes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			x.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			x.Error(err)
		}
	})
}

// deploy applies deploy/daemon.yaml, the Service first: the certificate has its address in it.
func (x *inCluster) deploy(image, url string) {
	x.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "deploy", "daemon.yaml"))
	if err != nil {
		x.Fatal(err)
	}
	text := string(raw)
	for _, change := range [][2]string{
		{"namespace: ml\n", "namespace: " + x.namespace + "\n"}, {"registry.example.com/continuo/ml:0.1\n", image + "\n"},
		{`"https://git.example.com/team/models.git"`, `"` + url + `"`}, {`path     = "tumors"`, `path     = "."`},
		{`interval = "1m"`, `interval = "1h"`}, {"https://ml-daemon.ml.svc", "https://ml-daemon." + x.namespace + ".svc"},
	} {
		if !strings.Contains(text, change[0]) {
			x.Fatalf("deploy/daemon.yaml has no %q to replace", change[0])
		}
		text = strings.ReplaceAll(text, change[0], change[1])
	}
	docs := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	var objects []unstructured.Unstructured
	for {
		var u unstructured.Unstructured
		if err := docs.Decode(&u.Object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			x.Fatal(err)
		}
		if u.GetKind() == "Service" {
			x.create(&u)
		} else {
			objects = append(objects, u)
		}
	}
	x.secrets()
	for i := range objects {
		x.create(&objects[i])
	}
}

func (x *inCluster) create(u *unstructured.Unstructured) {
	x.Helper()
	gvr := schema.GroupVersionResource{Group: u.GroupVersionKind().Group, Version: u.GroupVersionKind().Version, Resource: strings.ToLower(u.GetKind()) + "s"}
	if _, err := x.cluster.any.Resource(gvr).Namespace(x.namespace).Create(x.Context(), u, metav1.CreateOptions{FieldValidation: "Strict"}); err != nil {
		x.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
	}
}

// secrets makes what deploy/daemon.yaml names only, and tells ml on this machine how to reach the daemon.
func (x *inCluster) secrets() {
	x.Helper()
	svc, err := x.cluster.typed.CoreV1().Services(x.namespace).Get(x.Context(), "ml-daemon", metav1.GetOptions{})
	if err != nil {
		x.Fatal(err)
	}
	here, _, err := net.SplitHostPort(x.on.Addr().String())
	if err != nil {
		x.Fatal(err)
	}
	cert, key := certificate(x.T, "ml-daemon."+x.namespace+".svc", net.ParseIP(svc.Spec.ClusterIP), net.ParseIP(here))
	x.serve(cert, key)
	for _, s := range []*corev1.Secret{
		{ObjectMeta: metav1.ObjectMeta{Name: "ml-daemon-tls"}, Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": cert, "tls.key": key}},
		{ObjectMeta: metav1.ObjectMeta{Name: "ml-daemon"}, StringData: map[string]string{"ML_READ_TOKEN": "see", "ML_WRITE_TOKEN": "act", "GIT_TOKEN": "fetch", "SSL_CERT_FILE": "/tls/tls.crt"}},
	} {
		if _, err := x.cluster.typed.CoreV1().Secrets(x.namespace).Create(x.Context(), s, metav1.CreateOptions{}); err != nil {
			x.Fatal(err)
		}
	}
	ca := filepath.Join(x.T.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		x.Fatal(err)
	}
	x.url = "https://" + svc.Spec.ClusterIP + ":8443/r/tumors"
	x.env = append(x.env, "ML_DAEMON_TOKEN=see", "ML_DAEMON_CA="+ca)
}

// serve lets pods fetch, until the end of the test.
func (x *inCluster) serve(cert, key []byte) {
	x.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		x.Fatal(err)
	}
	x.git.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	done := make(chan error, 1)
	go func() { done <- x.git.ServeTLS(x.on, "", "") }()
	x.Cleanup(func() {
		if err := x.git.Close(); err != nil {
			x.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			x.Error(err)
		}
	})
}

func certificate(t *testing.T, name string, ips ...net.IP) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: ips,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func (x *inCluster) pods(ctx context.Context) []corev1.Pod {
	list, err := x.cluster.typed.CoreV1().Pods(x.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=ml-daemon"})
	if err != nil {
		return []corev1.Pod{{}} // not known: nobody may take it for none
	}
	return list.Items
}

// ready waits until one of two pods leads, and is not the one named, and gives its name.
func (x *inCluster) ready(but string) string {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), 3*time.Minute)
	defer cancel()
	name := ""
	until(ctx, x.T, "one of the daemons to lead", func() bool {
		name = ""
		running := 0
		for _, p := range x.pods(ctx) {
			if p.Name == but {
				continue
			}
			if p.Status.Phase == corev1.PodRunning {
				running++
			}
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					if name != "" {
						x.Errorf("%s and %s are ready", name, p.Name)
					}
					name = p.Name
				}
			}
		}
		return name != "" && running == 2
	})
	if x.Failed() {
		x.logs()
		x.FailNow()
	}
	return name
}

func (x *inCluster) logs() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, p := range x.pods(ctx) {
		raw, err := x.cluster.typed.CoreV1().Pods(x.namespace).GetLogs(p.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
		x.Logf("%s: %v\n%s", p.Name, err, raw)
	}
}

// edit changes the object as somebody with kubectl does.
func (x *inCluster) edit(level string) {
	x.Helper()
	maps := x.cluster.typed.CoreV1().ConfigMaps(x.namespace)
	cm, err := maps.Get(x.Context(), "settings", metav1.GetOptions{})
	if err != nil {
		x.Fatal(err)
	}
	cm.Data["level"] = level
	if _, err := maps.Update(x.Context(), cm, metav1.UpdateOptions{FieldManager: "kubectl-edit"}); err != nil {
		x.Fatal(err)
	}
}

// level waits until the object says what the files say.
func (x *inCluster) level(want string) {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), 2*time.Minute)
	defer cancel()
	began := time.Now()
	until(ctx, x.T, "the object to be as in the files", func() bool {
		cm, err := x.cluster.typed.CoreV1().ConfigMaps(x.namespace).Get(ctx, "settings", metav1.GetOptions{})
		return err == nil && cm.Data["level"] == want
	})
	if x.Failed() {
		x.logs()
		x.FailNow()
	}
	x.Logf("as in the files after %.1f s", time.Since(began).Seconds())
}
