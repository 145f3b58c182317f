package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxRedirects bounds how often a server may send us on.
const maxRedirects = 5

// web reads one file of a web server.
type web struct {
	r      *Reader
	client *http.Client
}

// webClient makes the client for one address. A server may send us on, but neither off TLS nor into this machine or network: a
// server elsewhere must not choose what is read there.
func (r *Reader) webClient(a address) *http.Client {
	declared, proxy := hostOf(a.key), proxyOf(a.key)
	t := r.transport(func(host string, ip netip.Addr) error {
		if host == declared && (near(host) || !unreachable(ip)) || host == proxy {
			return nil
		}
		if unreachable(ip) || host != declared && ip.IsPrivate() {
			return kinded{ErrHostile, fmt.Errorf("%s leads to %s, an address of this machine or network", host, ip)}
		}
		return nil
	})
	return &http.Client{Transport: t, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return kinded{ErrHostile, fmt.Errorf("it leads on more than %d times", maxRedirects)}
		}
		if req.URL.Scheme != schemeHTTPS && via[0].URL.Scheme == schemeHTTPS || !loopback(req.URL.Hostname()) && req.URL.Scheme != schemeHTTPS {
			return kinded{ErrHostile, fmt.Errorf("it leads to plain http, at %s", req.URL.Host)}
		}
		return nil
	}}
}

// unreachable reports addresses that no name of a data server stands for.
func unreachable(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsUnspecified() || ip.IsMulticast()
}

func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// proxyOf is the host of the proxy that the environment sets for an address, or "".
func proxyOf(text string) string {
	req, err := http.NewRequest(http.MethodGet, text, nil)
	if err != nil {
		return ""
	}
	if u, err := http.ProxyFromEnvironment(req); err == nil && u != nil {
		return u.Hostname()
	}
	return ""
}

// newTransport makes connections for which allow, called with the name and the address that it was resolved to, has no error.
func newTransport(allow func(host string, ip netip.Addr) error) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	tune(t)
	if allow == nil {
		return t
	}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		d := net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second, ControlContext: func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(resolved)
			if err != nil {
				return err
			}
			return allow(host, at.Addr())
		}}
		return d.DialContext(ctx, network, addr)
	}
	return t
}

// tune sets what all places have in common.
func tune(t *http.Transport) {
	t.DisableCompression = true // the bytes that are digested are those of the file
	t.ResponseHeaderTimeout = time.Minute
	t.MaxIdleConnsPerHost = 16
	t.IdleConnTimeout = 30 * time.Second
}

func (w *web) request(ctx context.Context, method string, a address, header map[string]string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.key, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "continuo")
	req.Header.Set("Accept-Encoding", "identity")
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := w.client.Do(req)
	var via *url.Error
	if errors.As(err, &via) {
		err = via.Err // its text has the whole address, and with it what may be secret
		if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
			err = kinded{ErrHostile, errors.New("the host does not speak TLS")}
		}
	}
	return resp, err
}

// list implements objects. Servers that know no HEAD, or sign addresses for GET only, are asked with a GET whose body is left unread.
func (w *web) list(ctx context.Context, a address) ([]object, bool, error) {
	ctx, dog := watch(ctx, w.r.opt.Stall)
	defer dog.end()
	resp, err := w.request(ctx, http.MethodHead, a, nil)
	if err != nil {
		return nil, false, dog.blame(ctx, err)
	}
	if err := resp.Body.Close(); err != nil {
		return nil, false, err
	}
	switch resp.StatusCode {
	case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusForbidden, http.StatusBadRequest:
		if resp, err = w.request(ctx, http.MethodGet, a, nil); err != nil {
			return nil, false, dog.blame(ctx, err)
		}
		if err := resp.Body.Close(); err != nil {
			return nil, false, err
		}
	}
	if err := answer(resp); err != nil {
		return nil, false, err
	}
	return []object{{Path: a.name(), Key: a.name(), ID: webID(resp), Size: resp.ContentLength}}, true, nil
}

// webID is the identity of a file by the headers of an answer, "" when they give none. A weak ETag stands for the same meaning
// and not for the same bytes, so that the time counts, too.
func webID(resp *http.Response) string {
	tag, at := resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	if resp.Header.Get("Content-Encoding") != "" {
		return "" // bytes that the server packs for us
	}
	if tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	if at == "" {
		return ""
	}
	return strings.TrimSpace(tag + " " + at)
}

// get implements objects.
func (w *web) get(ctx context.Context, a address, o object, at int64) (io.ReadCloser, int64, error) {
	header := map[string]string{}
	if at > 0 {
		header["Range"] = "bytes=" + strconv.FormatInt(at, 10) + "-"
		if strings.HasPrefix(o.ID, `"`) {
			header["If-Range"] = o.ID
		}
	}
	resp, err := w.request(ctx, http.MethodGet, a, header)
	if err != nil {
		return nil, 0, err
	}
	if err := w.matches(resp, o, at); err != nil {
		return nil, 0, errors.Join(err, resp.Body.Close())
	}
	if resp.StatusCode != http.StatusPartialContent {
		return resp.Body, 0, nil
	}
	from, err := rangeStart(resp.Header.Get("Content-Range"))
	if err != nil {
		return nil, 0, errors.Join(err, resp.Body.Close())
	}
	return resp.Body, from, nil
}

// matches reports whether an answer has the object that was listed.
func (w *web) matches(resp *http.Response, o object, at int64) error {
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return fmt.Errorf("%w: it is shorter now", ErrChanged)
	}
	if err := answer(resp); err != nil {
		return err
	}
	if resp.Header.Get("Content-Encoding") != "" {
		return kinded{ErrHostile, fmt.Errorf("the server packs the file (%s) though it was asked not to", resp.Header.Get("Content-Encoding"))}
	}
	if id := webID(resp); id != o.ID {
		return fmt.Errorf("%w: its version was %s and is %s", ErrChanged, o.ID, id)
	}
	if n := resp.ContentLength; n >= 0 && o.Size >= 0 && resp.StatusCode == http.StatusOK && n != o.Size {
		return fmt.Errorf("%w: it had %d bytes and has %d", ErrChanged, o.Size, n)
	}
	if resp.StatusCode == http.StatusPartialContent && at == 0 {
		return errors.New("it sends a part where the whole file was asked for")
	}
	return nil
}

func rangeStart(header string) (int64, error) {
	text, ok := strings.CutPrefix(header, "bytes ")
	first, _, _ := strings.Cut(text, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	if !ok || err != nil || n < 0 {
		return 0, fmt.Errorf("it sends a part without saying which (Content-Range %.80q)", header)
	}
	return n, nil
}

// answer turns a status into an error.
func answer(resp *http.Response) error {
	status := fmt.Errorf("the server answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent:
		return nil
	case http.StatusNotFound, http.StatusGone:
		return kinded{ErrNotFound, status}
	case http.StatusUnauthorized, http.StatusForbidden:
		return kinded{ErrDenied, fmt.Errorf("%w: it wants credentials, which web addresses have none of here; use a bucket, or make the file readable for this machine", status)}
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &busyError{err: status, after: retryAfter(resp.Header.Get("Retry-After"))}
	}
	return status
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
