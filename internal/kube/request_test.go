package kube

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const deployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x","namespace":"ns","uid":"u1","resourceVersion":"7"}}`

var deploymentRef = Ref{Group: "apps", Version: "v1", Kind: "Deployment", Name: "x"}

func busy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, "Too many requests, please try again later.", http.StatusTooManyRequests)
}

func TestAnswersThatPassByThemselvesAreWaitedOut(t *testing.T) {
	for name, test := range map[string]struct {
		fault http.HandlerFunc
		least time.Duration
	}{
		"429 with Retry-After": {busy, time.Second},
		"500":                  {fails(500, "InternalError", "etcdserver: leader changed", ""), 0},
		"503":                  {fails(503, "ServiceUnavailable", "apiserver is shutting down", ""), 0},
		"a reset":              {reset, 0},
		"an answer too slow":   {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			alone(t)
			f := newServer(t, returns(deployment), test.fault, test.fault)
			c := connect(t, f.URL, func(c *Config) { c.AnswerWithin = 100 * time.Millisecond })
			start := time.Now()
			u, err := c.Get(context.Background(), deploymentRef)
			if err != nil || u.GetName() != "x" {
				t.Fatalf("%v", err)
			}
			if f.count() != 3 {
				t.Errorf("%d requests, want 3", f.count())
			}
			if took := time.Since(start); took < test.least {
				t.Errorf("it took %s, the server asked for more", took)
			}
			if ua := f.requests[0].UserAgent(); ua != "continuo/1.2.3" {
				t.Errorf("user agent %q", ua)
			}
		})
	}
}

func TestAnApplyIsRepeatedAfterAReset(t *testing.T) {
	alone(t)
	f := newServer(t, returns(deployment), reset, fails(409, "Conflict", "the object has been modified", ""))
	a, err := connect(t, f.URL, nil).Apply(context.Background(), object(t, deployment), ApplyOptions{})
	if err != nil || a.Ref.UID != "u1" {
		t.Fatalf("%+v, %v", a, err)
	}
	if f.count() != 3 || f.bodies[0] != f.bodies[2] {
		t.Errorf("%d requests: %q", f.count(), f.bodies)
	}
}

func TestItGivesUpAndSaysWhatTheServerAskedFor(t *testing.T) {
	alone(t)
	f := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		http.Error(w, "draining", http.StatusServiceUnavailable)
	})
	start := time.Now()
	_, err := connect(t, f.URL, nil).Get(context.Background(), deploymentRef)
	var again *Retryable
	if !errors.As(err, &again) || again.After != time.Hour || !strings.Contains(err.Error(), "503: draining") {
		t.Errorf("%v", err)
	}
	if time.Since(start) > 3*time.Second || f.count() != 1 {
		t.Errorf("it waited %s with %d requests for what cannot come in time", time.Since(start), f.count())
	}
}

func TestAFieldThatTheServerDoesNotKnowIsToldAtOnce(t *testing.T) {
	f := newServer(t, fails(500, "InternalError", "failed to create typed patch object (ns/x; apps/v1, Kind=Deployment): .spec.nonsense: field not declared in schema", ""))
	_, err := connect(t, f.URL, nil).Apply(context.Background(), object(t, deployment), ApplyOptions{})
	var again *Retryable
	if err == nil || errors.As(err, &again) || f.count() != 1 || !strings.Contains(err.Error(), ".spec.nonsense: field not declared in schema") {
		t.Errorf("after %d requests: %v", f.count(), err)
	}
}

func TestCancellingEndsARetryAtOnce(t *testing.T) {
	alone(t)
	f := newServer(t, busy)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := connect(t, f.URL, nil).Get(ctx, deploymentRef)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 900*time.Millisecond {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   []string
		is     func(error) bool
	}{
		"a missing right": {fails(403, "Forbidden", `deployments.apps "x" is forbidden: User "ci" cannot patch resource "deployments" in API group "apps" in the namespace "ns"`, `{"name":"x","kind":"deployments"}`),
			[]string{"the right to patch deployments.apps in namespace ns is missing", "deploy/rbac.yaml", `User "ci"`}, is[*ForbiddenError]},
		"a quota": {fails(403, "Forbidden", `pods "x" is forbidden: exceeded quota: q, requested: cpu=2, used: cpu=1, limited: cpu=2`, ""),
			[]string{"exceeded quota: q"}, is[*QuotaError]},
		"a namespace that goes": {fails(403, "Forbidden", `cannot: unable to create new content in namespace ns because it is being terminated`, `{"causes":[{"reason":"NamespaceTerminating"}]}`),
			[]string{"namespace ns is being deleted"}, is[*TerminatingError]},
		"a namespace that is not there": {fails(404, "NotFound", `namespaces "ns" not found`, `{"name":"ns","kind":"namespaces"}`), []string{"kubectl create namespace ns"}, nil},
		"refused credentials":           {fails(401, "Unauthorized", "Unauthorized", ""), []string{"refuses the credentials of context \"main\""}, nil},
		"a webhook": {fails(403, "Forbidden", `admission webhook "policy" denied the request: no latest tags`, ""), []string{"no latest tags"},
			func(err error) bool { return !is[*ForbiddenError](err) }},
		"an invalid field": {fails(422, "Invalid", `Deployment.apps "x" is invalid: spec.replicas: Invalid value: -1`, ""), []string{"apply Deployment ns/x", "spec.replicas"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			alone(t)
			f := newServer(t, test.answer)
			_, err := connect(t, f.URL, nil).Apply(context.Background(), object(t, deployment), ApplyOptions{})
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range test.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the error lacks %q: %v", w, err)
				}
			}
			if test.is != nil && !test.is(err) {
				t.Errorf("another type of error: %T %v", err, err)
			}
			if f.count() != 1 {
				t.Errorf("%d requests for what no repetition mends", f.count())
			}
		})
	}
}

func is[T error](err error) bool {
	var e T
	return errors.As(err, &e)
}

func TestAKindThatTheClusterLacksIsNamed(t *testing.T) {
	alone(t)
	f := newServer(t, returns("{}"))
	for _, ref := range []Ref{{Group: "gone", Version: "v1", Kind: "InferenceService", Name: "x"}, {Group: "apps", Version: "v1", Kind: "Rocket", Name: "x"}} {
		_, err := connect(t, f.URL, nil).Get(context.Background(), ref)
		if !is[*MissingKindError](err) || !strings.Contains(err.Error(), "no kind "+ref.Kind+" in "+ref.Group+"/v1") {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	alone(t)
	elsewhere := newServer(t, returns(deployment))
	f := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/x", http.StatusFound)
	})
	if _, err := connect(t, f.URL, nil).Get(context.Background(), deploymentRef); err == nil || elsewhere.count() != 0 {
		t.Errorf("%v; %d requests elsewhere", err, elsewhere.count())
	}
}

// An API server that has just come back refuses for a moment what it allows: it has not read its roles yet.
func TestARefusalIsWaitedOutWhereTheRightWasUsedOrTheServerWasAway(t *testing.T) {
	denied := fails(403, "Forbidden", "deployments.apps \"x\" is forbidden: User \"u\" cannot get resource \"deployments\" in API group \"apps\" in the namespace \"ns\"", "")
	for name, script := range map[string][]http.HandlerFunc{
		"after it was allowed":      {returns(deployment), denied, denied},
		"after the server was away": {reset, denied, denied, returns(deployment)},
	} {
		t.Run(name, func(t *testing.T) {
			alone(t)
			c := connect(t, newServer(t, returns(deployment), script...).URL, nil)
			for range 2 {
				if _, err := c.Get(context.Background(), deploymentRef); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestARefusalOfAServerThatIsNotReadyIsWaitedOut(t *testing.T) {
	alone(t)
	denied := fails(403, "Forbidden", "deployments.apps \"x\" is forbidden: User \"u\" cannot get resource \"deployments\" in API group \"apps\" in the namespace \"ns\"", "")
	f := newServer(t, returns(deployment), denied, denied)
	f.starting.Store(true)
	if _, err := connect(t, f.URL, nil).Get(context.Background(), deploymentRef); err != nil || f.count() != 3 {
		t.Errorf("%d requests, %v", f.count(), err)
	}
}

// One that was never allowed is told at once, and one that was taken away is told in the end, as what it is.
func TestARightThatIsMissingIsToldAsSuch(t *testing.T) {
	denied := fails(403, "Forbidden", "deployments.apps \"x\" is forbidden: User \"u\" cannot get resource \"deployments\" in API group \"apps\" in the namespace \"ns\"", "")
	alone(t)
	f := newServer(t, denied)
	c := connect(t, f.URL, nil)
	var missing *ForbiddenError
	var again *Retryable
	if _, err := c.Get(context.Background(), deploymentRef); !errors.As(err, &missing) || errors.As(err, &again) || f.count() != 1 {
		t.Errorf("%d requests, %v", f.count(), err)
	}
	f = newServer(t, denied, returns(deployment))
	c = connect(t, f.URL, func(c *Config) { c.RetryFor = 300 * time.Millisecond })
	if _, err := c.Get(context.Background(), deploymentRef); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(context.Background(), deploymentRef); !errors.As(err, &missing) || errors.As(err, &again) || f.count() < 3 {
		t.Errorf("%d requests, %v", f.count(), err)
	}
}

// silent answers after the client has given up.
func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func TestAFirstAnswerThatNeverCameLeavesTimeForASecondTry(t *testing.T) {
	alone(t)
	short := func(c *Config) { c.AnswerWithin, c.RetryFor = 400*time.Millisecond, 300*time.Millisecond }
	f := newServer(t, returns(deployment), silent)
	if _, err := connect(t, f.URL, short).Get(context.Background(), deploymentRef); err != nil || f.count() != 2 {
		t.Errorf("%d requests, %v", f.count(), err)
	}
	f = newServer(t, returns("a line\n"), silent)
	log, err := connect(t, f.URL, short).PodLogs(context.Background(), "ns", "x", "main", LogOptions{Follow: true})
	if err != nil || f.count() != 2 {
		t.Fatalf("%d requests, %v", f.count(), err)
	}
	text, err := io.ReadAll(log)
	if err != nil || string(text) != "a line\n" {
		t.Errorf("%q, %v", text, err)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	_, err = connect(t, newServer(t, silent).URL, short).Get(context.Background(), deploymentRef)
	if err == nil || !strings.Contains(err.Error(), "no answer within 400ms (try again later)") && !strings.Contains(err.Error(), "no answer within 400ms (tried 2 times; try again later)") {
		t.Errorf("%v", err)
	}
}
