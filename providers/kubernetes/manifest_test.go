package kubernetes

import (
	"strings"
	"testing"

	"github.com/continuo-ml/continuo/internal/kube"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/pods"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/resource"
)

func TestATargetNamesAnObjectAsExactlyAsItNeedsTo(t *testing.T) {
	for _, c := range []struct{ target, key, what string }{
		{"Deployment/web:spec.replicas", "Deployment.apps/web", "spec.replicas"},
		{"Deployment.apps/web:spec.replicas", "Deployment.apps/ns/web", "spec.replicas"},
		{"Deployment/ns/web:Ready=False", "Deployment.apps/ns/web", "Ready=False"},
		{"Deployment/other/web:x", "Deployment.apps/ns/web", ""},
		{"Deployment/ns/web:x", "Deployment.apps/web", ""},
		{"Deployment.extensions/web:x", "Deployment.apps/web", ""},
		{"Deployment/we:x", "Deployment.apps/web", ""},
		{"ConfigMap/web:x", "Deployment.apps/web", ""},
	} {
		if what, ok := kube.Targeted(c.target, c.key); what != c.what || ok != (c.what != "") {
			t.Errorf("%s of %s: %q, %v", c.target, c.key, what, ok)
		}
	}
}

func withKey(t *testing.T) *application {
	t.Helper()
	e, err := pods.Configured(t.Context(), providertest.Env(t.TempDir()), pods.Settings{}, jobs{})
	if err != nil {
		t.Fatal(err)
	}
	return &application{m: &manifests{Env: e}, project: "p", req: providers.ApplyRequest{OpID: "op", Address: resource.Address{Kind: "manifest", Name: "m"}}}
}

func TestAnObjectIsMarkedAsOursAndNotChangedOtherwise(t *testing.T) {
	a := withKey(t)
	fields := map[string]any{
		"apiVersion": "v1", "kind": "Secret",
		"metadata":   map[string]any{"name": "s", "uid": "from elsewhere", "annotations": map[string]any{kubectlNote: `{"data":{"p":"aHVudGVyMg=="}}`}},
		"stringData": map[string]any{"p": "hunter2"}, "status": map[string]any{"x": "y"},
	}
	o, err := a.object("Secret/s", fields)
	if err != nil {
		t.Fatal(err)
	}
	a.note(o)
	data, err := o.object.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"apiVersion":"v1","data":{"p":"aHVudGVyMg=="},"kind":"Secret","metadata":{"annotations":{"continuo.dev/address":"manifest.m","continuo.dev/applied-digest":"` + o.digest +
		`","continuo.dev/operation":"op"},"labels":{"app.kubernetes.io/managed-by":"continuo","continuo.dev/address":"manifest.m","continuo.dev/project":"p"},"name":"s"}}`
	if got := strings.TrimSpace(string(data)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if fields["stringData"] == nil {
		t.Error("what the block holds was changed itself")
	}
	// The digest is under the project's key: it does not give a password away to who tries some.
	b := withKey(t)
	b.m.Work.Key = []byte("another project's key of 32 bytes")
	if other, err := b.object("Secret/s", fields); err != nil || other.digest == o.digest {
		t.Errorf("the digest is the same for everybody, %v", err)
	}
	b.m.Work.Key = nil
	if _, err := b.object("Secret/s", fields); err == nil || !strings.Contains(err.Error(), ".ml/key") {
		t.Errorf("without a key: %v", err)
	}
}

func TestWhatOthersNeedComesFirstAndWhatRefusesThemLast(t *testing.T) {
	order := []kube.Ref{
		{Version: "v1", Kind: "Namespace"},
		{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"},
		{Version: "v1", Kind: "ServiceAccount"},
		{Version: "v1", Kind: "Secret"},
		{Version: "v1", Kind: "Service"},
		{Group: "apps", Version: "v1", Kind: "Deployment"},
		{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration"},
	}
	for i := 1; i < len(order); i++ {
		if rankOf(order[i-1].GVK().GroupKind()) >= rankOf(order[i].GVK().GroupKind()) {
			t.Errorf("%s does not come before %s", order[i-1].Kind, order[i].Kind)
		}
	}
}

func TestOneObjectWrittenTwiceIsRefused(t *testing.T) {
	at := kube.Ref{Version: "v1", Kind: "ConfigMap", Namespace: "ns", Name: "c"}
	err := twice([]*object{{key: "ConfigMap/c", at: at}, {key: "ConfigMap/ns/c", at: at}})
	if err == nil || !strings.Contains(err.Error(), "ConfigMap/c and ConfigMap/ns/c are one object") {
		t.Errorf("error %v", err)
	}
}

func TestAHashedRecordIsReadAsFarAsItGoes(t *testing.T) {
	got, err := recordedObjects([]byte(`{"yaml":null,"objects":{"ConfigMap/c":{"apiVersion":"v1","kind":"ConfigMap","data":{"k":"hash:1"}},"ConfigMap/d":"hash:2"}}`))
	if err != nil || len(got) != 1 || got["ConfigMap/c"] == nil {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := recordedObjects([]byte("{")); err == nil {
		t.Error("a record that cannot be read is none")
	}
	if d := recordedTimeout([]byte(`{"timeout":"90s"}`)); d.Seconds() != 90 {
		t.Errorf("timeout %s", d)
	}
	if d := recordedTimeout([]byte(`{}`)); d != readyWithin {
		t.Errorf("timeout %s", d)
	}
}
