package forge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/drone/go-scm/scm"
)

// ErrNotFound: the forge has no such thing, or does not show it to this token.
var ErrNotFound = errors.New("not there, or not to be seen with this token")

// ErrDenied: the token is missing, wrong, expired or may not do this.
var ErrDenied = errors.New("denied")

// RateLimitedError says that the forge wants no request before a time. Nothing was done.
type RateLimitedError struct {
	Op    string
	Until time.Time
}

// Error implements error.
func (e *RateLimitedError) Error() string {
	return fmt.Sprintf("%s: the forge takes no more requests until %s", e.Op, e.Until.UTC().Format(time.RFC3339))
}

// UnavailableError says that the forge could not be reached or failed by itself: try again later. It is not known whether a write was done;
// all writes of this package may be repeated.
type UnavailableError struct {
	Op  string
	Err error
}

// Error implements error.
func (e *UnavailableError) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// settingError is a mistake in how the forge is configured: trying again does not help.
type settingError struct{ text string }

// Error implements error.
func (e *settingError) Error() string { return e.text }

// maxWait bounds how long a forge may send us away: its windows are an hour.
const maxWait = time.Hour

// errorMaker turns answers into errors that a caller can branch on.
type errorMaker struct {
	forge string
	token func() (string, error)
	now   func() time.Time
}

func errorsOf(cfg Config) errorMaker {
	return errorMaker{forge: string(cfg.Kind) + " " + cfg.Repo, token: cfg.Token, now: cfg.Now}
}

// of is the error of an operation, or nil. res is nil when there was no answer.
func (m errorMaker) of(ctx context.Context, what string, res *scm.Response, err error) error {
	if err == nil {
		return nil
	}
	op := m.forge + ": " + what
	if res == nil {
		return m.unanswered(ctx, op, err)
	}
	if until, limited := m.limited(res); limited {
		return &RateLimitedError{Op: op, Until: until}
	}
	text := m.said(err)
	switch {
	case res.Status == http.StatusUnauthorized:
		return fmt.Errorf("%s: %w: the token is missing, wrong or expired%s", op, ErrDenied, text)
	case res.Status == http.StatusForbidden:
		return fmt.Errorf("%s: %w%s", op, ErrDenied, text)
	case res.Status == http.StatusNotFound, res.Status == http.StatusGone:
		return fmt.Errorf("%s: %w%s", op, ErrNotFound, text)
	case res.Status >= 500:
		return &UnavailableError{Op: op, Err: fmt.Errorf("the forge answers %d %s%s", res.Status, http.StatusText(res.Status), text)}
	case res.Status >= 300:
		return fmt.Errorf("%s: the forge answers %d %s%s", op, res.Status, http.StatusText(res.Status), text)
	case errors.Is(err, errTooLong):
		return fmt.Errorf("%s: %w", op, errTooLong)
	}
	// A status that says yes and a body that says nothing: cut off, or a proxy's page.
	return &UnavailableError{Op: op, Err: errors.New("the answer is broken" + text)}
}

func (m errorMaker) unanswered(ctx context.Context, op string, err error) error {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err // its text has the whole address, with what was asked
	}
	var setting *settingError
	switch {
	case errors.As(err, &setting):
		return fmt.Errorf("%s: %s", op, m.masked(setting.text))
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
	return &UnavailableError{Op: op, Err: errors.New("no answer: " + m.masked(err.Error()))}
}

// limited says whether an answer is about too many requests, and when the next may come. GitHub says 403 for both of its limits.
func (m errorMaker) limited(res *scm.Response) (time.Time, bool) {
	h, now := res.Header, m.now()
	spent := h.Get("X-RateLimit-Remaining") == "0" || h.Get("Retry-After") != ""
	if res.Status != http.StatusTooManyRequests && (res.Status != http.StatusForbidden || !spent) {
		return time.Time{}, false
	}
	until := now.Add(time.Minute)
	if s, err := strconv.ParseInt(h.Get("Retry-After"), 10, 32); err == nil {
		until = now.Add(time.Duration(s) * time.Second)
	} else if at, err := http.ParseTime(h.Get("Retry-After")); err == nil {
		until = at
	} else {
		for _, name := range []string{"X-RateLimit-Reset", "RateLimit-Reset"} {
			if s, err := strconv.ParseInt(h.Get(name), 10, 64); err == nil {
				until = time.Unix(s, 0)
			}
		}
	}
	if until.Before(now) {
		until = now.Add(time.Second)
	}
	if until.After(now.Add(maxWait)) {
		until = now.Add(maxWait)
	}
	return until, true
}

// said is what the forge said, short and on one line, after a colon.
func (m errorMaker) said(err error) string {
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, m.masked(err.Error()))
	if runes := []rune(text); len(runes) > 300 {
		text = string(runes[:300]) + "…"
	}
	if text = strings.TrimSpace(text); text == "" {
		return ""
	}
	return ": " + text
}

// masked takes the token out of a text that came from outside.
func (m errorMaker) masked(text string) string {
	if m.token == nil {
		return text
	}
	if token, err := m.token(); err == nil && token != "" {
		text = strings.ReplaceAll(text, token, "***")
		text = strings.ReplaceAll(text, url.QueryEscape(token), "***")
	}
	return text
}
