package oci

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Scheme stands in front of a reference where other kinds of places could stand. It may be left out.
const Scheme = "oci://"

// DefaultPlatform is the platform of an image whose request names none. It does not follow this machine: the same
// request must make the same image everywhere.
const DefaultPlatform = "linux/amd64"

// Options of a [Client]; the zero value is good.
type Options struct {
	// Insecure lists hosts (with a port, or without one for any port) that may be spoken to without TLS. Loopback, private
	// (RFC 1918) and link-local addresses and localhost may anyway.
	Insecure []string
	// Keychain gives the credentials; nil means Docker's configuration with its credential helpers, else Podman's.
	Keychain authn.Keychain
	// Attempts is how often a request is made before its error counts; 0 means 6. Wait lies before the second and
	// doubles from then on; 0 means 500 ms. MaxWait bounds it, also where the registry asks for more; 0 means 1 min.
	Attempts      int
	Wait, MaxWait time.Duration
	// Stall ends a request that moves no byte for so long; 0 means 5 min, enough for a registry that puts a large blob in its place.
	Stall time.Duration
	// Transport makes the connections; nil means one like http.DefaultTransport.
	Transport http.RoundTripper
	// MaxBytes bounds what PullDir writes; 0 means 1 TiB. MaxRatio is how many bytes one stored byte may become in a layer of more
	// than Small bytes unpacked; 0 means 200 and 64 MiB. Text shrinks to a twentieth at best, a bomb to a thousandth.
	MaxBytes, MaxRatio, Small int64
}

// Client speaks to registries. It is safe for concurrent use, and holds no connection that needs to be closed.
type Client struct {
	opt       Options
	transport http.RoundTripper
}

// New returns a client.
func New(opt Options) *Client {
	if opt.Keychain == nil {
		opt.Keychain = authn.DefaultKeychain
	}
	setDefault(&opt.Attempts, 6)
	setDefault(&opt.Wait, 500*time.Millisecond)
	setDefault(&opt.MaxWait, time.Minute)
	setDefault(&opt.Stall, 5*time.Minute)
	setDefault(&opt.MaxBytes, 1<<40)
	setDefault(&opt.MaxRatio, 200)
	setDefault(&opt.Small, 64<<20)
	if opt.Transport == nil {
		opt.Transport = remote.DefaultTransport
	}
	return &Client{opt: opt, transport: &watched{inner: opt.Transport, stall: opt.Stall}}
}

func setDefault[T int | int64 | time.Duration](p *T, v T) {
	if *p <= 0 {
		*p = v
	}
}

// remote returns the library's options. It must not retry by itself: it knows nothing of Retry-After, and retries
// inside of retries multiply.
func (c *Client) remote(platform v1.Platform) []remote.Option {
	return []remote.Option{
		remote.WithAuthFromKeychain(c.opt.Keychain),
		remote.WithTransport(c.transport),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
		remote.WithRetryPredicate(func(error) bool { return false }),
		remote.WithRetryStatusCodes(),
		remote.WithUserAgent("continuo"),
		remote.WithPlatform(platform),
	}
}

// parse reads a reference: host/repository with a tag or a digest, "latest" without either.
func (c *Client) parse(ref string) (name.Reference, error) {
	text := strings.TrimPrefix(ref, Scheme)
	r, err := name.ParseReference(text, c.nameOptions(text)...)
	if err != nil {
		return nil, fmt.Errorf("%q is no reference of an image: %w; write it as oci://HOST/REPOSITORY@sha256:… or oci://HOST/REPOSITORY:TAG", ref, err)
	}
	return r, nil
}

func (c *Client) parseRepo(repo string) (name.Repository, error) {
	text := strings.TrimPrefix(repo, Scheme)
	r, err := name.NewRepository(text, c.nameOptions(text)...)
	if err != nil {
		return r, fmt.Errorf("%q is no repository: %w; write it as oci://HOST/REPOSITORY, in lower case", repo, err)
	}
	return r, nil
}

func (c *Client) nameOptions(text string) []name.Option {
	host, _, _ := strings.Cut(text, "/")
	if c.plain(host) {
		return []name.Option{name.Insecure}
	}
	return nil
}

// plain reports whether a host may be spoken to without TLS. TLS is tried first all the same.
func (c *Client) plain(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if slices.Contains(c.opt.Insecure, hostport) || slices.Contains(c.opt.Insecure, host) {
		return true
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && (ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast())
}

func byDigest(repo name.Repository, h v1.Hash) string { return Scheme + repo.Digest(h.String()).Name() }

// ContentTag is the tag under which content of our own digest (64 hex digits, with or without "sha256:") is stored.
// Its content never changes, so what has it need not be pushed again.
func ContentTag(digest string) string { return contentTag + strings.TrimPrefix(digest, "sha256:") }

const contentTag = "sha256-"

func isContentTag(tag string) bool {
	h, ok := strings.CutPrefix(tag, contentTag)
	return ok && len(h) == 64 && strings.Trim(h, "0123456789abcdef") == ""
}

func parsePlatform(text string) (v1.Platform, error) {
	if text == "" {
		text = DefaultPlatform
	}
	p, err := v1.ParsePlatform(text)
	if err != nil || p.OS == "" || p.Architecture == "" {
		return v1.Platform{}, fmt.Errorf("platform %q: want OS/ARCHITECTURE, such as %s", text, DefaultPlatform)
	}
	return *p, nil
}

// get fetches what a reference stands for now.
func (c *Client) get(ctx context.Context, ref name.Reference, platform v1.Platform) (*remote.Descriptor, error) {
	var d *remote.Descriptor
	err := c.retry(ctx, func(ctx context.Context) (err error) {
		d, err = remote.Get(ref, append(c.remote(platform), remote.WithContext(ctx))...)
		return err
	})
	return d, err
}
