package gateway

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// stream passes one long or endless answer on as it comes.
type stream struct {
	x     *exchange
	rc    *http.ResponseController
	limit int   // bytes of the answer that are kept for capture
	left  int64 // bytes to come; negative if unknown
	held  []byte
}

// streamAnswer passes a long or endless answer on. Once its head is out, a
// fault can only be told by cutting the connection. With a sink the end is
// held back until the record stands: the last part of a known length, the end
// of the chunks, or the last part for a client of HTTP/1.0, which knows an end
// by nothing but the end of the connection.
func (x *exchange) streamAnswer(r *http.Request, k *call) bool {
	x.head(k.resp)
	s := stream{x: x, rc: http.NewResponseController(x.w), limit: x.p.writer.MaxBody(), left: k.resp.ContentLength}
	lag := x.cfg.sink && s.left < 0 && !r.ProtoAtLeast(1, 1)
	buf := make([]byte, 32<<10)
	for {
		n, err := k.resp.Body.Read(buf)
		if n > 0 {
			x.keepAnswer(buf[:n], s.limit)
			part := buf[:n]
			if lag {
				s.held, part = append([]byte(nil), part...), s.held
			}
			s.pass(part)
		}
		switch {
		case errors.Is(err, io.EOF):
			s.keep()
			s.pass(s.held)
			return true
		case err == nil:
			err = k.extend(r.Context(), x.cfg.limits.Timeout)
		}
		if err != nil {
			x.failed = r.Context().Err() == nil
			x.gone = !x.failed
			x.entry.ResponseTruncated = true
			panic(http.ErrAbortHandler)
		}
	}
}

// pass writes one part, the last one of a known length when its record stands.
func (s *stream) pass(part []byte) {
	if len(part) == 0 {
		return
	}
	flush := s.left < 0
	if s.left -= int64(len(part)); s.left == 0 {
		s.keep()
	}
	// A reader that stalls must not hold the server for ever.
	err := s.rc.SetWriteDeadline(time.Now().Add(s.x.cfg.limits.Timeout))
	if err == nil {
		_, err = s.x.w.Write(part)
	}
	if err == nil && flush {
		err = s.rc.Flush()
	}
	if err != nil {
		s.x.gone = true
		panic(http.ErrAbortHandler)
	}
}

// keep cuts the answer off when its record cannot stand.
func (s *stream) keep() {
	if !s.x.keep(s.x.entry.Status) {
		panic(http.ErrAbortHandler)
	}
}

// keepAnswer keeps the beginning of a streamed answer for capture.
func (x *exchange) keepAnswer(part []byte, limit int) {
	e := x.entry
	if room := limit - len(e.Response); room < len(part) {
		part = part[:max(room, 0)]
		e.ResponseTruncated = true
	}
	e.Response = append(e.Response, part...)
}
