//go:build e2e

package scenarios

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestV is the quickstart with its data on a persistent volume claim, which only pods reach: the version is that of the same files on
// this machine, a plan reads it in a pod that leaves nothing, other bytes on the volume are a plan to train, what cannot be
// read says why in one line, and the claim's data is as it was when everything is destroyed.
func TestV(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "quickstart", "kubernetes")
	volume := t.TempDir()
	w.cluster.makeClaim(t, w.namespace, "clinic", volume)
	data, err := os.ReadFile(filepath.Join(w.dir, "data", "wdbc.csv"))
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(volume, "tumors", "wdbc.csv")
	put := func(content []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, content, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	put(data)

	// On the laptop's copy first: the digest that the files have there must be the one that they have on the volume.
	w.ml("apply", "-auto-approve")
	w.serves(1)
	file := filepath.Join(w.dir, "tumors.ml.hcl")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	from := func(source string) {
		t.Helper()
		moved := strings.Replace(string(text), `source = "data/wdbc*.csv"`, "provider = \"kubernetes\"\n  source = \""+source+"\"", 1)
		if moved == string(text) {
			t.Fatal("the example has another source than this test replaces")
		}
		if err := os.WriteFile(file, []byte(moved), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	from("pvc://clinic/tumors/*.csv")
	if plan := w.plan(); plan["training.tumors"] != "" || plan["validation.tumors"] != "" || plan["deployment.tumors"] != "" {
		t.Errorf("the same data on a claim is planned as %v", plan)
	}
	w.ml("apply", "-auto-approve")
	w.unchanged()
	put(data)
	w.unchanged()
	if jobs := w.scans(); len(jobs) > 0 {
		t.Errorf("plans left %v", jobs)
	}

	lines := bytes.SplitAfter(data, []byte("\n"))
	fewer := bytes.Join(append(lines[:1:1], lines[21:]...), nil)
	put(fewer)
	if out, err := w.run(t.Context(), "plan", "-refresh=false", "-detailed-exitcode"); err != nil {
		t.Errorf("without a refresh the claim is not read, and nothing is to do: %v\n%s", err, out)
	}
	if why := w.plan()["training.tumors"]; why != "run data_changed" {
		t.Errorf("with other bytes on the volume the training is planned as %q", why)
	}
	w.ml("apply", "-auto-approve", "-target", "training.tumors")
	if v := w.status("training.tumors").Version; v != 2 {
		t.Errorf("the training has version %d", v)
	}

	for source, why := range map[string]string{
		"pvc://clinic/tumours/*.csv": "there is nothing on the claim under that name",
		"pvc://nobody/tumors/*.csv":  "there is no claim nobody",
		"pvc://waiting/wdbc.csv":     "bound to no volume yet",
	} {
		if source == "pvc://waiting/wdbc.csv" {
			w.cluster.makeWaiting(t, w.namespace, "waiting")
		}
		from(source)
		if out := w.exits(1, "plan"); !strings.Contains(strings.Join(strings.Fields(out), " "), why) {
			t.Errorf("%s: want %q\n%s", source, why, out)
		}
	}
	w.ml("destroy", "-auto-approve")
	w.gone()
	if now, err := os.ReadFile(at); err != nil || !bytes.Equal(now, fewer) {
		t.Errorf("the data on the claim is not what it was: %v", err)
	}
	if left, err := os.ReadDir(volume); err != nil || len(left) != 1 {
		t.Errorf("the volume holds %v, %v", left, err)
	}
	if _, err := w.cluster.typed.CoreV1().PersistentVolumeClaims(w.namespace).Get(t.Context(), "clinic", metav1.GetOptions{}); err != nil {
		t.Errorf("the claim: %v", err)
	}
}

// scans lists the Jobs that read claims.
func (w *world) scans() []string {
	w.Helper()
	list, err := w.cluster.typed.BatchV1().Jobs(w.namespace).List(w.Context(), metav1.ListOptions{LabelSelector: "continuo.dev/stage=scan"})
	if err != nil {
		w.Fatal(err)
	}
	var names []string
	for _, j := range list.Items {
		names = append(names, j.Name)
	}
	return names
}

// makeClaim makes a claim with a volume that is a folder of this machine. The volume goes with the test; it belongs to no namespace.
func (c cluster) makeClaim(t *testing.T, namespace, name, dir string) {
	t.Helper()
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("100Mi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	volume := namespace + "-" + name
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: volume}, Spec: corev1.PersistentVolumeSpec{
		Capacity: size, AccessModes: modes, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
		PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}},
		ClaimRef:               &corev1.ObjectReference{Namespace: namespace, Name: name},
	}}
	if _, err := c.typed.CoreV1().PersistentVolumes().Create(t.Context(), pv, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.typed.CoreV1().PersistentVolumeClaims(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
		if err := c.typed.CoreV1().PersistentVolumes().Delete(ctx, volume, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
		until(ctx, t, "volume "+volume+" to go", func() bool {
			_, err := c.typed.CoreV1().PersistentVolumes().Get(ctx, volume, metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		})
	})
	c.claim(t, namespace, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: modes, VolumeName: volume, StorageClassName: new(""), Resources: corev1.VolumeResourceRequirements{Requests: size},
	}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	until(ctx, t, "claim "+name+" to be bound", func() bool {
		got, err := c.typed.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
		return err == nil && got.Status.Phase == corev1.ClaimBound
	})
}

// makeWaiting makes a claim that nobody binds.
func (c cluster) makeWaiting(t *testing.T, namespace, name string) {
	t.Helper()
	c.claim(t, namespace, &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: new(""), VolumeName: namespace + "-nowhere",
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Mi")}},
	}})
}

func (c cluster) claim(t *testing.T, namespace string, claim *corev1.PersistentVolumeClaim) {
	t.Helper()
	if _, err := c.typed.CoreV1().PersistentVolumeClaims(namespace).Create(t.Context(), claim, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}
