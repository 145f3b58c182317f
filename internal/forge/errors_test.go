package forge

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestErrorsSayWhatToDo(t *testing.T) {
	hour := now.Add(time.Hour)
	for name, tt := range map[string]struct {
		answer
		until time.Time // of a rate limit
		is    error
		again bool // unavailable
		says  string
	}{
		"GitHub's primary limit":           {answer: answer{403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1772444100"}, `{"message": "API rate limit exceeded"}`}, until: time.Unix(1772444100, 0)},
		"GitHub's secondary limit":         {answer: answer{403, map[string]string{"Retry-After": "60"}, `{"message": "You have exceeded a secondary rate limit"}`}, until: now.Add(time.Minute)},
		"429 with seconds":                 {answer: answer{429, map[string]string{"Retry-After": "30"}, ``}, until: now.Add(30 * time.Second)},
		"429 with a date":                  {answer: answer{429, map[string]string{"Retry-After": "Mon, 02 Mar 2026 09:45:00 GMT"}, ``}, until: now.Add(15 * time.Minute)},
		"429 with GitLab's reset":          {answer: answer{429, map[string]string{"RateLimit-Reset": "1772444100"}, `Retry later`}, until: time.Unix(1772444100, 0)},
		"429 without a word":               {answer: answer{429, nil, ``}, until: now.Add(time.Minute)},
		"429 until next year":              {answer: answer{429, map[string]string{"Retry-After": "99999999"}, ``}, until: hour},
		"429 until yesterday":              {answer: answer{429, map[string]string{"X-RateLimit-Reset": "1"}, ``}, until: now.Add(time.Second)},
		"403 that is none":                 {answer: answer{403, map[string]string{"X-RateLimit-Remaining": "4999"}, `{"message": "Must have admin rights"}`}, is: ErrDenied, says: "Must have admin rights"},
		"401":                              {answer: answer{401, nil, `{"message": "Bad credentials"}`}, is: ErrDenied, says: "expired: Bad credentials"},
		"404":                              {answer: answer{404, nil, `{"message": "404 Project Not Found"}`}, is: ErrNotFound, says: "not to be seen with this token"},
		"500":                              {answer: answer{500, nil, `<html>oops</html>`}, again: true, says: "500 Internal Server Error"},
		"502":                              {answer: answer{502, nil, ``}, again: true, says: "502 Bad Gateway"},
		"422 with an object":               {answer: answer{422, nil, `{"message": {"base": ["is closed"]}}`}, says: "is closed"},
		"200 with a page of a proxy":       {answer: answer{200, nil, `<html>please log in</html>`}, again: true, says: "broken"},
		"200 cut off":                      {answer: answer{200, nil, `[{"number": 7, "sta`}, again: true, says: "broken"},
		"an error with the token in it":    {answer: answer{400, nil, `{"message": "bad token ` + token + `"}`}, says: "bad token ***"},
		"an error with lines and controls": {answer: answer{400, nil, "{\"message\": \"a\\nb\\u001b[31mc\"}"}, says: "a b [31mc"},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, r *recorded) {
				r.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					for k, v := range tt.header {
						w.Header().Set(k, v)
					}
					w.WriteHeader(tt.status)
					r.say(w, tt.body)
				})
				_, err := r.client().Pulls(t.Context())
				if err == nil {
					t.Fatal("no error")
				}
				var limited *RateLimitedError
				if errors.As(err, &limited) != !tt.until.IsZero() || limited != nil && !limited.Until.Equal(tt.until) {
					t.Errorf("until %s: %v", tt.until, err)
				}
				var unavailable *UnavailableError
				if errors.As(err, &unavailable) != tt.again {
					t.Errorf("worth another try = %t: %v", tt.again, err)
				}
				if tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("not %v: %v", tt.is, err)
				}
				if !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), token) {
					t.Errorf("it says %q", err)
				}
				if !strings.Contains(err.Error(), string(r.kind)+" lab/churn: list pull requests") {
					t.Errorf("it does not say where: %v", err)
				}
			})
		})
	}
}

// The library's own methods go through the same errors.
func TestErrorsOfTheLibrary(t *testing.T) {
	each(t, func(t *testing.T, r *recorded) {
		r.answers["GET "+r.root()+"user"] = answer{403, map[string]string{"Retry-After": "60"}, `{"message": "slow down"}`}
		_, err := r.client().Login(t.Context())
		var limited *RateLimitedError
		if !errors.As(err, &limited) || !limited.Until.Equal(now.Add(time.Minute)) {
			t.Errorf("%v", err)
		}
		sha := strings.Repeat("a", 40)
		r.answers["POST "+r.repo()+"statuses/"+sha] = answer{502, nil, ``}
		var unavailable *UnavailableError
		if err := r.client().SetStatus(t.Context(), sha, Status{State: Success}); !errors.As(err, &unavailable) {
			t.Errorf("%v", err)
		}
	})
}

func TestAnAnswerWithoutAnEndIsNotRead(t *testing.T) {
	r := record(t, GitHub)
	sent := 0
	r.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for i := range chunk {
			chunk[i] = ' '
		}
		for sent = 0; sent < 200; sent++ {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	_, err := r.client().Pulls(t.Context())
	if err == nil || !strings.Contains(err.Error(), "longer than 32 MiB") {
		t.Errorf("%v", err)
	}
	r.Close()
	if sent == 200 {
		t.Error("all of it was taken")
	}
}

func TestAForgeThatIsSlowOrGone(t *testing.T) {
	hold := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hold }))
	defer slow.Close()
	defer close(hold)
	c, err := New(Config{Kind: Gitea, URL: slow.URL, Repo: "a/b", Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var unavailable *UnavailableError
	if _, err := c.Pulls(t.Context()); !errors.As(err, &unavailable) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Pulls(ctx); !errors.Is(err, context.Canceled) || errors.As(err, &unavailable) {
		t.Errorf("who stops it gets %v", err)
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	if c, err = New(Config{Kind: Gitea, URL: gone.URL, Repo: "a/b", Token: Static(token)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pulls(t.Context()); !errors.As(err, &unavailable) || strings.Contains(err.Error(), "page=") {
		t.Errorf("%v", err)
	}
}

// The token is the forge's own: whoever it points at gets neither a request nor the token.
func TestTheTokenGoesNowhereElse(t *testing.T) {
	asked := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer other.Close()
	each(t, func(t *testing.T, r *recorded) {
		r.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, other.URL+"/x", http.StatusTemporaryRedirect)
		})
		_, err := r.client().Pulls(t.Context())
		if err == nil || !strings.Contains(err.Error(), "redirects to "+strings.TrimPrefix(other.URL, "http://")) {
			t.Errorf("%v", err)
		}
		if _, err := r.client().Reply(t.Context(), 7, "x"); err == nil {
			t.Error("a comment went to another host")
		}
	})
	if asked != 0 {
		t.Errorf("the other host was asked %d times", asked)
	}
}

func TestATokenThatCannotBeHadIsNoOutage(t *testing.T) {
	for _, token := range []func() (string, error){
		func() (string, error) { return "", errors.New("file is gone") },
		Static("two\nlines"), Static("with blank"),
	} {
		c, err := New(Config{Kind: GitLab, Repo: "a/b", Token: token})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Pulls(t.Context())
		var unavailable *UnavailableError
		if err == nil || errors.As(err, &unavailable) || !strings.Contains(err.Error(), "its token") {
			t.Errorf("%v", err)
		}
	}
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	for _, cfg := range []Config{
		{}, {Kind: "bitbucket", Repo: "a/b"}, {Kind: Gitea, Repo: "a/b"}, {Kind: GitHub}, {Kind: GitHub, Repo: "a"}, {Kind: GitHub, Repo: "a/b/c"},
		{Kind: GitLab, Repo: "a/../b"}, {Kind: GitHub, Repo: "a/b?x"}, {Kind: GitHub, Repo: "a/.."}, {Kind: GitHub, Repo: "a/b#c"}, {Kind: GitHub, Repo: "a/b c"},
		{Kind: GitHub, Repo: "a/b", URL: "ftp://x"}, {Kind: GitHub, Repo: "a/b", URL: "github.com"}, {Kind: GitHub, Repo: "a/b", URL: "https://u:p4ss@x"}, {Kind: GitHub, Repo: "a/b", URL: "https://x?y"},
		{Kind: GitHub, Repo: "a/b", URL: "https://u:p4ss@x\x00"},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		} else if strings.Contains(err.Error(), "p4ss") {
			t.Errorf("the password is told: %v", err)
		}
	}
	for _, tt := range []struct {
		kind      Kind
		url, want string
	}{
		{GitHub, "", "https://api.github.com/"}, {GitHub, "https://github.com/", "https://api.github.com/"}, {GitHub, "https://ghe.example.com", "https://ghe.example.com/api/v3/"},
		{GitHub, "https://ghe.example.com/api/v3/", "https://ghe.example.com/api/v3/"}, {GitLab, "", "https://gitlab.com/"}, {GitLab, "https://x.example/gitlab/", "https://x.example/gitlab/"},
		{Gitea, "http://127.0.0.1:3000", "http://127.0.0.1:3000/"},
	} {
		c, err := New(Config{Kind: tt.kind, URL: tt.url, Repo: "a/b"})
		if err != nil || c.remote.scm.BaseURL.String() != tt.want {
			t.Errorf("%s %q: %v, %v", tt.kind, tt.url, c, err)
		}
	}
	if c, err := New(Config{Kind: GitLab, Repo: "group/sub/name"}); err != nil || c == nil {
		t.Errorf("a group in a group: %v", err)
	}
	if k, err := ParseKind("Forgejo"); err != nil || k != Gitea {
		t.Errorf("%q, %v", k, err)
	}
}
