package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// watchServer is an API server of which a test writes what a watch sees. Each list and each watch takes the next of its script.
type watchServer struct {
	*fakeServer
	mu     sync.Mutex
	lists  []http.HandlerFunc
	opened []http.HandlerFunc
	asked  []string // "list" or "watch from VERSION"
}

func watchable(t *testing.T) (*watchServer, *Client) {
	t.Helper()
	s := &watchServer{fakeServer: newServer(t, fails(404, "NotFound", "deployments \"x\" not found", `{"name":"x"}`))}
	s.watch = func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		what, from := "list", &s.lists
		if q.Get("watch") != "" {
			what, from = "watch from "+q.Get("resourceVersion"), &s.opened
		}
		s.mu.Lock()
		s.asked = append(s.asked, what)
		h := hangs
		if len(*from) > 0 {
			h, *from = (*from)[0], (*from)[1:]
		}
		s.mu.Unlock()
		h(w, r)
	}
	return s, connect(t, s.URL, func(c *Config) { c.RetryFor = 500 * time.Millisecond })
}

func (s *watchServer) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.asked, ", ")
}

// hangs is a watch of which nothing is heard.
func hangs(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(200)
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func named(name, version, more string) string {
	return fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":%q,"namespace":"ns","resourceVersion":%q,"labels":{"n":%q}}%s}`, name, version, name, more)
}

func listing(version string, items ...string) http.HandlerFunc {
	return returns(fmt.Sprintf(`{"metadata":{"resourceVersion":%q},"items":[%s]}`, version, strings.Join(items, ",")))
}

// events are a watch that says these, and ends or goes on.
func events(goOn bool, list ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, e := range list {
			kind, object, _ := strings.Cut(e, " ")
			fmt.Fprintf(w, `{"type":%q,"object":%s}`+"\n", kind, object)
		}
		w.(http.Flusher).Flush()
		if goOn {
			<-r.Context().Done()
		}
	}
}

var watchedDeployments = Watched{Kind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, Namespace: "ns", Selector: One(Ref{Name: "a"}).Selector}

// follows watches until told changes enough have been seen; they come as "NAME", "NAME gone", "listed N", "open", "broken".
func follows(t *testing.T, c *Client, enough int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []string
	told := func(text string) {
		if got = append(got, text); len(got) >= enough {
			cancel()
		}
	}
	err := c.Watch(ctx, watchedDeployments, Handler{
		Listed: func(all []*unstructured.Unstructured) { told(fmt.Sprintf("listed %d", len(all))) },
		Open:   func() { told("open") },
		Broken: func(error) { told("broken") },
		Changed: func(u *unstructured.Unstructured, gone bool) {
			if told(u.GetName() + map[bool]string{true: " gone"}[gone]); u.GetKind() != "Deployment" {
				t.Errorf("a %s", u.GetKind())
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v after %q", err, got)
	}
	return got
}

func TestAWatchGoesOnWhereItBrokeAndListsAnewWhatTheServerHasForgotten(t *testing.T) {
	s, c := watchable(t)
	s.lists = []http.HandlerFunc{listing("5", named("a", "3", "")), listing("20")}
	s.opened = []http.HandlerFunc{
		events(false, "ADDED "+named("b", "6", ""), "BOOKMARK "+named("", "9", "")),
		fails(503, "ServiceUnavailable", "shutting down", ""),
		events(false, "DELETED "+named("b", "10", ""), `ERROR {"kind":"Status","code":410,"reason":"Expired","message":"too old resource version"}`),
		events(true, "MODIFIED "+named("a", "21", "")),
	}
	got := strings.Join(follows(t, c, 9), ", ")
	if got != "listed 1, open, b, broken, open, b gone, listed 0, open, a" {
		t.Errorf("it told %s", got)
	}
	if got := s.said(); got != "list, watch from 5, watch from 9, watch from 9, list, watch from 20" {
		t.Errorf("it asked: %s", got)
	}
}

func TestAWatchThatIsNotAllowedEndsAndIsNotAskedForAgain(t *testing.T) {
	s, c := watchable(t)
	s.lists = []http.HandlerFunc{listing("5")}
	s.opened = []http.HandlerFunc{fails(403, "Forbidden", `deployments is forbidden: User "u" cannot watch resource`, "")}
	h := Handler{Listed: func([]*unstructured.Unstructured) {}, Open: func() { t.Error("it stands") }, Broken: func(err error) { t.Error(err) }}
	var denied *ForbiddenError
	for range 2 {
		if err := c.Watch(t.Context(), watchedDeployments, h); !errors.As(err, &denied) || denied.Verb != "watch" {
			t.Errorf("error %v", err)
		}
	}
	if got := s.said(); got != "list, watch from 5" {
		t.Errorf("it asked: %s", got)
	}
	other := watchedDeployments
	other.Namespace = "elsewhere"
	var outside *NamespaceError
	if err := c.Watch(t.Context(), other, h); !errors.As(err, &outside) {
		t.Errorf("outside of what is allowed: %v", err)
	}
}

func TestABellRingsWhenSomethingMovesAndSaysWhenNobodyWouldTell(t *testing.T) {
	s, c := watchable(t)
	move := make(chan struct{})
	s.lists = []http.HandlerFunc{listing("5")}
	s.opened = []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
		hijacked := events(false)
		hijacked(w, r)
		<-move
		events(false, "MODIFIED "+named("a", "6", ""))(w, r)
		<-move
	}, fails(403, "Forbidden", `deployments is forbidden: User "u" cannot watch resource`, "")}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := c.Bell(ctx, watchedDeployments)
	heard := func(what string) {
		t.Helper()
		select {
		case <-b.C():
		case <-time.After(10 * time.Second):
			t.Fatal(what)
		}
	}
	heard("it does not ring when it stands")
	if !b.Stands() || b.Next(time.Second) != seldom {
		t.Errorf("stands: %v, next look in %s", b.Stands(), b.Next(time.Second))
	}
	if b.Hurry(2 * time.Second); b.Next(time.Second) != 2*time.Second {
		t.Errorf("in a hurry, the next look is in %s", b.Next(time.Second))
	}
	b.Hurry(0)
	move <- struct{}{}
	heard("it does not ring when something moves")
	close(move)
	for end := time.Now().Add(10 * time.Second); b.Stands(); {
		heard("it does not ring when it breaks")
		if time.Now().After(end) {
			t.Fatal("it stands although it may not watch any more")
		}
	}
	if b.Next(time.Second) != time.Second {
		t.Errorf("without a watch, the next look is in %s", b.Next(time.Second))
	}
	var none *Bell
	if none.Stands() || none.C() != nil || none.Next(time.Second) != time.Second {
		t.Error("no bell is one")
	}
}

func TestNoticesTellWhatMovesAPlanAlsoWhatMovedWhileNobodyCouldSee(t *testing.T) {
	s, c := watchable(t)
	ready := `,"spec":{"replicas":1},"status":{"observedGeneration":0,"replicas":%d,"updatedReplicas":%d,"readyReplicas":%d,"availableReplicas":%d,"conditions":[{"type":"Available","status":"True"}]}`
	up := func(n int) string { return fmt.Sprintf(ready, n, n, n, n) }
	s.lists = []http.HandlerFunc{
		listing("5", named("a", "3", up(1)), named("b", "4", up(1)), named("c", "4", up(1))),
		listing("20", named("a", "19", `,"spec":{"replicas":4}`), named("c", "4", up(1))),
	}
	s.opened = []http.HandlerFunc{
		events(false, "MODIFIED "+named("a", "6", strings.Replace(up(1), `"status":{`, `"status":{"counted":7,`, 1)), "MODIFIED "+named("c", "7", up(0)), "MODIFIED "+named("c", "8", up(1)),
			`ERROR {"kind":"Status","code":410,"reason":"Expired","message":"too old resource version"}`),
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := make(chan string, 100)
	tell := func(n Notice) {
		if n.Object == nil {
			told <- "all"
			return
		}
		told <- n.Object.GetName()
	}
	n := c.Notices(nil)
	if err := n.Named(ctx, Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "ns", Name: "a"}, tell); err != nil {
		t.Fatal(err)
	}
	// c fell and came back; a counted, which is nothing; then nobody looked, a was scaled and b was deleted.
	for i, want := range []string{"c", "c", "a", "all"} {
		select {
		case got := <-told:
			if got != want {
				t.Errorf("%d: told %s, want %s", i, got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("not told of %s", want)
		}
	}
	if err := n.Named(ctx, Ref{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: "ns", Name: "a"}, tell); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(s.said(), "list"); got != 2 {
		t.Errorf("two who ask for the same make %d lists", got)
	}
}
