package forge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/drone/go-scm/scm"

	"github.com/continuo-ml/continuo/internal/fence"
)

// maxAnswer bounds what is read of one answer: a page of a hundred comments, each as long as a forge takes.
const maxAnswer = 32 << 20

// remote is one repository of a forge, as the library reaches it.
type remote struct {
	scm    *scm.Client
	repo   string
	plain  bool // the forge itself is reached without TLS
	errors errorMaker
}

// do sends a request that the library has no method for, or one that is wrong for us, and decodes the answer into out.
func (r remote) do(ctx context.Context, method, path string, in, out any) (*scm.Response, error) {
	req := &scm.Request{Method: method, Path: path}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		req.Body, req.Header = bytes.NewReader(body), http.Header{"Content-Type": {"application/json"}}
	}
	res, err := r.scm.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return res, err
	}
	if res.Status >= 300 {
		return res, errors.New(messageOf(body))
	}
	if out != nil {
		if err := json.Unmarshal(body, out); err != nil {
			return res, fmt.Errorf("the answer is not what its documentation says: %w", err)
		}
	}
	return res, nil
}

// messageOf is what an answer says went wrong.
func messageOf(body []byte) string {
	var m struct {
		Message any    `json:"message"`
		Error   string `json:"error"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return "" // a page of a proxy: its status says enough
	}
	if m.Message == nil {
		return m.Error
	}
	if s, ok := m.Message.(string); ok {
		return s
	}
	return fmt.Sprint(m.Message) // GitLab's are objects at times
}

// cloneURL is an address to clone from as the forge gave it, if it is one that is no less safe than the forge's own.
func (r remote) cloneURL(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !r.plain) {
		return ""
	}
	return u.String()
}

// guarded is the HTTP client of a forge: its token goes to the forge's own host only, it follows no redirect to another, and reads
// answers up to a bound.
func guarded(cfg Config, base *url.URL) *http.Client {
	hc := http.Client{}
	if cfg.HTTPClient != nil {
		hc = *cfg.HTTPClient
	}
	next := hc.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	hc.Transport = guard{next: next, base: base, token: cfg.Token}
	hc.Timeout = cfg.Timeout
	hc.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		switch {
		case req.URL.Scheme != base.Scheme || req.URL.Host != base.Host:
			return &settingError{fmt.Sprintf("it redirects to %s: configure the address where it is", req.URL.Host)}
		case via[0].Method != http.MethodGet:
			return &settingError{fmt.Sprintf("it redirects to %s: configure the repository's own name", req.URL.Path)}
		case len(via) > 5:
			return &settingError{"it redirects in a circle"}
		}
		return nil
	}
	return &hc
}

type guard struct {
	next  http.RoundTripper
	base  *url.URL
	token func() (string, error)
}

// RoundTrip adds the token and bounds the answer.
func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", "continuo")
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	if g.token != nil && req.URL.Host == g.base.Host && req.URL.Scheme == g.base.Scheme {
		token, err := g.token()
		if err != nil {
			return nil, &settingError{"its token: " + err.Error()}
		}
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, &settingError{"its token holds blanks or line breaks"}
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		if err := fence.Check(req.Context()); err != nil {
			return nil, err
		}
	}
	res, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	res.Body = &bounded{ReadCloser: res.Body, left: maxAnswer}
	return res, nil
}

var errTooLong = fmt.Errorf("the answer is longer than %d MiB", maxAnswer>>20)

// bounded fails, rather than ends, when a body is too long: what was cut must not pass for whole.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}
