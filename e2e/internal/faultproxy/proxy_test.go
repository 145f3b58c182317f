package faultproxy

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// setup is a server with TLS, a proxy before it, and a client of that.
func setup(t *testing.T, http2 bool, answer http.HandlerFunc) (*Proxy, *http.Client) {
	t.Helper()
	server := httptest.NewTLSServer(answer)
	t.Cleanup(server.Close)
	upstream, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	p := New(Options{Upstream: upstream, TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, HTTP2: http2})
	t.Cleanup(p.Close)
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(p.CA()) {
		t.Fatal("the proxy has no certificate")
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return p, &http.Client{Transport: tr, Timeout: 5 * time.Second}
}

// ask sends a request whose body keeps a client from sending it twice by itself.
func ask(t *testing.T, c *http.Client, method, address string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, io.NopCloser(strings.NewReader("{}")))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s%s", resp.StatusCode, resp.Header.Get("Retry-After"), body), err
}

func TestEachFaultIsWhatItSaysAndTheServerDidWhatItSays(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for _, test := range []struct {
			fault  Fault
			did    int32
			breaks bool
			says   string
		}{
			{fault: Fault{}, did: 1, says: "200 done"},
			{fault: Fault{Kind: Refuse, Code: 429, RetryAfter: 7, Message: "busy"}, says: `429 7{"apiVersion":"v1","code":429`},
			{fault: Fault{Kind: ResetBefore}, breaks: true},
			{fault: Fault{Kind: ResetAfter}, did: 1, breaks: true},
			{fault: Fault{Kind: Truncate}, did: 1, breaks: true, says: "200 do"},
			{fault: Fault{Kind: Slow, After: 10 * time.Millisecond}, did: 1, says: "200 done"},
		} {
			t.Run(fmt.Sprintf("%q, HTTP/2 %t", test.fault.Kind, http2), func(t *testing.T) {
				var did atomic.Int32
				p, c := setup(t, http2, func(w http.ResponseWriter, _ *http.Request) {
					did.Add(1)
					fmt.Fprint(w, "done")
				})
				p.Set(Rule{Verbs: []string{"apply"}, Resources: []string{"jobs"}, Count: 1, Fault: test.fault})
				out, err := ask(t, c, http.MethodPatch, p.URL()+"/apis/batch/v1/namespaces/ns/jobs/j")
				if (err != nil) != test.breaks || !strings.HasPrefix(out, test.says) || did.Load() != test.did {
					t.Errorf("%q, %v; the server was asked %d times", out, err, did.Load())
				}
				if out, err := ask(t, c, http.MethodPatch, p.URL()+"/apis/batch/v1/namespaces/ns/jobs/j"); err != nil || out != "200 done" {
					t.Errorf("the second: %q, %v", out, err)
				}
			})
		}
	}
}

func TestAStreamIsPassedOnAsItComesAndBrokenInTheMiddle(t *testing.T) {
	more := make(chan struct{})
	p, c := setup(t, true, func(w http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "%d\n", i)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			select {
			case <-more:
			case <-r.Context().Done():
				return
			}
		}
	})
	read := func() (string, error) {
		resp, err := c.Get(p.URL() + "/api/v1/namespaces/ns/pods?watch=true")
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		piece := make([]byte, 2)
		if _, err := io.ReadFull(resp.Body, piece); err != nil {
			return "", err
		}
		more <- struct{}{} // the first piece is here although there will be more
		rest := make(chan struct{})
		defer close(rest)
		go func() {
			for {
				select {
				case more <- struct{}{}:
				case <-rest:
					return
				}
			}
		}()
		all, err := io.ReadAll(resp.Body)
		return string(piece) + string(all), err
	}
	if out, err := read(); err != nil || out != "0\n1\n2\n" {
		t.Errorf("%q, %v", out, err)
	}
	p.Set(Rule{Verbs: []string{"watch"}, Fault: Fault{Kind: Truncate}})
	if out, err := read(); err == nil {
		t.Errorf("it was not broken: %q", out)
	}
	if p.Faults() != 1 {
		t.Errorf("%v", p.Seen())
	}
}

func TestRequestsAreCountedByWhatTheyAreAbout(t *testing.T) {
	for line, want := range map[string]string{
		"GET /api/v1": "discover", "GET /apis/batch/v1/namespaces/ns/jobs?limit=5": "list jobs", "GET /api/v1/namespaces/ns": "get namespaces ns",
		"GET /api/v1/namespaces/ns/pods/p/log": "get pods/log p", "PUT /api/v1/namespaces/ns/pods/p:80/proxy/weights": "update pods/proxy p:80",
		"DELETE /apis/apps/v1/namespaces/ns/deployments/d": "delete deployments d", "GET /api/v1/nodes?watch=true": "watch nodes",
		"GET /readyz": "discover", "PUT /v2/a/b/manifests/latest": "put manifests latest", "POST /v2/a/b/blobs/uploads/": "post uploads",
		"HEAD /v2/a/b/blobs/sha256:1": "head blobs sha256:1",
	} {
		method, address, _ := strings.Cut(line, " ")
		if got := parse(httptest.NewRequest(method, address, nil)).String(); got != want {
			t.Errorf("%s is %q, want %q", line, got, want)
		}
	}
	c := counted{Rule: Rule{First: 1, Count: 2}, per: map[string]int{}}
	var got []bool
	for range 5 {
		got = append(got, c.meets(Request{Verb: "get", Resource: "pods", Name: "a"}))
	}
	if fmt.Sprint(got) != "[false true true false false]" || c.meets(Request{Verb: "get", Resource: "pods", Name: "b"}) {
		t.Errorf("%v", got)
	}
}

func TestWithoutAnUpstreamItIsAProxyForAnyHost(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "registry") }))
	defer server.Close()
	p := New(Options{})
	defer p.Close()
	at, err := url.Parse(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(at)}
	defer tr.CloseIdleConnections()
	out, err := ask(t, &http.Client{Transport: tr}, http.MethodGet, server.URL+"/v2/r/manifests/x")
	if err != nil || out != "200 registry" || len(p.Seen()) != 1 {
		t.Errorf("%q, %v, %v", out, err, p.Seen())
	}
}
