package kube

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var secretRef = Ref{Version: "v1", Kind: "Secret", Namespace: "ns", Name: "s"}

const partial = `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"s","namespace":"ns","uid":"u1","resourceVersion":"7"}}` + "\n"

func TestOfASecretNothingButTheMetadataIsAskedFor(t *testing.T) {
	alone(t)
	f := newServer(t, returns(partial), returns(`{"kind":"PartialObjectMetadataList","metadata":{},"items":[`+partial+`]}`))
	c := connect(t, f.URL, nil)
	ctx := context.Background()
	if list, err := c.List(ctx, secretGVK, "ns", Selector{}); err != nil || len(list) != 1 || list[0].GroupVersionKind() != secretGVK {
		t.Errorf("%v, %v", list, err)
	}
	if u, err := c.Get(ctx, secretRef); err != nil || u.GetUID() != "u1" || u.GetKind() != "Secret" {
		t.Errorf("%v, %v", u, err)
	}
	want := object(t, "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {p: eA==}}")
	if a, err := c.Apply(ctx, want, ApplyOptions{Force: []string{"data.p"}}); err != nil || a.Ref.UID != "u1" {
		t.Errorf("%+v, %v", a, err)
	}
	for i, r := range f.requests {
		if accept := r.Header.Get("Accept"); !strings.Contains(accept, "as=PartialObjectMetadata") || strings.Contains(accept, "List") != (i == 0) {
			t.Errorf("%s %s accepts %q", r.Method, r.URL.Path, accept)
		}
	}
	if len(f.requests) != 4 {
		t.Errorf("%d requests", len(f.requests))
	}
}

func TestASecretIsLookedAtWithTheRightToWriteItAlone(t *testing.T) {
	alone(t)
	created := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusCreated)
		returns(partial)(w, r)
	}
	denied := fails(403, "Forbidden", `secrets "s" is forbidden: User "u" cannot get resource "secrets"`, "")
	f := newServer(t, denied, denied, returns(partial), denied, created)
	c := connect(t, f.URL, nil)
	ctx := context.Background()
	if u, err := c.Get(ctx, secretRef); err != nil || u.GetResourceVersion() != "7" {
		t.Errorf("%v, %v", u, err)
	}
	if _, err := c.Get(ctx, secretRef); !errors.Is(err, ErrNotFound) {
		t.Errorf("one that would be made: %v", err)
	}
	for _, i := range []int{1, 3} {
		q := f.requests[i].URL.Query()
		if q.Get("dryRun") != "All" || q.Get("fieldManager") != "continuo-look" || f.bodies[i] != `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"}}`+"\n" {
			t.Errorf("%s %s", f.requests[i].URL, f.bodies[i])
		}
	}
	// Those in a list that may not be read are looked at one by one.
	found := connect(t, f.URL, nil).Reads(aLook()).Find(ctx, []Ref{secretRef})
	var no *ForbiddenError
	if !errors.As(found[0].Err, &no) || len(f.requests) != 7 {
		t.Errorf("%v after %d requests", found[0].Err, len(f.requests))
	}
}

func TestASecretsValuesAreComparedByWhoOwnsThem(t *testing.T) {
	applied := object(t, "{apiVersion: v1, kind: Secret, type: Opaque, metadata: {name: s, labels: {a: b}}, data: {mine: 'hash:1', theirs: 'hash:2'}, stringData: {gone: 'hash:3'}}")
	live := object(t, `
apiVersion: v1
kind: Secret
metadata:
  name: s
  namespace: ns
  labels: {a: c}
  managedFields:
  - {manager: continuo, operation: Apply, time: "2026-11-01T09:00:00Z", fieldsV1: {"f:data": {"f:mine": {}}}}
  - {manager: kubectl-edit, operation: Update, time: "2026-11-01T09:20:00Z", fieldsV1: {"f:metadata": {"f:labels": {"f:a": {}}}, "f:data": {"f:theirs": {}}}}
`)
	want := []FieldChange{
		{"data.gone", "(secret)", "", "kubectl-edit"},
		{"data.theirs", "(secret)", "(secret)", "kubectl-edit"},
		{"metadata.labels.a", `"b"`, `"c"`, "kubectl-edit"},
	}
	if d := cmp.Diff(want, DriftFrom(applied, live, nil)); d != "" {
		t.Error(d)
	}
}

func TestStringDataGoesWhereTheServerPutsIt(t *testing.T) {
	u := object(t, "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: b2xk, b: Yg==}, stringData: {a: new}}")
	if err := WithoutStringData(u); err != nil {
		t.Fatal(err)
	}
	want := object(t, "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: bmV3, b: Yg==}}")
	if d := cmp.Diff(want.Object, u.Object); d != "" {
		t.Error(d)
	}
	bad := object(t, "{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {port: 80}}")
	if err := WithoutStringData(bad); err == nil || !strings.Contains(err.Error(), "stringData.port is no text") || strings.Contains(err.Error(), "80") {
		t.Errorf("%v", err)
	}
}

func TestWhatIsReleasedIsNeverMadeAnew(t *testing.T) {
	alone(t)
	f := newServer(t, nil, fails(409, "Conflict", "uid mismatch: the provided object specified uid u1, and no existing object was found", ""), returns(partial))
	c := connect(t, f.URL, nil)
	ref := secretRef
	if err := c.Release(context.Background(), ref); err == nil {
		t.Error("an object without a uid is released")
	}
	ref.UID = "u1"
	for range 2 {
		if err := c.Release(context.Background(), ref); err != nil {
			t.Error(err)
		}
	}
	for _, b := range f.bodies {
		if b != `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","uid":"u1"}}`+"\n" {
			t.Error(b)
		}
	}
}
