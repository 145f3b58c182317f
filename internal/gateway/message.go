package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// message is a request on its way to a server.
type message struct {
	r      *http.Request
	id     string
	client string // address of the client, for X-Forwarded-For
	// body is the whole body, or its beginning when rest is not nil.
	body []byte
	// rest is the unread remainder of a long body; length is that of the
	// whole body, or -1 if unknown; limit bounds what may still come.
	rest   io.Reader
	length int64
	limit  int64
}

// clientError is a fault of the client that was found while its body was
// being passed on.
type clientError struct {
	status int
	err    error
}

// Error says what the client did.
func (e *clientError) Error() string { return fmt.Sprintf("request body: %v", e.err) }

// Unwrap returns the cause.
func (e *clientError) Unwrap() error { return e.err }

var errBodyTooLong = errors.New("longer than the limit")

// appendHead appends the request line and headers for the server that is called host. The
// request is written anew from its parsed parts, never copied, so that the
// server cannot see other message borders than the gateway did.
func (m *message) appendHead(dst []byte, host string) []byte {
	dst = append(dst, m.r.Method...)
	dst = append(dst, ' ')
	if path := m.r.URL.EscapedPath(); path != "" {
		dst = append(dst, path...)
	} else {
		dst = append(dst, '/')
	}
	if m.r.URL.ForceQuery || m.r.URL.RawQuery != "" {
		dst = append(dst, '?')
		dst = append(dst, m.r.URL.RawQuery...)
	}
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, host...)
	nominated := m.r.Header["Connection"]
	for name, values := range m.r.Header {
		if dropsRequest(name) || len(nominated) > 0 && nominates(nominated, name) {
			continue
		}
		for _, v := range values {
			dst = appendHeader(dst, name, v)
		}
	}
	dst = appendHeader(dst, "ML-Prediction-Id", m.id)
	dst = appendHeader(dst, "X-Forwarded-For", m.client)
	dst = appendHeader(dst, "X-Forwarded-Host", m.r.Host)
	dst = appendHeader(dst, "X-Forwarded-Proto", "http")
	switch {
	case m.length > 0 || m.length == 0 && m.r.Method != http.MethodGet && m.r.Method != http.MethodHead:
		dst = append(dst, "\r\nContent-Length: "...)
		dst = strconv.AppendInt(dst, m.length, 10)
	case m.length < 0:
		dst = append(dst, "\r\nTransfer-Encoding: chunked"...)
	}
	dst = append(dst, "\r\n\r\n"...)
	if m.length < 0 && len(m.body) > 0 {
		// The bytes that were read ahead become the first chunk; its end is
		// written by stream.
		dst = strconv.AppendInt(dst, int64(len(m.body)), 16)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

func appendHeader(dst []byte, name, value string) []byte {
	dst = append(dst, "\r\n"...)
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	return append(dst, value...)
}

// stream passes the rest of a long body on. It tells the client's faults
// (*clientError) from the server's.
func (m *message) stream(c *conn, timeout time.Duration) error {
	buf := make([]byte, 32<<10)
	chunked := m.length < 0
	if chunked && len(m.body) > 0 {
		if _, err := io.WriteString(c, "\r\n"); err != nil {
			return err
		}
	}
	for {
		n, err := m.rest.Read(buf)
		if m.limit -= int64(n); m.limit < 0 {
			return &clientError{http.StatusRequestEntityTooLarge, errBodyTooLong}
		}
		if n > 0 {
			if err := writePart(c, buf[:n], chunked, timeout); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if chunked {
				_, err := io.WriteString(c, "0\r\n\r\n")
				return err
			}
			return nil
		case err != nil:
			return &clientError{http.StatusBadRequest, err}
		}
	}
}

func writePart(c *conn, part []byte, chunked bool, timeout time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if chunked {
		if _, err := fmt.Fprintf(c, "%x\r\n", len(part)); err != nil {
			return err
		}
	}
	if _, err := c.Write(part); err != nil {
		return err
	}
	if chunked {
		_, err := io.WriteString(c, "\r\n")
		return err
	}
	return nil
}

// hopByHop reports whether a header (in canonical form) speaks about one
// connection only. RFC 9110, section 7.6.1.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// dropsRequest reports whether a request header is not passed on: it belongs
// to the hop, the gateway sets it, or it claims a path that nobody checked.
func dropsRequest(name string) bool {
	switch name {
	case "Content-Length", "Expect", "Host", "Forwarded", "X-Real-Ip", "Ml-Prediction-Id":
		return true
	}
	return hopByHop(name) || strings.HasPrefix(name, "X-Forwarded-")
}

// nominates reports whether a Connection header names this header. End-to-end
// fields that servers decide by cannot be dropped that way: RFC 9110 forbids
// naming them, and doing so is only good for getting around a check.
func nominates(connection []string, name string) bool {
	switch name {
	case "Authorization", "Cookie", "Content-Type", "Content-Encoding", "Cache-Control":
		return false
	}
	for _, line := range connection {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(option), name) {
				return true
			}
		}
	}
	return false
}
