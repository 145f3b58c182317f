package local

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/providers/runs"
	"github.com/continuo-ml/continuo/resource"
)

const (
	webhookTimeout = 10 * time.Second
	// maxAlert bounds the body of an alert; beyond it the evidence is left out, which the monitor's signal still holds.
	maxAlert     = 1 << 20
	maxRedirects = 3
)

// notifier delivers alerts: to a webhook, signed, or to a file. A webhook's address often holds a token, so nothing that it says
// names more than the host.
type notifier struct {
	*runs.Workspace
	mu sync.Mutex // one line at a time
}

// Apply implements providers.Typed. There is nothing to make; an address that cannot work is found now.
func (n *notifier) Apply(_ context.Context, spec config.Notifier, req providers.ApplyRequest) (providers.Result, error) {
	if spec.Type == "webhook" {
		if _, err := webhookURL(spec.URL); err != nil {
			return providers.Result{}, fmt.Errorf("%s: %w", req.Address, err)
		}
	}
	return providers.Result{Outputs: config.NotifierOutputs{Address: req.Address.String(), Type: spec.Type}}, nil
}

// Read implements providers.Typed.
func (n *notifier) Read(context.Context, providers.ReadRequest) (providers.Object, error) {
	return providers.Object{Phase: resource.PhaseReady}, nil
}

// Delete implements providers.Typed. Alerts that were written stay.
func (n *notifier) Delete(context.Context, providers.DeleteRequest) error { return nil }

// Notify implements providers.Notifier.
func (n *notifier) Notify(ctx context.Context, req providers.NotifyRequest) error {
	var spec config.Notifier
	if err := resource.Decode(req.Spec, &spec); err != nil {
		return fmt.Errorf("notifier: %w", err)
	}
	body, err := alertBody(req)
	if err != nil {
		return err
	}
	if spec.Type == "log" {
		return n.write(ctx, req.Key, body)
	}
	return n.post(ctx, spec, req.Key, body)
}

// alertBody is what is delivered: the alert's own fields, its title and its key, on one line.
func alertBody(req providers.NotifyRequest) ([]byte, error) {
	fields := map[string]any{}
	maps.Copy(fields, req.Body)
	fields["title"], fields["key"] = req.Title, req.Key
	body, err := json.Marshal(fields)
	if err == nil && len(body) > maxAlert {
		fields["evidence"], fields["evidence_omitted"] = nil, true
		body, err = json.Marshal(fields)
	}
	if err != nil {
		return nil, fmt.Errorf("encode alert: %w", err)
	}
	if len(body) > maxAlert {
		return nil, fmt.Errorf("alert %q is longer than %d bytes", req.Title, maxAlert)
	}
	return body, nil
}

// webhookURL parses an address without repeating it in an error.
func webhookURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("url: it is not an http or https address; write one such as https://hooks.example.com/ml")
	}
	return u, nil
}

// post sends the body once. The signature is over its very bytes.
func (n *notifier) post(ctx context.Context, spec config.Notifier, key string, body []byte) error {
	u, err := webhookURL(spec.URL)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("webhook %s: the request cannot be made", u.Host)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "continuo")
	req.Header.Set("ML-Delivery", headerValue(key))
	if spec.Secret != "" {
		req.Header.Set("ML-Signature", signature(spec.Secret, body))
	}
	// One delivery, no connection left behind.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	client := http.Client{Timeout: webhookTimeout, Transport: transport, CheckRedirect: sameHost}
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("webhook %s: %w", u.Host, ctx.Err())
		}
		return &providers.RetryableError{Err: fmt.Errorf("webhook %s: %w", u.Host, scrubbed(err, u))}
	}
	// What it says is not repeated (it may quote the address), but reading it lets the other side end well.
	_, readErr := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	closeErr := resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil // it arrived, whatever became of the rest of the answer
	}
	err = errors.Join(fmt.Errorf("webhook %s answered with status %d", u.Host, resp.StatusCode), scrubbed(readErr, u), closeErr)
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500:
		return &providers.RetryableError{Err: err, After: retryAfter(resp.Header.Get("Retry-After"), n.Now())}
	}
	return err
}

// signature is what the receiver compares: "sha256=" and the hex HMAC-SHA256 of the body.
func signature(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// sameHost follows a redirect only where the alert stays with the host that was named, over no weaker a protocol, and as a POST.
func sameHost(next *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > maxRedirects || next.Method != http.MethodPost || next.URL.Host != first.URL.Host || next.URL.Scheme != first.URL.Scheme {
		return http.ErrUseLastResponse
	}
	return nil
}

// errRequest stands for an error whose text comes from the other side, or holds the address.
var errRequest = errors.New("the request failed")

// scrubbed is the network's error without the address that net/http puts around it.
func scrubbed(err error, u *url.URL) error {
	if err == nil {
		return nil
	}
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	var network net.Error
	var certificate *tls.CertificateVerificationError
	if !errors.As(err, &network) && !errors.As(err, &certificate) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return errRequest
	}
	for _, secret := range []string{u.RequestURI(), u.Path, u.RawQuery, u.User.String()} {
		if len(secret) > 1 && strings.Contains(err.Error(), secret) {
			return errRequest
		}
	}
	return err
}

// retryAfter reads the header's two forms: seconds, or a date.
func retryAfter(header string, now time.Time) time.Duration {
	if s, err := strconv.Atoi(strings.TrimSpace(header)); err == nil && s > 0 {
		return time.Duration(min(s, 86400)) * time.Second
	}
	if t, err := http.ParseTime(header); err == nil && t.After(now) {
		return min(t.Sub(now), 24*time.Hour)
	}
	return 0
}

// headerValue spells a key with the characters that a header may hold.
func headerValue(key string) string {
	var b strings.Builder
	for _, c := range []byte(key) {
		if c < 0x20 || c > 0x7e || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
