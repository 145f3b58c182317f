package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"
)

// predictionID returns the client's id when it is 1 to 128 visible ASCII
// characters, else a new ULID.
func predictionID(r *http.Request) string {
	if ids := r.Header["Ml-Prediction-Id"]; len(ids) == 1 && wellFormedID(ids[0]) {
		return ids[0]
	}
	return ulid.Make().String()
}

func wellFormedID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for i := range len(id) {
		if id[i] < 0x21 || id[i] > 0x7e {
			return false
		}
	}
	return true
}

// clientAddr is the host part of a remote address.
func clientAddr(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// newServer wraps a handler with the limits that every listener keeps: no
// HTTP/2, 64 KiB of headers, and no patience with clients that trickle.
func newServer(h http.Handler, log *slog.Logger, limits Limits) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           h,
		Protocols:         &protocols,
		MaxHeaderBytes:    60 << 10, // net/http adds 4 KiB
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       limits.Timeout + 30*time.Second,
		WriteTimeout:      2*limits.Timeout + 60*time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return context.Background() },
	}
}
