package local

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/providertest"
	"github.com/continuo-ml/continuo/providers/runs"
)

func testNotifier(t *testing.T) *notifier {
	return &notifier{Workspace: &runs.Workspace{Env: providertest.Env(t.TempDir())}}
}

func alert(t *testing.T, spec config.Notifier) providers.NotifyRequest {
	return providers.NotifyRequest{
		Spec: providertest.Encoded(t, spec), Title: "monitor.tumors.drift is bad", Key: `monitor.tumors["é"].drift/bad/1`,
		Body: map[string]any{"address": "monitor.tumors", "epoch": 1, "evidence": json.RawMessage(`{"share":0.5}`)},
	}
}

func TestAWebhookGetsTheAlertSigned(t *testing.T) {
	t.Parallel()
	var got map[string]any
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mac := hmac.New(sha256.New, []byte("s3cret"))
		mac.Write(body)
		if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); r.Header.Get("ML-Signature") != want {
			t.Errorf("signature %q, want %q", r.Header.Get("ML-Signature"), want)
		}
		if k := r.Header.Get("ML-Delivery"); k != `monitor.tumors["%C3%A9"].drift/bad/1` {
			t.Errorf("delivery %q", k)
		}
		if err := json.Unmarshal(body, &got); err != nil || r.Method != http.MethodPost || r.URL.Query().Get("token") != "t0ken" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer srv.Close()
	req := alert(t, config.Notifier{Type: "webhook", URL: srv.URL + "/ml?token=t0ken", Secret: "s3cret"})
	if err := testNotifier(t).Notify(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if got["title"] != req.Title || got["key"] != req.Key || got["address"] != "monitor.tumors" {
		t.Errorf("body %v", got)
	}
}

func TestAWebhookThatMayAcceptLaterIsRetryable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		after  string
		retry  bool
		wait   time.Duration
	}{
		"too many requests, in seconds": {429, "7", true, 7 * time.Second},
		"busy, with a date":             {503, providertest.Now.Add(90 * time.Second).Format(http.TimeFormat), true, 90 * time.Second},
		"broken, without a word":        {500, "", true, 0},
		"refused":                       {403, "5", false, 0},
		"gone":                          {410, "", false, 0},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", c.after)
			w.WriteHeader(c.status)
		}))
		err := testNotifier(t).Notify(t.Context(), alert(t, config.Notifier{Type: "webhook", URL: srv.URL}))
		srv.Close()
		var again *providers.RetryableError
		if retry := errors.As(err, &again); err == nil || retry != c.retry {
			t.Errorf("%s: %v", name, err)
		} else if retry && again.After != c.wait {
			t.Errorf("%s: wait %s, want %s", name, again.After, c.wait)
		}
	}
}

func TestAnAlertStaysWithTheHostThatWasNamed(t *testing.T) {
	t.Parallel()
	stolen := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen++ }))
	defer other.Close()
	arrived := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/here":
			http.Redirect(w, r, "/final", http.StatusPermanentRedirect)
		case "/get":
			http.Redirect(w, r, "/final", http.StatusFound)
		default:
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			arrived = r.Method + " " + string(body)
		}
	}))
	defer srv.Close()
	n := testNotifier(t)
	for _, path := range []string{"/away", "/get"} {
		if err := n.Notify(t.Context(), alert(t, config.Notifier{Type: "webhook", URL: srv.URL + path})); err == nil {
			t.Errorf("%s counts as delivered", path)
		}
	}
	if stolen != 0 || arrived != "" {
		t.Errorf("another host got %d alerts; %q arrived", stolen, arrived)
	}
	if err := n.Notify(t.Context(), alert(t, config.Notifier{Type: "webhook", URL: srv.URL + "/here"})); err != nil || !strings.HasPrefix(arrived, `POST {"address"`) {
		t.Errorf("%q, %v", arrived, err)
	}
}

func TestNoErrorRepeatsTheAddress(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/t0ken/loop" {
			w.Header().Set("Location", "http://[t0ken/loop")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		http.Error(w, r.URL.String(), http.StatusForbidden)
	}))
	defer srv.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		ctx context.Context
		url string
	}{
		{t.Context(), srv.URL + "/t0ken?x=t0ken"}, {t.Context(), srv.URL + "/t0ken/loop"}, {t.Context(), closed.URL + "/t0ken"},
		{t.Context(), strings.Replace(closed.URL, "//", "//user:t0ken@", 1)}, {t.Context(), "http://t0ken.invalid:bad/t0ken"}, {t.Context(), "ftp://t0ken"}, {ctx, srv.URL + "/t0ken"},
	} {
		err := testNotifier(t).Notify(c.ctx, alert(t, config.Notifier{Type: "webhook", URL: c.url}))
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, err), "t0ken") {
			t.Errorf("error %v", err)
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			var u *url.Error
			if errors.As(e, &u) {
				t.Errorf("the error still holds %v", u)
			}
		}
		if c.ctx.Err() != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
}

func TestAnAlertIsLoggedOnceAlsoAfterACrash(t *testing.T) {
	t.Parallel()
	n := testNotifier(t)
	req := alert(t, config.Notifier{Type: "log"})
	path := filepath.Join(n.Dir, alertsFile)
	tell := func(key string) {
		t.Helper()
		req.Key = key
		if err := n.Notify(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	tell("a/1")
	tell("a/1") // killed before it was noted
	tell("b/1")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"key":"a/2","title":"to`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	tell("a/2")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for line := range strings.Lines(string(data)) {
		var l struct{ Key, Title string }
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Title != req.Title {
			t.Errorf("line %q: %v", line, err)
		}
		keys = append(keys, l.Key)
	}
	if fmt.Sprint(keys) != "[a/1 b/1 a/2]" {
		t.Errorf("keys %v", keys)
	}
}

func TestALongAlertLosesItsEvidence(t *testing.T) {
	t.Parallel()
	req := alert(t, config.Notifier{Type: "log"})
	req.Body["evidence"] = strings.Repeat("x", maxAlert)
	body, err := alertBody(req)
	if err != nil || len(body) > 1000 || !strings.Contains(string(body), `"evidence_omitted":true`) {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	req.Body["message"] = strings.Repeat("x", maxAlert)
	if _, err := alertBody(req); err == nil {
		t.Error("a body over the limit was made")
	}
}
