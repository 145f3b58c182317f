// Package registry serves images for the e2e cluster: blobs on disk, over plain HTTP, for everybody or behind a user and password.
//
// Manifests and tags are kept in memory, so a registry that starts again is empty until images are pushed again; their blobs are there.
package registry

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Options say where a registry listens and what it serves.
type Options struct {
	Listen   []string // HOST:PORT, at least one
	Dir      string   // blobs that are pushed
	Also     string   // blobs that are there already, as files named by the hexadecimal digits of their SHA-256; only read
	User     string   // with Password: who may come in; "" is everybody
	Password string
	Log      io.Writer
}

// Serve serves until ctx ends.
func Serve(ctx context.Context, o Options) error {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return fmt.Errorf("serve registry: %w", err)
	}
	server := &http.Server{Handler: Handler(o), ReadHeaderTimeout: 30 * time.Second}
	errs := make(chan error, len(o.Listen))
	for _, addr := range o.Listen {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			return errors.Join(fmt.Errorf("serve registry: %w", err), server.Close())
		}
		go func() { errs <- server.Serve(l) }()
	}
	select {
	case err := <-errs:
		return errors.Join(fmt.Errorf("serve registry: %w", err), server.Close())
	case <-ctx.Done():
		return server.Close()
	}
}

// Handler answers the distribution protocol.
func Handler(o Options) http.Handler {
	h := registry.New(
		registry.WithBlobHandler(blobs{dir: o.Dir, also: o.Also}),
		registry.WithReferrersSupport(true),
		registry.Logger(log.New(o.Log, "", log.LstdFlags)),
	)
	if o.User == "" {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		same := subtle.ConstantTimeCompare([]byte(user), []byte(o.User)) & subtle.ConstantTimeCompare([]byte(password), []byte(o.Password))
		if same != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`+"\n")
			return
		}
		h.ServeHTTP(w, r)
	})
}
