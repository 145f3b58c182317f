package oci

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

var (
	// ErrNotFound is what a reference matches that the registry does not know.
	ErrNotFound = errors.New("not found")
	// ErrDenied is what a refusal of the registry for want of rights matches.
	ErrDenied = errors.New("denied")
	// ErrNoFolder is what a prefix of PullDir matches that is a file.
	ErrNoFolder = errors.New("is no folder")
	// ErrHostile is what an archive matches that holds what it must not hold.
	ErrHostile = errors.New("refused")
)

// Error is what went wrong with one reference.
type Error struct {
	Op   string // what was to be done: "push", "pull", "look up"
	Ref  string // the reference, with its scheme
	Next string // what to do about it, if that is known
	Err  error

	kind  error // ErrNotFound, ErrDenied or nil
	later bool
}

// Error implements error.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s %s: %v", e.Op, e.Ref, e.Err)
	if e.Next != "" {
		text += "; " + e.Next
	}
	return text
}

// Unwrap gives the cause, and the sentinel that it belongs to.
func (e *Error) Unwrap() []error {
	if e.kind == nil {
		return []error{e.Err}
	}
	return []error{e.kind, e.Err}
}

// Retryable reports whether the operation that failed with err may succeed later without any change on our side: the
// registry was busy or away. It has been tried several times already.
func Retryable(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.later
}

// fail puts place and next step into an error.
func fail(op string, ref fmt.Stringer, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Op: op, Ref: Scheme + ref.String(), Err: err, later: temporary(err)}
	host := hostOf(ref)
	var answer *transport.Error
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !e.later:
	case errors.As(err, &answer):
		explain(e, answer, host)
	case errors.Is(err, errNotTLS):
		e.Err, e.Next = errNotTLS, fmt.Sprintf("if the registry is meant to be without TLS, list %q as insecure", host)
	case untrusted(err):
		e.Next = "add the registry's certificate authority to this machine (SSL_CERT_FILE)"
	case errors.As(err, &dns) && dns.IsNotFound:
		e.Err, e.Next = fmt.Errorf("there is no host %s: %w", host, dns), "check the reference"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Err, e.Next = fmt.Errorf("nothing listens at %s: %w", host, err), "is the registry running?"
	case e.later:
		e.Next = "the registry may be busy or restarting; try again later"
	}
	return e
}

// explain says what an answer of the registry means.
func explain(e *Error, answer *transport.Error, host string) {
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		e.kind = ErrDenied
		e.Err = fmt.Errorf("the registry refuses (%d): %w", answer.StatusCode, e.Err)
		e.Next = "log in with `docker login " + host + "`, or ask for the right to " + e.Op + " there"
	case http.StatusNotFound:
		e.kind = ErrNotFound
		e.Err = fmt.Errorf("the registry does not know it: %w", e.Err)
	case http.StatusRequestEntityTooLarge, http.StatusInsufficientStorage:
		e.Err = fmt.Errorf("the registry has no room for it (%d): %w", answer.StatusCode, e.Err)
	default:
		e.Err = fmt.Errorf("the registry answers %d: %w", answer.StatusCode, e.Err)
	}
}

func hostOf(ref fmt.Stringer) string {
	switch r := ref.(type) {
	case name.Reference:
		return r.Context().RegistryStr()
	case name.Repository:
		return r.RegistryStr()
	}
	return ref.String()
}
