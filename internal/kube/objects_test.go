package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func page(next string, names ...string) http.HandlerFunc {
	var items []string
	for _, n := range names {
		items = append(items, fmt.Sprintf(`{"metadata":{"name":%q}}`, n))
	}
	return returns(fmt.Sprintf(`{"kind":"PodList","apiVersion":"v1","metadata":{"continue":%q},"items":[%s]}`, next, strings.Join(items, ",")))
}

func TestAListReadsAllPages(t *testing.T) {
	alone(t)
	f := newServer(t, nil, page("more", "a", "b"), page("", "c"))
	got, err := connect(t, f.URL, nil).List(context.Background(), podKind, "ns", Selector{Labels: "app=x"})
	if err != nil || len(got) != 3 || got[2].GetName() != "c" || got[0].GetKind() != "Pod" {
		t.Fatalf("%v, %v", got, err)
	}
	for i, r := range f.requests {
		q := r.URL.Query()
		if q.Get("limit") != "500" || q.Get("labelSelector") != "app=x" || q.Has("resourceVersion") || (i == 1) != (q.Get("continue") == "more") {
			t.Errorf("request %d: %s", i, r.URL)
		}
	}
}

func TestAListThatExpiredBeginsAnew(t *testing.T) {
	alone(t)
	gone := fails(410, "Expired", "the provided continue parameter is too old", "")
	f := newServer(t, nil, page("more", "a"), gone, page("more", "a"), page("", "b"))
	got, err := connect(t, f.URL, nil).List(context.Background(), podKind, "ns", Selector{})
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	f = newServer(t, nil, page("more", "a"), gone, page("more", "a"), gone)
	if _, err := connect(t, f.URL, nil).List(context.Background(), podKind, "ns", Selector{}); err == nil {
		t.Error("half of a list is no list")
	}
}

func TestADeletionMeansOneObjectAndWaitsForItsEnd(t *testing.T) {
	alone(t)
	ref := deploymentRef
	ctx := context.Background()
	if err := connect(t, "http://127.0.0.1:1", nil).Delete(ctx, ref, DeleteOptions{}); err == nil || !strings.Contains(err.Error(), "uid") {
		t.Errorf("without a uid: %v", err)
	}
	ref.UID = "u1"
	gone := fails(404, "NotFound", "not found", `{"name":"x"}`)
	f := newServer(t, nil, returns("{}"), returns(deployment), gone)
	if err := connect(t, f.URL, nil).Delete(ctx, ref, DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if f.count() != 3 || !strings.Contains(f.bodies[0], `"preconditions":{"uid":"u1"}`) || !strings.Contains(f.bodies[0], `"propagationPolicy":"Foreground"`) {
		t.Errorf("%d requests, the first %s", f.count(), f.bodies[0])
	}
	for name, answer := range map[string]http.HandlerFunc{
		"it is gone": gone,
		"another has its name": fails(409, "Conflict", `Operation cannot be fulfilled on deployments "x": the UID in the precondition (u1) does not match the UID in record (u2). `+
			`The object might have been deleted and then recreated`, `{"name":"x"}`),
	} {
		f := newServer(t, answer)
		if err := connect(t, f.URL, nil).Delete(ctx, ref, DeleteOptions{}); err != nil || f.count() != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	recreated := newServer(t, returns(strings.Replace(deployment, "u1", "u2", 1)), returns("{}"))
	if err := connect(t, recreated.URL, nil).Delete(ctx, ref, DeleteOptions{}); err != nil {
		t.Errorf("made again meanwhile: %v", err)
	}
	other := fails(409, "Conflict", "something else", "")
	f = newServer(t, other)
	if err := connect(t, f.URL, func(c *Config) { c.RetryFor = -1 }).Delete(ctx, ref, DeleteOptions{}); err == nil {
		t.Error("any other conflict is an error")
	}
	f = newServer(t, nil, other, returns("{}"), gone)
	if err := connect(t, f.URL, nil).Delete(ctx, ref, DeleteOptions{}); err != nil || f.count() != 3 {
		t.Errorf("somebody wrote meanwhile: %v after %d requests", err, f.count())
	}
}

func TestADeletionThatHangsNamesItsFinalizers(t *testing.T) {
	alone(t)
	held := strings.Replace(deployment, `"name":"x"`, `"name":"x","deletionTimestamp":"2026-11-01T10:00:00Z","finalizers":["example.com/hold","foregroundDeletion"]`, 1)
	f := newServer(t, returns(held))
	ref := deploymentRef
	ref.UID = "u1"
	err := connect(t, f.URL, nil).Delete(context.Background(), ref, DeleteOptions{Within: 500 * time.Millisecond})
	if err == nil || !strings.Contains(err.Error(), "still there after 500ms: held by finalizers example.com/hold, foregroundDeletion") {
		t.Errorf("%v", err)
	}
}

func TestAnotherObjectOfTheNameIsNotTheOneMeant(t *testing.T) {
	alone(t)
	f := newServer(t, returns(deployment))
	ref := deploymentRef
	ref.UID = "u2"
	if _, err := connect(t, f.URL, nil).Get(context.Background(), ref); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "another object") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"a/b", "..", "a?x"} {
		if _, err := connect(t, f.URL, nil).Get(context.Background(), Ref{Version: "v1", Kind: "Pod", Name: bad}); err == nil {
			t.Errorf("the name %q was sent", bad)
		}
	}
}
