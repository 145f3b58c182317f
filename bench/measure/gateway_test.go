package main

import (
	"bufio"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const wrkOutput = `Running 3s test @ http://127.0.0.1:1/x
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.02ms    2.11ms  38.99ms   97.63%
    Req/Sec    19.60k     4.27k   26.86k    80.00%
  Latency Distribution
     50%  748.50us
     75%    1.00ms
     90%    1.37ms
     99%    8.62ms
  58566 requests in 3.00s, 19.99MB read
Requests/sec:  19512.25
Transfer/sec:      6.66MB
`

func TestWhatWrkPrintsIsRead(t *testing.T) {
	for text, p50 := range map[string]float64{"748.50us": 748.5, "1.25ms": 1250, "2.00s": 2e6} {
		l, requests, err := parseWrk(strings.Replace(wrkOutput, "748.50us", text, 1))
		if err != nil || l.rate != 19512.25 || l.p50 != p50 || requests != 58566 {
			t.Errorf("%s: %+v, %v requests, %v", text, l, requests, err)
		}
	}
}

func TestASampleWithFailuresIsRefused(t *testing.T) {
	for _, bad := range []string{
		wrkOutput + "  Non-2xx or 3xx responses: 58566\n", wrkOutput + "  Socket errors: connect 0, read 1, write 0, timeout 0\n",
		"", strings.Replace(wrkOutput, "50%", "51%", 1),
	} {
		if l, _, err := parseWrk(bad); err == nil {
			t.Errorf("%q is a sample: %+v", bad, l)
		}
	}
}

func TestGatewayTargetsAreJudged(t *testing.T) {
	unknown := math.NaN()
	slow := map[string]load{
		frontGateway: {890, 1500, 40, unknown}, frontReverseProxy: {1000, 600, unknown, unknown}, frontTuned: {1, 1, unknown, unknown},
		frontModel: {9000, 400, unknown, unknown},
	}
	fast := map[string]load{
		frontGateway: {900, 1300, 40, 0.1}, frontReverseProxy: {1000, 600, 50, 0.2}, frontTuned: {1, 1, 1, 1},
		frontModel: {9000, 400, unknown, 0.3}, frontNginx: {2000, 300, 20, 0},
	}
	got := render(gatewayRows("load", slow), "")
	for _, want := range []string{"≥ 90 %: **not met**", "< 1 ms added: **not met**", "| load, beside nginx | not measured: nginx is not installed", "1100 µs added"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	got = render(gatewayRows("load", fast), "")
	for _, want := range []string{"≥ 90 %: met", "< 1 ms added: met", "nginx: 2000 requests/s, median 300 µs, 20 µs CPU a request | 45 %"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestTheProcessTableIsReadWhateverANameHolds(t *testing.T) {
	if got := statSeconds("7 (a) b (c) S 1 7 7 0 -1 4 1 0 0 0 150 50 3 3 20 0"); got != 2 {
		t.Errorf("%v s, want 2", got)
	}
	for _, bad := range []string{"", "7 (x) S 1", "7 (x) S 1 7 7 0 -1 4 1 0 0 0 a b 3"} {
		if got := statSeconds(bad); !math.IsNaN(got) {
			t.Errorf("statSeconds(%q) = %v, want NaN", bad, got)
		}
	}
}

func TestTheModelAnswersEveryRequestOfAConnection(t *testing.T) {
	if len(requestBody) != 200 || len(answerBody) != 200 {
		t.Fatalf("bodies of %d and %d bytes", len(requestBody), len(answerBody))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- serveModel(l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	post := "POST /x HTTP/1.1\r\nHost: m\r\ncontent-length: 200\r\n\r\n" + requestBody
	if _, err := io.WriteString(c, post+"GET / HTTP/1.1\r\nHost: m\r\n\r\n"+post); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(c)
	for i := range 3 {
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != answerBody {
			t.Errorf("answer %d: %q, %v", i, body, err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
