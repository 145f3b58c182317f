package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// look is what providers.Look does.
type look struct {
	mu   sync.Mutex
	kept map[any]any
}

// aLook is one that others may share.
func aLook() *look { return &look{kept: map[any]any{}} }

func (l *look) Once(key any, make func() any) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.kept[key]; !ok {
		l.kept[key] = make()
	}
	return l.kept[key]
}

var configMap = Ref{Version: "v1", Kind: "ConfigMap", Namespace: "ns"}

func refsOf(names ...string) []Ref {
	out := make([]Ref, len(names))
	for i, n := range names {
		out[i] = configMap
		out[i].Name = n
	}
	return out
}

// configMapsOf answers lists with ConfigMaps, those that bear our label or all, and GETs with one.
func configMapsOf(ours, others []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		names := ours
		if r.URL.Query().Get("labelSelector") == "" {
			names = append(append([]string{}, ours...), others...)
		}
		if name, ok := strings.CutPrefix(r.URL.Path, "/api/v1/namespaces/ns/configmaps/"); ok {
			for _, n := range names {
				if n == name {
					fmt.Fprintf(w, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"namespace":"ns","name":%q,"uid":"u-%s"}}`, n, n)
					return
				}
			}
			status(w, 404, "NotFound", "not found", fmt.Sprintf(`{"name":%q}`, name))
			return
		}
		var items []string
		for _, n := range names {
			items = append(items, fmt.Sprintf(`{"metadata":{"namespace":"ns","name":%q,"uid":"u-%s"}}`, n, n))
		}
		fmt.Fprintf(w, `{"kind":"ConfigMapList","apiVersion":"v1","metadata":{},"items":[%s]}`, strings.Join(items, ","))
	}
}

func TestALookReadsEachListOnceForAllWhoLook(t *testing.T) {
	alone(t)
	f := newServer(t, configMapsOf([]string{"a", "b"}, nil))
	one := connect(t, f.URL, nil)
	shared := aLook()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			found := one.Reads(shared).Find(context.Background(), refsOf("a", "b"))
			if found[0].Err != nil || found[0].Object.GetName() != "a" || found[1].Object.GetName() != "b" {
				t.Errorf("%+v", found)
			}
		})
	}
	wg.Wait()
	if f.count() != 1 {
		t.Errorf("%d requests", f.count())
	}
	if _, err := one.Reads(nil).Owned(context.Background(), configMap.GVK(), "ns"); err != nil || f.count() != 2 {
		t.Errorf("a look of its own: %v, %d requests", err, f.count())
	}
	// Another user must not see through the eyes of the first.
	other := connect(t, f.URL, func(c *Config) { c.Kubeconfig = writeConfig(t, f.URL, "token: other") })
	if _, err := other.Reads(shared).Owned(context.Background(), configMap.GVK(), "ns"); err != nil || f.count() != 3 {
		t.Errorf("another configuration: %v, %d requests", err, f.count())
	}
}

func TestWhatIsNotAmongOursIsLookedForOnceMore(t *testing.T) {
	alone(t)
	f := newServer(t, configMapsOf([]string{"a"}, []string{"b"}))
	found := connect(t, f.URL, nil).Reads(aLook()).Find(context.Background(), refsOf("a", "b", "c"))
	if found[0].Object == nil || found[1].Object == nil || !errors.Is(found[2].Err, ErrNotFound) || f.count() != 3 {
		t.Errorf("%+v with %d requests", found, f.count())
	}
	f = newServer(t, configMapsOf([]string{"a"}, []string{"b", "x4"}))
	found = connect(t, f.URL, nil).Reads(aLook()).Find(context.Background(), refsOf("a", "b", "x1", "x2", "x3", "x4"))
	if found[0].Object == nil || found[1].Object == nil || !errors.Is(found[2].Err, ErrNotFound) || found[5].Object == nil || f.count() != 2 {
		t.Errorf("%+v with %d requests", found, f.count())
	}
	made := refsOf("a")
	made[0].UID = "u-before"
	if found := connect(t, f.URL, nil).Reads(aLook()).Find(context.Background(), made); !errors.Is(found[0].Err, ErrNotFound) {
		t.Errorf("another object of the name: %+v", found[0])
	}
}

// A list has all objects of the namespace: a thousand applies, each with a look of its own, must not read a thousand lists of a thousand.
func TestALookThatNobodySharesAsksForALittleByName(t *testing.T) {
	alone(t)
	f := newServer(t, configMapsOf([]string{"a", "d", "e"}, []string{"b"}))
	c := connect(t, f.URL, nil)
	found := c.Reads(nil).Find(context.Background(), refsOf("a", "b", "c"))
	if found[0].Object == nil || found[1].Object == nil || !errors.Is(found[2].Err, ErrNotFound) {
		t.Errorf("%+v", found)
	}
	for _, r := range f.requests {
		if !strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/ns/configmaps/") {
			t.Errorf("a list: %s", r.URL)
		}
	}
	made := refsOf("a")
	made[0].UID = "u-before"
	if found := c.Reads(nil).Find(context.Background(), made); !errors.Is(found[0].Err, ErrNotFound) {
		t.Errorf("another object of the name: %+v", found[0])
	}
	if n := f.count(); n != 4 {
		t.Errorf("%d requests", n)
	}
	found = c.Reads(nil).Find(context.Background(), refsOf("a", "b", "d", "e"))
	if n := f.count() - 4; found[1].Object == nil || found[3].Object == nil || n != 2 {
		t.Errorf("more than a little: %+v with %d requests", found, n)
	}
}

func TestAListThatHalfFailedIsNoAbsence(t *testing.T) {
	alone(t)
	half := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("continue") == "" {
			page("more", "a")(w, r)
			return
		}
		status(w, 503, "ServiceUnavailable", "no quorum", "")
	}
	f := newServer(t, half)
	c := connect(t, f.URL, func(c *Config) { c.RetryFor = -1 })
	reads := c.Reads(aLook())
	refs := append(refsOf("a", "b"), Ref{Group: "gone", Version: "v1", Kind: "X", Namespace: "ns", Name: "x"}, Ref{Version: "v1", Kind: "ConfigMap", Namespace: "foreign", Name: "y"})
	found := reads.Find(context.Background(), refs)
	for i, f := range found[:2] {
		if f.Err == nil || Absent(f.Err) || !strings.Contains(f.Err.Error(), "no quorum") {
			t.Errorf("%s: %+v", refs[i], f)
		}
	}
	if !Absent(found[2].Err) {
		t.Errorf("a kind that the cluster does not have: %v", found[2].Err)
	}
	var denied *NamespaceError
	if !errors.As(found[3].Err, &denied) {
		t.Errorf("a namespace that is not allowed: %v", found[3].Err)
	}
	before := f.count()
	if again := reads.Find(context.Background(), refs[:1]); again[0].Err == nil || f.count() != before {
		t.Errorf("what failed once was asked again in the same look: %v", again[0].Err)
	}
}

func TestABuiltinKindIsNotDiscoveredAndItsAbsenceIsSeen(t *testing.T) {
	alone(t)
	f := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/apis/autoscaling/v2" {
			t.Error("it was discovered")
		}
		http.NotFound(w, r)
	})
	scaler := Ref{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"}
	_, err := connect(t, f.URL, nil).List(context.Background(), scaler.GVK(), "ns", Selector{})
	if !Absent(err) || errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}
