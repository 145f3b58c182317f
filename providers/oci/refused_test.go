package oci

import (
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/internal/oci/ocitest"
	"github.com/continuo-ml/continuo/providers"
	"github.com/continuo-ml/continuo/resource"
)

func TestCodeThatMovedSinceThePlanIsNotPacked(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), map[string]string{"serve.py": "1"})
	req := m.request("op-1", config.Package{Mode: "server", Command: []string{"python3", "serve.py"}}, nil)
	m.write("serve.py", "another length")
	if _, err := m.driver.Apply(within(t), req); err == nil || !strings.Contains(err.Error(), "package.churn: the source moved since the plan") {
		t.Errorf("error %v", err)
	}
}

func TestErrorsSayWhatFailsAndWhatToDo(t *testing.T) {
	reg, locked := ocitest.Start(t, "", ""), ocitest.Start(t, "user", "password")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, reg, map[string]string{"serve.py": "1"})
	arm := m.base("arm", "linux/arm64", map[string]string{"bin/sh": "x"})
	server := func(change func(*config.Package)) config.Package {
		s := config.Package{Mode: "server", Command: []string{"python3", "serve.py"}}
		change(&s)
		return s
	}
	gone := m.model(map[string]string{"model.onnx": onnx})
	gone.URI = "elsewhere/manifests/" + resource.Digest(gone.Digest).Hex() + ".json"
	bucket := m.model(map[string]string{"model.onnx": onnx})
	bucket.URI = "s3://bucket/model"
	broken := m.model(map[string]string{"model.onnx": onnx[:8]})
	for name, c := range map[string]struct {
		spec  config.Package
		want  []string
		retry bool
	}{
		"unreachable":           {server(func(s *config.Package) { s.Image = nobody + "/ml/x" }), []string{"nothing listens at " + nobody, "is the registry running?"}, true},
		"no credentials":        {server(func(s *config.Package) { s.Image = locked.Host + "/ml/x" }), []string{"the registry refuses (401)", "docker login " + locked.Host}, false},
		"no base":               {server(func(s *config.Package) { s.Base = reg.Host + "/ml/none:v1" }), []string{"the base image: look up oci://" + reg.Host + "/ml/none:v1", "does not know it"}, false},
		"base of other machine": {server(func(s *config.Package) { s.Base = arm }), []string{"is for linux/arm64, and linux/amd64 was asked for"}, false},
		"files not here":        {server(func(s *config.Package) { s.Model = gone }), []string{"version 3 of training.churn: its files are in an artifact store that is not on this machine"}, false},
		"files in a bucket":     {server(func(s *config.Package) { s.Model = bucket }), []string{"its files are at \"s3://bucket/model\""}, false},
		"a damaged model":       {server(func(s *config.Package) { s.Model = broken }), []string{"model.onnx is damaged"}, false},
		"sources that are not":  {server(func(s *config.Package) { s.Command, s.Sources = nil, []string{"*.none"} }), []string{"it holds nothing: sources match no file"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := m.apply("op-"+strings.ReplaceAll(name, " ", "-"), c.spec, nil)
			for _, want := range append(c.want, "package.churn: ") {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v\nwants %q", err, want)
				}
			}
			var again *providers.RetryableError
			if errors.As(err, &again) != c.retry {
				t.Errorf("retryable %v, want %v", !c.retry, c.retry)
			}
		})
	}
	t.Run("no registry", func(t *testing.T) {
		m.pack.w.Artifacts = ""
		if _, err := m.apply("op-none", server(func(*config.Package) {}), nil); err == nil || !strings.Contains(err.Error(), "set image = ") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("sensitive values of an interrupted operation", func(t *testing.T) {
		req := m.request("op-secret", server(func(s *config.Package) { s.Image, s.Env = reg.Host+"/ml/x", map[string]string{"A": "hash:abc"} }), nil)
		if err := (&op{p: m.pack, req: req, dir: filepath.Join(m.root, ".ml", "runs", "op-secret")}).start(); err != nil {
			t.Fatal(err)
		}
		req.Adopt = true
		if _, err := m.driver.Apply(within(t), req); err == nil || !strings.Contains(err.Error(), "not stored; apply again") {
			t.Errorf("error %v", err)
		}
	})
}

func TestAnApplyEndsWithItsTimeout(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), map[string]string{"serve.py": "1"})
	stop := make(chan struct{})
	defer close(stop)
	m.reg.Between(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-stop:
			case <-r.Context().Done():
			}
		})
	})
	_, err := m.apply("op-1", config.Package{Mode: "server", Command: []string{"python3", "serve.py"}, Timeout: 50 * time.Millisecond}, nil)
	if err == nil || !strings.Contains(err.Error(), "longer than its timeout of 50ms") {
		t.Errorf("error %v", err)
	}
}

func TestABlocksNameMakesARepository(t *testing.T) {
	m := newMachine(t, ocitest.Start(t, "", ""), nil)
	for a, want := range map[resource.Address]string{
		{Kind: "package", Name: "churn"}:                      "/ml/packages/churn",
		{Kind: "package", Name: "churn_eu"}:                   "/ml/packages/churn-eu",
		{Kind: "package", Name: "churn", Key: `["de"]`}:       "/ml/packages/churn.de",
		{Module: "module.eu", Kind: "package", Name: "churn"}: "/ml/packages/module.eu.package.churn",
	} {
		if got, err := m.pack.repo(config.Package{}, a); err != nil || !strings.HasPrefix(got, "oci://"+m.reg.Host+want) {
			t.Errorf("%s: %s, want %s: %v", a, got, want, err)
		}
	}
}
