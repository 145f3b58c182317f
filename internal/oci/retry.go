package oci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/continuo-ml/continuo/internal/files"
)

// retry calls f until it succeeds, fails for good, or has had its attempts.
func (c *Client) retry(ctx context.Context, f func(context.Context) error) error {
	pause := c.opt.Wait
	for n := 1; ; n++ {
		err := f(ctx)
		if err == nil || ctx.Err() != nil || !temporary(err) {
			return err
		}
		wait := time.Duration((0.75 + rand.Float64()/2) * float64(pause)) // many pods start in the same second
		var busy *busyError
		if errors.As(err, &busy) && busy.after > 0 {
			wait = busy.after
		}
		if n >= c.opt.Attempts {
			return fmt.Errorf("%w (tried %d times)", err, n)
		}
		if wait > c.opt.MaxWait {
			return fmt.Errorf("%w (it asks to wait %s)", err, wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		}
		pause = min(2*pause, c.opt.MaxWait)
	}
}

// busyError is the answer of a registry that may give a better one later.
type busyError struct {
	status int
	after  time.Duration // what Retry-After asks for; 0 when it does not
	body   string
}

// Error implements error.
func (e *busyError) Error() string {
	text := fmt.Sprintf("%d %s", e.status, http.StatusText(e.status))
	if e.body != "" {
		text += ": " + e.body
	}
	return text
}

// errStalled is what a request ends with that moved no byte for too long.
var errStalled = errors.New("nothing moved for too long")

// temporary reports whether the same request may succeed later.
func temporary(err error) bool {
	var busy *busyError
	var refused *transport.Error
	var dns *net.DNSError
	var via *url.Error
	switch {
	case errors.Is(err, files.ErrChanged), errors.Is(err, errNotTLS), untrusted(err):
		return false
	case errors.As(err, &busy), errors.Is(err, errStalled):
		return true
	case errors.As(err, &refused):
		// A registry that restarts forgets the uploads that it had begun.
		return refused.Temporary() || hasCode(refused, transport.BlobUploadUnknownErrorCode)
	case errors.As(err, &dns):
		return !dns.IsNotFound
	case errors.As(err, &via) && !errors.Is(err, context.Canceled):
		return true // it never got an answer
	}
	for _, e := range []error{
		io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT,
		syscall.EHOSTUNREACH, syscall.ENETUNREACH, net.ErrClosed,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	var slow net.Error
	return errors.As(err, &slow) && slow.Timeout()
}

// errNotTLS says that a host answered without TLS where it is wanted. net/http has a text for it only.
var errNotTLS = errors.New("the host does not speak TLS")

// untrusted reports whether TLS failed for a reason that stays.
func untrusted(err error) bool {
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	return errors.As(err, &cert) || errors.As(err, &unknown) || errors.As(err, &host)
}

func hasCode(e *transport.Error, code transport.ErrorCode) bool {
	for _, d := range e.Errors {
		if d.Code == code {
			return true
		}
	}
	return false
}

// watched is a transport that ends requests which stall, and turns answers that say "later" into errors: the
// library would drop their Retry-After.
type watched struct {
	inner http.RoundTripper
	stall time.Duration
}

// RoundTrip implements http.RoundTripper.
func (w *watched) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	dog := &watchdog{stall: w.stall, cancel: cancel}
	dog.timer = time.AfterFunc(w.stall, func() { cancel(errStalled) })
	req = req.Clone(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &watchedBody{ReadCloser: req.Body, dog: dog, ctx: ctx}
		if get := req.GetBody; get != nil {
			req.GetBody = func() (io.ReadCloser, error) {
				b, err := get()
				if err != nil {
					return nil, err
				}
				return &watchedBody{ReadCloser: b, dog: dog, ctx: ctx}, nil
			}
		}
	}
	resp, err := w.inner.RoundTrip(req)
	if err != nil {
		dog.end()
		if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
			err = errors.Join(errStalled, err)
		}
		if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
			err = errors.Join(errNotTLS, err)
		}
		return nil, err
	}
	dog.seen()
	if later(resp.StatusCode) {
		defer dog.end()
		text, rerr := io.ReadAll(io.LimitReader(resp.Body, 512))
		return nil, errors.Join(&busyError{status: resp.StatusCode, after: retryAfter(resp.Header.Get("Retry-After")), body: strings.TrimSpace(string(text))},
			rerr, resp.Body.Close())
	}
	resp.Body = &watchedBody{ReadCloser: resp.Body, dog: dog, ctx: ctx, last: true}
	return resp, nil
}

func later(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter reads the header of that name, which holds seconds or a date; 0 for neither.
func retryAfter(text string) time.Duration {
	if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil && n >= 0 && n < 1<<30 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// watchdog cancels a request unless it is seen to move.
type watchdog struct {
	stall  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func (d *watchdog) seen() { d.timer.Reset(d.stall) }
func (d *watchdog) end() {
	d.timer.Stop()
	d.cancel(nil)
}

// watchedBody is a body that tells the watchdog about every read; the last one of a request ends it.
type watchedBody struct {
	io.ReadCloser
	dog  *watchdog
	ctx  context.Context // its cause is the only place that knows of a stall
	last bool
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.dog.seen()
	}
	if err != nil && errors.Is(context.Cause(b.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	if b.last {
		b.dog.end()
	}
	return b.ReadCloser.Close()
}
