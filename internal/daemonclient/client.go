package daemonclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/continuo-ml/continuo/resource"
	"github.com/continuo-ml/continuo/state"
)

// The variables of the environment that say how to reach a daemon. None of it is a flag: arguments are seen by every user of a machine.
const (
	TokenVar     = "ML_DAEMON_TOKEN"      // the token
	TokenFileVar = "ML_DAEMON_TOKEN_FILE" // or a file that holds it
	CAVar        = "ML_DAEMON_CA"         // a file of certificates, in PEM, to trust besides the system's
)

// Limits of what is read.
const (
	maxAnswer  = 512 << 20
	maxMessage = 4 << 10
	patience   = 2 * time.Minute
	dialTime   = 15 * time.Second
)

// Options say which daemon and repository.
type Options struct {
	// URL is the daemon's address, or that of a repository's page: "https://ml.example.com/r/tumors".
	URL string
	// Repository names it where URL does not; "" is the only one that the daemon has.
	Repository string
	Version    string // of this program
	Getenv     func(string) string
}

// Client asks one daemon about one repository.
type Client struct {
	base    *url.URL
	repo    string
	token   string
	version string
	http    *http.Client
}

// New reads the options; it asks nothing yet.
func New(o Options) (*Client, error) {
	base, repo, err := address(o.URL)
	if err != nil {
		return nil, err
	}
	switch {
	case repo == "":
		repo = o.Repository
	case o.Repository != "" && o.Repository != repo:
		return nil, fmt.Errorf("-daemon names the repository %q, -repository %q; leave one out", repo, o.Repository)
	}
	token, err := tokenOf(o.Getenv)
	if err != nil {
		return nil, err
	}
	if token != "" && base.Scheme != "https" && !loopback(base.Hostname()) {
		return nil, fmt.Errorf("-daemon %s is not encrypted, and would show the token to everybody on the way; use https", base)
	}
	roots, err := rootsOf(o.Getenv(CAVar))
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTime}).DialContext, TLSHandshakeTimeout: dialTime,
		ResponseHeaderTimeout: patience, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, MaxIdleConns: 2,
	}
	return &Client{
		base: base, repo: repo, token: token, version: o.Version,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// address splits the daemon's URL and the repository that it may name.
func address(text string) (base *url.URL, repo string, err error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, "", fmt.Errorf("-daemon %q is no address; write it as https://HOST or https://HOST/r/NAME", cut(text))
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, "", fmt.Errorf("-daemon: write its address as https://HOST/r/NAME and put the token into %s", TokenVar)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	if at := strings.LastIndex(u.Path, "/r/"); at >= 0 {
		repo, u.Path = u.Path[at+len("/r/"):], u.Path[:at]
	}
	return u, repo, nil
}

// cut keeps a mistyped address, which may be anything, short.
func cut(text string) string {
	if len(text) > 80 {
		return text[:80] + "…"
	}
	return text
}

func tokenOf(getenv func(string) string) (string, error) {
	token, file := getenv(TokenVar), getenv(TokenFileVar)
	switch {
	case token != "" && file != "":
		return "", fmt.Errorf("%s and %s are both set; leave one out", TokenVar, TokenFileVar)
	case file == "":
		return token, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", TokenFileVar, err)
	}
	if token = strings.TrimSpace(string(raw)); token == "" {
		return "", fmt.Errorf("%s: %s is empty", TokenFileVar, file)
	}
	return token, nil
}

func rootsOf(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CAVar, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a machine without any: then these are all
	}
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s: %s holds no certificate in PEM", CAVar, file)
	}
	return pool, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Repository is the repository's name, asking the daemon where nobody said it.
func (c *Client) Repository(ctx context.Context) (string, error) {
	if c.repo != "" {
		return c.repo, nil
	}
	var all []struct{ Name string }
	if err := c.read(ctx, "/api/v1/repositories", &all); err != nil {
		return "", err
	}
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = r.Name
	}
	if len(names) != 1 {
		return "", fmt.Errorf("the daemon at %s looks after %s; say which with -repository NAME", c.base, strings.Join(names, ", "))
	}
	c.repo = names[0]
	return c.repo, nil
}

// Blocks reads how all blocks stand.
func (c *Client) Blocks(ctx context.Context) (*Blocks, error) {
	var out Blocks
	return &out, c.ask(ctx, "/blocks", &out)
}

// State reads what is recorded; State.Read checks it.
func (c *Client) State(ctx context.Context) (*State, error) {
	var out State
	return &out, c.ask(ctx, "/state", &out)
}

// Runs reads the runs of an address, or of all where it is zero, newest last.
func (c *Client) Runs(ctx context.Context, a resource.Address) ([]*state.Run, error) {
	path := "/runs"
	if !a.IsZero() {
		path += "/" + url.PathEscape(a.String())
	}
	var out []*state.Run
	err := c.ask(ctx, path, &out)
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 { // the daemon's pages want the newest first
		out[i], out[j] = out[j], out[i]
	}
	return out, err
}

// LogOptions say which part of a log.
type LogOptions struct {
	Run    string // "" = the last
	Lines  int    // the last ones; 0 = as many as the daemon gives
	Follow bool
}

// Logs writes a log as it comes, and with Follow until it or ctx ends.
func (c *Client) Logs(ctx context.Context, a resource.Address, o LogOptions, to io.Writer) error {
	path, err := c.path(ctx, "/logs/"+url.PathEscape(a.String()))
	if err != nil {
		return err
	}
	q := url.Values{}
	if o.Lines == 0 {
		o.Lines = 100_000 // the most that a daemon gives
	}
	q.Set("lines", strconv.Itoa(o.Lines))
	if o.Run != "" {
		q.Set("run", o.Run)
	}
	if o.Follow {
		q.Set("follow", "true")
	}
	resp, err := c.send(ctx, http.MethodGet, path+"?"+q.Encode(), "")
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	if _, err := io.Copy(to, resp.Body); err != nil && ctx.Err() == nil {
		return fmt.Errorf("read the log from %s: %w", c.base, err)
	}
	return nil
}

// Approve allows a plan that waits, in the name of somebody.
func (c *Client) Approve(ctx context.Context, id, who string) (*state.Approval, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	path, err := c.path(ctx, "/approve/"+url.PathEscape(id))
	if err != nil {
		return nil, err
	}
	resp, err := c.send(ctx, http.MethodPost, path, who)
	if err != nil {
		return nil, err
	}
	var given state.Approval
	return &given, c.decode(resp, &given)
}

func (c *Client) path(ctx context.Context, below string) (string, error) {
	repo, err := c.Repository(ctx)
	return "/api/v1/repositories/" + url.PathEscape(repo) + below, err
}

func (c *Client) ask(ctx context.Context, below string, into any) error {
	path, err := c.path(ctx, below)
	if err != nil {
		return err
	}
	return c.read(ctx, path, into)
}

func (c *Client) read(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := c.send(ctx, http.MethodGet, path, "")
	if err != nil {
		return err
	}
	return c.decode(resp, into)
}

func (c *Client) decode(resp *http.Response, into any) error {
	defer resp.Body.Close() //nolint:errcheck // only read from
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer of %s: %w", c.base, err)
	case len(raw) > maxAnswer:
		return fmt.Errorf("the answer of %s is larger than %d MiB", c.base, maxAnswer>>20)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("the answer of %s cannot be read: %w; is the daemon as new as this ml %s?", c.base, err, c.version)
	}
	return nil
}

// send makes one request; what is no success is an error that says what to do.
func (c *Client) send(ctx context.Context, method, path, who string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.base, err)
	}
	req.Header.Set("User-Agent", "ml/"+c.version)
	req.Header.Set("Accept", "application/json, text/plain")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if who != "" {
		req.Header.Set("ML-Who", who)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreached(err)
	}
	if resp.StatusCode == http.StatusOK {
		if resp.Header.Get(Header) == "" {
			return nil, errors.Join(c.stranger(), resp.Body.Close())
		}
		return resp, nil
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", c.base, err)
	}
	return nil, c.refused(resp, strings.TrimSpace(string(said)))
}

func (c *Client) unreached(err error) error {
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return fmt.Errorf("the daemon at %s shows a certificate of somebody unknown here: %w; name its authority's file in %s", c.base, err, CAVar)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // the rest repeats the address
	}
	return fmt.Errorf("the daemon at %s cannot be reached: %w; does it run there, and may this machine speak to it?", c.base, err)
}

// stranger is an answer that no daemon of these forms gives.
func (c *Client) stranger() error {
	return fmt.Errorf("what answers at %s is no ml daemon, or one that is older than this ml %s: check the address, or use the daemon's version of ml", c.base, c.version)
}

func (c *Client) refused(resp *http.Response, said string) error {
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized && c.token == "":
		return fmt.Errorf("the daemon at %s wants a token: put it into %s, or a file with it into %s", c.base, TokenVar, TokenFileVar)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return fmt.Errorf("the daemon at %s does not allow this with the token of %s; looking needs the read token, approving the write token", c.base, TokenVar)
	case code >= 300 && code < 400:
		return fmt.Errorf("what answers at %s points elsewhere (%s); name the daemon itself: a token is not carried on", c.base, resp.Header.Get("Location"))
	case resp.Header.Get(Header) == "":
		return c.stranger()
	case code == http.StatusNotFound && strings.Contains(said, "no such repository"):
		return fmt.Errorf("the daemon at %s looks after no repository %q; its overview names those that it does", c.base, c.repo)
	case code == http.StatusNotFound && strings.HasPrefix(said, "404 page not found"):
		return fmt.Errorf("the daemon at %s (%s) does not know this request: it is older than this ml %s; use its version", c.base, resp.Header.Get(Header), c.version)
	default:
		return fmt.Errorf("the daemon at %s says: %s", c.base, said)
	}
}
