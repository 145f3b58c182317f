// Package reply is how the daemon answers over HTTP: documents that are whole, and
// streams of events.
package reply

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/continuo-ml/continuo/resource"
)

// Unreadable answers that a state cannot be read; the log says why.
func Unreadable(w http.ResponseWriter, log *slog.Logger, err error) {
	log.Error("read the state", "error", err)
	http.Error(w, "the state cannot be read now; the daemon's log says why", http.StatusInternalServerError)
}

// Beat is how often a stream shows that it is alive, and how long a reader may take
// nothing of it.
const Beat = 20 * time.Second

// JSON answers with v.
func JSON(w http.ResponseWriter, v any) { Status(w, http.StatusOK, v) }

// Status answers with v and a code. It encodes all of v before anything is sent:
// half an answer must not pass for one.
func Status(w http.ResponseWriter, code int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "this cannot be said as JSON: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(raw, '\n')) //nolint:errcheck // who went away needs no answer
}

// Address reads the address in a request's path; it answers what is none.
func Address(w http.ResponseWriter, req *http.Request) (resource.Address, bool) {
	a, err := resource.ParseAddress(req.PathValue("address"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return a, err == nil
}

// Stream is an answer that has no end of its own: what is written is sent at once,
// and a reader who takes nothing is given up.
type Stream struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	sent int64
	err  error
}

// NewStream begins an answer of a content type.
func NewStream(w http.ResponseWriter, kind string) *Stream {
	w.Header().Set("Content-Type", kind)
	s := &Stream{w: w, rc: http.NewResponseController(w)}
	s.err = supported(s.rc.SetReadDeadline(time.Time{})) // the request is read; what ends it is the reader's leaving
	return s
}

// supported leaves out that a writer, as those of tests, knows no deadlines.
func supported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// Write implements io.Writer. After an error it writes nothing more.
func (s *Stream) Write(p []byte) (n int, err error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.err = supported(s.rc.SetWriteDeadline(time.Now().Add(Beat))); s.err != nil {
		return 0, s.err
	}
	if n, s.err = s.w.Write(p); s.err == nil {
		s.err = s.rc.Flush()
	}
	s.sent += int64(n)
	return n, s.err
}

// Sent is the number of bytes that were written.
func (s *Stream) Sent() int64 { return s.sent }

// Say writes text, and says whether the reader is still there.
func (s *Stream) Say(text string) bool {
	_, err := io.WriteString(s, text)
	return err == nil
}

// Events is the content type of server-sent events.
const Events = "text/event-stream"

// Event sends v as JSON, as a server-sent event, and says whether the reader is
// still there. What JSON cannot say is left out.
func (s *Stream) Event(kind string, v any) bool {
	var b bytes.Buffer
	if json.NewEncoder(&b).Encode(v) != nil {
		return s.err == nil
	}
	return s.Say("event: " + kind + "\ndata: " + b.String() + "\n")
}
