package kube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	unready = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x","namespace":"ns","uid":"u1","generation":1},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"x"}}},"status":{"observedGeneration":1,"replicas":1,"updatedReplicas":1}}`
	ready   = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x","namespace":"ns","uid":"u1","generation":1},"spec":{"replicas":1,"selector":{"matchLabels":{"app":"x"}}},"status":{"observedGeneration":1,"replicas":1,"updatedReplicas":1,"readyReplicas":1,"availableReplicas":1,"conditions":[{"type":"Available","status":"True"}]}}`
	// two revisions: the pod of the old one crashes, too, but that is what is being replaced.
	sets = `{"kind":"ReplicaSetList","items":[
		{"metadata":{"name":"x-old","uid":"rs1","annotations":{"deployment.kubernetes.io/revision":"9"},"ownerReferences":[{"uid":"u1"}]}},
		{"metadata":{"name":"x-new","uid":"rs2","annotations":{"deployment.kubernetes.io/revision":"10"},"ownerReferences":[{"uid":"u1"}]}}]}`
	oldPod = `{"metadata":{"name":"x-old-1","ownerReferences":[{"uid":"rs1"}]},"status":{"containerStatuses":[{"name":"main","restartCount":5,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"exitCode":9}}}]}}`
	newPod = `{"metadata":{"name":"x-new-1","ownerReferences":[{"uid":"rs2"}]},"status":{"containerStatuses":[{"name":"main","restartCount":5,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"exitCode":3}}}]}}`
)

// world answers reads of one Deployment and what belongs to it.
func world(deployment func() string, pods string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case strings.HasSuffix(path, "/replicasets"):
			returns(sets)(w, r)
		case strings.HasSuffix(path, "/pods"):
			returns(`{"kind":"PodList","items":[`+pods+`]}`)(w, r)
		case strings.HasSuffix(path, "/log"):
			returns("Traceback\nKeyError: 'age'\n\n")(w, r)
		case strings.HasSuffix(path, "/events"):
			returns(`{"kind":"EventList","items":[]}`)(w, r)
		default:
			returns(deployment())(w, r)
		}
	}
}

func TestAWaitEndsWhenAllIsReady(t *testing.T) {
	alone(t)
	looks := 0
	f := newServer(t, world(func() string {
		if looks++; looks < 3 {
			return unready
		}
		return ready
	}, oldPod))
	var said []Progress
	err := connect(t, f.URL, nil).Wait(context.Background(), []Ref{deploymentRef}, 10*time.Second, func(p Progress) { said = append(said, p) })
	if err != nil {
		t.Fatal(err)
	}
	if len(said) != 2 || said[0].Ready || !strings.Contains(said[0].Message, "vailable: 0/1") || !said[1].Ready {
		t.Errorf("%+v", said)
	}
}

func TestAWaitEndsEarlyWithTheCauseAndTheLastLine(t *testing.T) {
	alone(t)
	f := newServer(t, world(func() string { return unready }, oldPod+","+newPod))
	start := time.Now()
	err := connect(t, f.URL, nil).Wait(context.Background(), []Ref{deploymentRef}, time.Minute, nil)
	var cause *CauseError
	if !errors.As(err, &cause) || cause.Cause.Code != CauseCrash || time.Since(start) > 10*time.Second {
		t.Fatalf("after %s: %v", time.Since(start), err)
	}
	if want := "Deployment x cannot work: pod x-new-1: container main exited with 3; its last line: KeyError: 'age'"; err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestAWaitThatIsLateSaysWhatWasMissing(t *testing.T) {
	alone(t)
	f := newServer(t, world(func() string { return unready }, ""))
	err := connect(t, f.URL, nil).Wait(context.Background(), []Ref{deploymentRef}, 300*time.Millisecond, nil)
	if err == nil || !strings.Contains(err.Error(), "not ready after 300ms: Deployment x: Available: 0/1") {
		t.Errorf("%v", err)
	}
	f = newServer(t, fails(404, "NotFound", "", `{"name":"x"}`))
	if err := connect(t, f.URL, nil).Wait(context.Background(), []Ref{deploymentRef}, time.Minute, nil); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "deleted meanwhile") {
		t.Errorf("%v", err)
	}
}

func TestAWaitOutlivesAServerThatIsAwayForAMoment(t *testing.T) {
	alone(t)
	f := newServer(t, world(func() string { return ready }, ""), reset, reset, busy, fails(503, "", "starting", ""))
	c := connect(t, f.URL, func(c *Config) { c.RetryFor = -1 })
	if err := c.Wait(context.Background(), []Ref{deploymentRef}, 10*time.Second, nil); err != nil {
		t.Error(err)
	}
}

func TestALogStreamsAndAsksForWhatIsWanted(t *testing.T) {
	alone(t)
	f := newServer(t, nil, fails(500, "", "kubelet is away", ""), returns("one\ntwo\n"))
	tail := int64(5)
	log, err := connect(t, f.URL, nil).PodLogs(context.Background(), "ns", "x", "main", LogOptions{Follow: true, Tail: &tail, Since: time.Unix(1700000000, 5), Timestamps: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	lines := bufio.NewScanner(log)
	if !lines.Scan() || lines.Text() != "one" {
		t.Errorf("%q", lines.Text())
	}
	if got, want := f.requests[1].URL.String(), "/api/v1/namespaces/ns/pods/x/log?container=main&follow=true&sinceTime=2023-11-14T22%3A13%3A20Z&tailLines=5&timestamps=true"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAProxyReachesOneTargetAndNothingElse(t *testing.T) {
	alone(t)
	f := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.URL.Path)
	})
	rt, base, err := connect(t, f.URL, nil).Proxy("ns", Target{Service: true, Name: "x", Port: "http"})
	if err != nil {
		t.Fatal(err)
	}
	hc := http.Client{Transport: rt}
	resp, err := hc.Get(base.JoinPath("v2/health/ready").String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "/api/v1/namespaces/ns/services/x:http/proxy/v2/health/ready" {
		t.Errorf("%q, %v", b, err)
	}
	for _, bad := range []string{f.URL + "/api/v1/secrets", base.String() + "../../../secrets/x", "http://127.0.0.1:1/api/v1/namespaces/ns/services/x:http/proxy/"} {
		req, err := http.NewRequest(http.MethodGet, bad, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := rt.RoundTrip(req); err == nil {
			t.Errorf("%s was sent: %v", bad, resp.Body.Close())
		}
	}
}

func TestAConditionIsWaitedFor(t *testing.T) {
	alone(t)
	state := func(seen, status string) string {
		return `{"apiVersion":"example.com/v1","kind":"Cert","metadata":{"name":"c","namespace":"ns","generation":2},"status":{"observedGeneration":` + seen + `,"conditions":[{"type":"Issued","status":"` + status + `","reason":"Pending","message":"asked the authority"}]}}`
	}
	judge := func(text, want string) Readiness {
		return Awaited{Condition: Condition{Type: "Issued", Status: want}}.judge(object(t, text))
	}
	for _, c := range []struct {
		text, want string
		ready      bool
		message    string
	}{
		{state("2", "True"), "", true, ""},
		{state("2", "False"), "False", true, ""},
		{state("1", "True"), "", false, "its controller has seen generation 1, not yet 2"},
		{state("2", "False"), "", false, "condition Issued is False, not True: Pending: asked the authority"},
		{`{"apiVersion":"example.com/v1","kind":"Cert","metadata":{"name":"c"}}`, "", false, "it has no condition Issued yet"},
	} {
		if r := judge(c.text, c.want); r.Ready != c.ready || r.Message != c.message {
			t.Errorf("%s: %+v", c.text, r)
		}
	}
}
