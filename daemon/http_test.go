package daemon

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/daemon/internal/status"
)

// quiet is a daemon that does not run, with tokens, and its face.
func quiet(t *testing.T) (*Daemon, *httptest.Server) {
	t.Helper()
	t.Setenv("T_READ", "the-read-token")
	t.Setenv("T_WRITE", "the-write-token")
	dir := t.TempDir()
	file := filepath.Join(dir, "daemon.hcl")
	if err := os.WriteFile(file, []byte("tokens {\n read_env = \"T_READ\"\n write_env = \"T_WRITE\"\n}\nrepository \"r\" { url = \"/nowhere\" }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf, _, diags := Load(file)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	d, err := New(conf, Options{Version: "test", Environ: os.Environ, Now: time.Now, Log: slog.New(slog.DiscardHandler), Forges: NewForge})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(d.Handler())
	t.Cleanup(srv.Close)
	return d, srv
}

func call(t *testing.T, srv *httptest.Server, method, path string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, srv.URL+path, nil) //nolint:noctx // a test of a server of its own
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	client := &http.Client{Timeout: 5 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	var body []byte
	if resp.Header.Get("Content-Type") != "text/event-stream" { // which has no end
		body, err = io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	}
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

// Every route of the table is asked with every kind of token, so that a new one cannot be open by accident.
func TestEveryRouteWantsItsRight(t *testing.T) {
	d, srv := quiet(t)
	shown := map[string]right{"": open, "wrong": open, "the-read-token": read, "the-write-token": write}
	anybody := []string{"GET /healthz", "GET /readyz", "POST /hooks/{repo}", "GET /web/{file}"}
	for _, route := range slices.Concat(d.routes(), d.pages()) {
		if route.right == open && !slices.Contains(anybody, route.pattern) {
			t.Errorf("%s is open to anybody", route.pattern)
		}
		method, path, _ := strings.Cut(route.pattern, " ")
		path = strings.NewReplacer("{$}", "", "{repo}", "r", "{address}", "training.t", "{plan}", "abcd", "{file}", "style.css", "{run}", "01RUN").Replace(path)
		for token, has := range shown {
			resp, body := call(t, srv, method, path, func(r *http.Request) {
				if token != "" {
					bearer(token)(r)
				}
			})
			refused := resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden
			if strings.HasPrefix(path, "/hooks/") {
				refused = false // it has a guard of its own
			}
			if refused != (has < route.right) {
				t.Errorf("%s with %q: %d %s", route.pattern, token, resp.StatusCode, body)
			}
		}
	}
}

func TestARequestThatNoCallerOfOursSendsIsRefused(t *testing.T) {
	_, srv := quiet(t)
	for name, c := range map[string]struct {
		method, path string
		change       func(*http.Request)
		want         int
	}{
		"N3 another name for this machine": {http.MethodGet, "/healthz", func(r *http.Request) { r.Host = "evil.com" }, http.StatusMisdirectedRequest},
		"N3 a name that points here":       {http.MethodGet, "/healthz", func(r *http.Request) { r.Host = "127.0.0.1.nip.io" }, http.StatusMisdirectedRequest},
		"N4 a page of another site":        {http.MethodPost, "/api/v1/repositories/r/reconcile", func(r *http.Request) { bearer("the-write-token")(r); r.Header.Set("Origin", "https://evil.com") }, http.StatusForbidden},
		"N4 a browser says so":             {http.MethodPost, "/api/v1/repositories/r/reconcile", func(r *http.Request) { bearer("the-write-token")(r); r.Header.Set("Sec-Fetch-Site", "cross-site") }, http.StatusForbidden},
		"N18 a token in the address":       {http.MethodGet, "/api/v1/repositories?access_token=the-read-token", nil, http.StatusBadRequest},
		"a change by GET":                  {http.MethodGet, "/api/v1/repositories/r/reconcile", bearer("the-write-token"), http.StatusMethodNotAllowed},
		"N10 another folder":               {http.MethodGet, "/web/..%2fdaemon.go", nil, http.StatusNotFound},
		"no such repository":               {http.MethodGet, "/api/v1/repositories/x", bearer("the-read-token"), http.StatusNotFound},
		"an address that is none":          {http.MethodGet, "/api/v1/repositories/r/versions/what%20ever", bearer("the-read-token"), http.StatusBadRequest},
		"the right way":                    {http.MethodPost, "/api/v1/repositories/r/reconcile", bearer("the-write-token"), http.StatusAccepted},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := call(t, srv, c.method, c.path, c.change)
			if resp.StatusCode != c.want {
				t.Errorf("%d %s; want %d", resp.StatusCode, body, c.want)
			}
			if strings.Contains(body, "the-read-token") {
				t.Errorf("the answer tells the token: %s", body)
			}
		})
	}
	resp, _ := call(t, srv, http.MethodGet, "/", bearer("the-read-token"))
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("policy %q", csp)
	}
}

func TestBeyondLoopbackItWantsTLSAndTokens(t *testing.T) {
	full := &TLS{Cert: "c", Key: "k"}
	both := Tokens{Read: Secret{Env: "A"}, Write: Secret{Env: "B"}}
	for name, c := range map[string]struct {
		conf Config
		ok   bool
	}{
		"loopback":         {Config{Listen: "127.0.0.1:0"}, true},
		"loopback, 6":      {Config{Listen: "[::1]:0"}, true},
		"localhost":        {Config{Listen: "localhost:0"}, true},
		"everywhere":       {Config{Listen: ":8480"}, false},
		"everywhere, 4":    {Config{Listen: "0.0.0.0:8480", TLS: full}, false},
		"tokens, no TLS":   {Config{Listen: "10.0.0.1:8480", Tokens: both}, false},
		"TLS, one token":   {Config{Listen: "10.0.0.1:8480", TLS: full, Tokens: Tokens{Read: both.Read}}, false},
		"TLS and tokens":   {Config{Listen: "10.0.0.1:8480", TLS: full, Tokens: both}, true},
		"no address":       {Config{Listen: "8480"}, false},
		"a name elsewhere": {Config{Listen: "ml.example.com:443"}, false},
	} {
		if err := c.conf.checkListen(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAFileThatIsWrongSaysWhereAndWhat(t *testing.T) {
	for text, want := range map[string]string{
		``:                               "No repository",
		`repository "r" {}`:              "url",
		`repository "R!" { url = "/x" }`: "name",
		"repository \"r\" {\n url = \"/x\"\n mode = \"auto\"\n}":                                                               "observe, plan or apply",
		"repository \"r\" {\n url = \"/x\"\n interval = \"1s\"\n}":                                                             "at least 5s",
		"repository \"r\" {\n url = \"/x\"\n interval = \"soon\"\n}":                                                           "30s, 5m or 2h",
		"repository \"r\" {\n url = \"/x\"\n path = \"../..\"\n}":                                                              "inside",
		"repository \"r\" {\n url = \"/x\"\n policy { allow = [\"destroy\"] }\n}":                                              "create, update",
		"repository \"r\" {\n url = \"/x\"\n policy { max_delete_share = 3 }\n}":                                               "0 to 1",
		"repository \"r\" {\n url = \"/x\"\n policy {\n window {\n schedule = \"x\"\n duration = \"1h\"\n }\n }\n}":            "five fields of cron",
		"repository \"r\" {\n url = \"/x\"\n forge {\n kind = \"svn\"\n repo = \"a/b\"\n token_env = \"T\"\n }\n}":             "github, gitlab or gitea",
		"repository \"r\" {\n url = \"/x\"\n forge {\n kind = \"gitea\"\n repo = \"a/b\"\n }\n}":                               "token_env",
		"repository \"r\" { url = \"/x\" }\nrepository \"r\" { url = \"/y\" }":                                                 "a name of its own",
		"repository \"r\" {\n url = \"/x\"\n verify {}\n}":                                                                     "Nobody could sign",
		"repository \"r\" {\n url = \"/x\"\n verify { pgp_key_files = [\"none.asc\"] }\n}":                                     "none.asc",
		"repository \"r\" {\n url = \"/x\"\n verify { allowed_signers_file = \"daemon.hcl\" }\n}":                              "NAME [OPTIONS]",
		"repository \"r\" {\n url = \"/x\"\n verify { signers = \"../keys\" }\n}":                                              "inside of it",
		"repository \"r\" {\n url = \"/x\"\n verify { trust = \"abc\" }\n}":                                                    "all 40 digits",
		"notifier \"n\" { type = \"mail\" }\nrepository \"r\" { url = \"/x\" }":                                                "webhook or log",
		"notifier \"n\" { type = \"webhook\" }\nrepository \"r\" { url = \"/x\" }":                                             "url_env",
		"notifier \"n\" { type = \"log\" }\nnotifier \"n\" { type = \"log\" }\nrepository \"r\" { url = \"/x\" }":              "stand once",
		"repository \"r\" {\n url = \"/x\"\n notify { to = [\"n\"] }\n}":                                                       "no block notifier",
		"notifier \"n\" { type = \"log\" }\nrepository \"r\" {\n url = \"/x\"\n notify {\n to = [\"n\"]\n on = [\"x\"]\n }\n}": "choose from waits",
		"notifier \"n\" { type = \"log\" }\nrepository \"r\" {\n url = \"/x\"\n notify {\n to = [\"n\"]\n after = 0\n }\n}":    "1 or more",
		"leader { duration = \"1s\" }\nrepository \"r\" { url = \"/x\" }":                                                      "from 2s to 10m0s",
		"listen = \"0.0.0.0:80\"\nrepository \"r\" { url = \"/x\" }":                                                           "tls",
	} {
		file := filepath.Join(t.TempDir(), "daemon.hcl")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, diags := Load(file)
		if !diags.HasErrors() {
			t.Errorf("%s: accepted", text)
			continue
		}
		all := ""
		for _, d := range diags {
			all += d.Summary + ": " + d.Detail + "\n"
			if d.Subject == nil || d.Subject.Filename != file {
				t.Errorf("%s: no place: %v", text, d)
			}
		}
		if !strings.Contains(all, want) {
			t.Errorf("%s:\n%swant %q", text, all, want)
		}
	}
}

func TestAFeedLeavesOutWhoIsTooSlow(t *testing.T) {
	f := newFeed()
	_, slow, ok := f.follow(0)
	if !ok {
		t.Fatal("no reader")
	}
	for range feedKeeps + feedQueue {
		f.publish(Note{Type: "x"})
	}
	n := 0
	for range slow { // closed behind what it had room for
		n++
	}
	if n != feedQueue {
		t.Errorf("%d notes", n)
	}
	past, ch, _ := f.follow(uint64(feedQueue))
	if len(past) != feedKeeps || past[0].ID != uint64(feedQueue)+1 {
		t.Errorf("%d notes, from %d", len(past), past[0].ID)
	}
	f.leave(ch)
	f.leave(ch) // twice is no harm
	for range maxReaders {
		if _, _, ok := f.follow(0); !ok {
			t.Fatal("too few readers")
		}
	}
	if _, _, ok := f.follow(0); ok {
		t.Error("readers without end")
	}
}

func TestPagesOfferWhatTheTokenAllows(t *testing.T) {
	d, srv := quiet(t)
	r := d.repos[0]
	r.conf.Mode = Apply
	r.say(func(s *status.Repository) {
		s.Phase, s.Held = status.Held, &status.HeldPlan{ID: "abcd1234", Why: []string{"it deletes"}, Expires: time.Now().Add(time.Hour)}
	})
	for token, want := range map[string]bool{"the-read-token": false, "the-write-token": true} {
		if resp, body := call(t, srv, http.MethodGet, "/r/r/plan", bearer(token)); resp.StatusCode != http.StatusOK || strings.Contains(body, "<button>Approve") != want {
			t.Errorf("%s: %d, %q", token, resp.StatusCode, body)
		}
	}
}

func TestReadersOfLogsAreCountedTogether(t *testing.T) {
	d, srv := quiet(t)
	r := d.repos[0]
	r.loaded = true
	for range maxTails {
		d.tails <- struct{}{}
	}
	if resp, _ := call(t, srv, http.MethodGet, "/api/v1/repositories/r/logs/training.t?follow=true", bearer("the-read-token")); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d", resp.StatusCode)
	}
	if n := len(d.tails); n != maxTails {
		t.Errorf("%d readers", n)
	}
}
