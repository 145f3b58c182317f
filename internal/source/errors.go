package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

var (
	// ErrNotFound is what an address matches behind which there is nothing.
	ErrNotFound = errors.New("not found")
	// ErrDenied is what a refusal for want of rights matches.
	ErrDenied = errors.New("denied")
	// ErrChanged is what data matches that is being written faster than it can be read.
	ErrChanged = errors.New("changed while it was read")
	// ErrHostile is what a place matches that gives what it must not give.
	ErrHostile = errors.New("refused")
)

// Error is what went wrong at one place.
type Error struct {
	Place string // the address, without secrets
	Next  string // what to do about it, if that is known
	Err   error
}

// Error implements error.
func (e *Error) Error() string {
	text := "read " + e.Place + ": " + e.Err.Error()
	if e.Next != "" {
		text += "; " + e.Next
	}
	return text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// kinded is a cause with the sentinel that it belongs to.
type kinded struct{ kind, err error }

func (k kinded) Error() string   { return k.err.Error() }
func (k kinded) Unwrap() []error { return []error{k.kind, k.err} }

// busyError is an answer that may be a better one later.
type busyError struct {
	err   error
	after time.Duration // what Retry-After asks for
}

// Error implements error.
func (e *busyError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *busyError) Unwrap() error { return e.err }

// errStalled is what a request ends with that moved no byte for too long.
var errStalled = errors.New("nothing moved for too long")

// errCut is what a body ends with that is shorter than it was to be.
var errCut = errors.New("the connection ended early")

// temporary reports whether the same request may succeed later.
func temporary(err error) bool {
	var busy *busyError
	var dns *net.DNSError
	switch {
	case err == nil, errors.Is(err, context.Canceled), untrusted(err), errors.Is(err, ErrDenied), errors.Is(err, ErrNotFound), errors.Is(err, ErrHostile):
		return false
	case errors.As(err, &busy), errors.Is(err, errStalled), errors.Is(err, errCut), errors.Is(err, ErrChanged):
		return true
	case errors.As(err, &dns):
		return !dns.IsNotFound
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

// untrusted reports whether TLS failed for a reason that stays.
func untrusted(err error) bool {
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	return errors.As(err, &cert) || errors.As(err, &unknown) || errors.As(err, &host)
}

// fail puts place and next step into an error; what a place has explained stays as it is.
func fail(a address, err error) error {
	var done *Error
	if err == nil || errors.As(err, &done) {
		return err
	}
	e := &Error{Place: a.text, Err: err}
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case untrusted(err):
		e.Next = "add the certificate authority to this machine (SSL_CERT_FILE)"
	case errors.As(err, &dns) && dns.IsNotFound:
		e.Err, e.Next = fmt.Errorf("there is no host %s: %w", dns.Name, err), "check the address"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Next = "nothing listens there: is the server running?"
	case errors.Is(err, ErrChanged):
		e.Next = "wait until its writer is done, and plan again"
	case errors.Is(err, syscall.ENOSPC):
		e.Next = "make room on the disk (`ml prune` removes data that nothing refers to)"
	case temporary(err):
		e.Next = "the place may be busy or away; try again later"
	}
	return e
}
