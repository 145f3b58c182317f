package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/continuo-ml/continuo/internal/fence"
)

const (
	maxBody      = 256 << 20 // one page of 500 objects of at most 1.5 MB stays far below in practice
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 5 * time.Second
	readyWithin  = 3 * time.Second
)

// request is one HTTP request. All that this package sends can be sent twice.
type request struct {
	call
	method string
	path   string
	query  url.Values
	body   []byte
	ctype  string
	// accept overrides application/json.
	accept string
}

type answer struct {
	code int
	body []byte
}

// do sends a request and repeats it for a while when the answer says that it may work later.
func (c *Client) do(ctx context.Context, r request) (answer, error) {
	var a answer
	err := c.repeat(ctx, func() error {
		var err error
		if a, err = c.once(ctx, r); err == nil {
			c.granted.Store(r.right(), true)
		}
		return err
	})
	var denied *ForbiddenError
	var again *Retryable
	if errors.As(err, &denied) && errors.As(err, &again) {
		return a, denied // it did not pass
	}
	return a, err
}

// right names what a request needs to be allowed.
func (q call) right() string {
	return q.verb + " " + q.groupResource() + " " + q.ref.Namespace
}

// mayPass reports whether a refusal may be over in a moment: an API server that has just come back refuses what it allows until it has
// read its roles. One that has never allowed it, and was never away, means it.
func (c *Client) mayPass(q call) bool {
	if _, ok := c.granted.Load(q.right()); ok {
		return true
	}
	away := c.away.Load()
	return away != 0 && time.Since(time.Unix(0, away)) < c.retryFor
}

// repeat calls f until it ends with something else than a Retryable, its time is over, or the server wants more time than there is. The time
// begins with the first failure: a first answer that took long leaves room for a second try.
func (c *Client) repeat(ctx context.Context, f func() error) error {
	var end time.Time
	unknown := false
	for tried, backoff := 1, firstBackoff; ; tried, backoff = tried+1, min(2*backoff, maxBackoff) {
		err := f()
		var again *Retryable
		if !errors.As(err, &again) {
			return err
		}
		unknown = unknown || again.Unknown
		if end.IsZero() {
			end = time.Now().Add(c.retryFor)
		}
		// What the server asks for is the least; all who were sent away at once must not come back at once.
		wait := max(backoff/2, again.After) + rand.N(backoff/2)
		if time.Now().Add(wait).After(end) {
			return given(again, tried, unknown)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w (last answer: %w)", context.Cause(ctx), err)
		case <-timer.C:
		}
	}
}

// given is the error of what was given up.
func given(r *Retryable, tried int, unknown bool) error {
	how := "try again later"
	if tried > 1 {
		how = fmt.Sprintf("tried %d times; %s", tried, how)
	}
	if r.After > 0 {
		how = fmt.Sprintf("it asks to wait %s; try again then", r.After)
	}
	return &Retryable{Err: fmt.Errorf("%w (%s)", r.Err, how), After: r.After, Unknown: unknown}
}

// once sends a request and reads the whole answer.
func (c *Client) once(ctx context.Context, r request) (answer, error) {
	if err := c.limit.Wait(ctx); err != nil {
		return answer{}, fmt.Errorf("%s: %w", r.call, err)
	}
	if r.method != http.MethodGet {
		if err := fence.Check(ctx); err != nil {
			return answer{}, fmt.Errorf("%s: %w", r.call, err)
		}
	}
	within, cancel := context.WithTimeout(ctx, c.within)
	defer cancel()
	resp, err := c.send(within, r)
	if err != nil {
		return answer{}, c.unreachable(ctx, r.call, err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	err = errors.Join(err, resp.Body.Close())
	switch {
	case err != nil:
		return answer{}, c.unreachable(ctx, r.call, err)
	case len(body) > maxBody:
		return answer{}, fmt.Errorf("%s: the answer is larger than %d bytes", r.call, maxBody)
	case resp.StatusCode >= 300:
		return answer{}, c.doubt(ctx, c.refused(r.call, resp, body))
	}
	return answer{code: resp.StatusCode, body: body}, nil
}

func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	u := *c.host
	u.Path = strings.TrimSuffix(u.Path, "/") + r.path
	u.RawQuery = r.query.Encode()
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	if r.ctype != "" {
		req.Header.Set("Content-Type", r.ctype)
	}
	return c.http.Do(req)
}

// unreachable names the host and the cause. The end of the caller's own context is no reason to try again.
func (c *Client) unreachable(ctx context.Context, q call, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", q, context.Cause(ctx))
	}
	var outer *url.Error // its text repeats method and address
	if errors.As(err, &outer) {
		err = outer.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s", c.within)
	}
	c.away.Store(time.Now().UnixNano())
	return &Retryable{Err: fmt.Errorf("%s: reach the API server %s: %w", q, c.host.Host, err), Unknown: !errors.Is(err, syscall.ECONNREFUSED)}
}

// refused makes an error of an answer that is none of success.
func (c *Client) refused(q call, resp *http.Response, body []byte) error {
	var status metav1.Status
	if json.Unmarshal(body, &status) != nil || status.Kind != "Status" {
		status = metav1.Status{Status: metav1.StatusFailure, Message: firstLine(string(body), resp.Status)}
	}
	status.Code = int32(resp.StatusCode)
	if status.Reason == "" {
		status.Reason = reasonOf(resp.StatusCode)
	}
	err := &apierrors.StatusError{ErrStatus: status}
	after := retryAfter(resp, &status)
	switch {
	case ofObject(status):
		return fmt.Errorf("%s: the API server does not take the object: %s", q, status.Message)
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented:
		return &Retryable{After: after, Err: fmt.Errorf("%s: the API server answers %d: %s", q, resp.StatusCode, status.Message),
			Unknown: resp.StatusCode == http.StatusGatewayTimeout || resp.StatusCode == http.StatusBadGateway}
	case q.verb == "patch" && resp.StatusCode == http.StatusConflict && len(conflicts(status)) == 0:
		if q.moved {
			return fmt.Errorf("%s: %w", q, errMoved)
		}
		// Somebody else wrote at the same moment. The next attempt rests on what is there then.
		return &Retryable{After: after, Err: c.explain(q, err)}
	}
	told := c.explain(q, err)
	if q.verb == "delete" && resp.StatusCode == http.StatusConflict && !isOther(err) {
		return &Retryable{After: after, Err: told} // somebody wrote at the same moment; the precondition is the UID, and that holds
	}
	var denied *ForbiddenError // and not a quota, or a namespace that is going
	if errors.As(told, &denied) && c.mayPass(q) {
		return &Retryable{After: after, Err: told}
	}
	return told
}

// doubt asks an API server that lacks a right whether it has come up at all: before that it knows nobody's.
func (c *Client) doubt(ctx context.Context, err error) error {
	var denied *ForbiddenError
	var again *Retryable
	if !errors.As(err, &denied) || errors.As(err, &again) {
		return err
	}
	within, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	resp, rerr := c.send(within, request{method: http.MethodGet, path: "/readyz", accept: "*/*"})
	if rerr == nil {
		_, rerr = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
		rerr = errors.Join(rerr, resp.Body.Close())
	}
	if rerr == nil && resp.StatusCode < http.StatusInternalServerError {
		return err // it is ready, or does not say
	}
	c.away.Store(time.Now().UnixNano())
	return &Retryable{Err: err}
}

// ofObject reports whether an answer that looks like trouble of the server's own says that it does not know a field of the object, or not in
// that form: server-side apply gives its parser's errors the code 500, and no other attempt would fare better.
func ofObject(status metav1.Status) bool {
	return status.Code == http.StatusInternalServerError &&
		(strings.Contains(status.Message, "field not declared in schema") || strings.HasPrefix(status.Message, "failed to create typed patch object"))
}

func reasonOf(code int) metav1.StatusReason {
	switch code {
	case http.StatusUnauthorized:
		return metav1.StatusReasonUnauthorized
	case http.StatusForbidden:
		return metav1.StatusReasonForbidden
	case http.StatusNotFound:
		return metav1.StatusReasonNotFound
	case http.StatusConflict:
		return metav1.StatusReasonConflict
	case http.StatusGone:
		return metav1.StatusReasonExpired
	}
	return metav1.StatusReasonUnknown
}

func retryAfter(resp *http.Response, status *metav1.Status) time.Duration {
	value := resp.Header.Get("Retry-After")
	if n, err := strconv.Atoi(value); err == nil && n >= 0 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(at))
	}
	if status.Details != nil {
		return time.Duration(status.Details.RetryAfterSeconds) * time.Second
	}
	return 0
}

// firstLine is a text's first line that says something, cut to a readable length; instead when there is none.
func firstLine(text, instead string) string {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			return cut(line, 500)
		}
	}
	return instead
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
