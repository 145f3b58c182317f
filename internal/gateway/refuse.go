package gateway

import (
	"io"
	"net/http"
	"strconv"
	"time"
)

// lingerBytes and lingerTime are how much of a refused body is read on.
const (
	lingerBytes = 256 << 20
	lingerTime  = 30 * time.Second
)

// busy says why no request can be taken now; if "", one was counted in.
func (p *proxy) busy(cfg *proxyConfig) string {
	switch {
	case cfg == nil:
		return "the gateway is starting; try again in a second"
	case cfg.sink && p.writer.Full():
		p.meters.unkept.Inc()
		return "too many answers wait for the sink to take them; try again when it does"
	case p.router.inflight.Add(1) > int64(cfg.limits.MaxInFlight):
		p.router.inflight.Add(-1)
		return "too many requests at once; try again in a second"
	}
	return ""
}

// refuse answers for the gateway itself.
func (x *exchange) refuse(status int, message string) {
	body := `{"error":` + strconv.Quote(message) + "}\n"
	h := x.w.Header()
	h["ML-Prediction-Id"] = []string{x.entry.ID}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	switch status {
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	case http.StatusRequestEntityTooLarge, http.StatusBadRequest, http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		h.Set("Connection", "close") // what is left of the body is no request
	}
	x.entry.Status, x.wrote = status, true
	x.w.WriteHeader(status)
	if _, err := io.WriteString(x.w, body); err != nil {
		x.gone = true
	}
	if status == http.StatusRequestEntityTooLarge {
		x.linger()
	}
}

// linger reads on for a while what is too long. A client that sends all before
// it looks for an answer, as most do, would get a broken connection otherwise,
// and no word of the limit. One that asks first is not asked to send.
func (x *exchange) linger() {
	if x.r.Header.Get("Expect") != "" {
		return
	}
	rc := http.NewResponseController(x.w)
	if rc.Flush() != nil || rc.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	// Whatever ends it, the connection is closed after this.
	_, _ = io.CopyN(io.Discard, x.r.Body, lingerBytes)
}
