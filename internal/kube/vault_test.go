package kube

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

// vaultOf is a vault on a server that fails; what real servers do is tested in e2e.
func vaultOf(t *testing.T, answer http.HandlerFunc) (*fakeServer, *Vault) {
	t.Helper()
	f := newServer(t, answer)
	return f, connect(t, f.URL, func(c *Config) { c.RetryFor = -1 }).Vault("tumors")
}

func TestAWriteIntoAVaultIsSentOnce(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"a busy server": fails(503, "ServiceUnavailable", "try later", ""),
		"a reset":       func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a gateway":     fails(504, "Timeout", "no answer", ""),
	} {
		t.Run(name, func(t *testing.T) {
			f, v := vaultOf(t, answer)
			_, err := v.Put(t.Context(), "head", []byte("x"), "7")
			var again *Retryable
			if !errors.As(err, &again) {
				t.Errorf("got %v, want one that says to try again", err)
			}
			if n := f.count(); n != 1 {
				t.Errorf("it was sent %d times", n)
			}
		})
	}
}

func TestAVaultTellsWhoWasFaster(t *testing.T) {
	for name, tc := range map[string]struct {
		at     string
		answer http.HandlerFunc
	}{
		"it is there already": {"", fails(409, "AlreadyExists", `secrets "tumors.head" already exists`, "")},
		"it is another":       {"7", fails(409, "Conflict", "the object has been modified", "")},
		"it is gone":          {"7", fails(404, "NotFound", `secrets "tumors.head" not found`, `{"name":"tumors.head","kind":"secrets"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			f, v := vaultOf(t, tc.answer)
			if _, err := v.Put(t.Context(), "head", []byte("x"), tc.at); !errors.Is(err, ErrPassed) {
				t.Errorf("got %v", err)
			}
			if r := f.requests[0]; tc.at == "" && (r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/secrets")) || tc.at != "" && r.Method != http.MethodPut {
				t.Errorf("it sent %s %s", r.Method, r.URL.Path)
			}
			if tc.at != "" && !strings.Contains(f.bodies[0], `"resourceVersion":"7"`) {
				t.Error("it does not say what it rests on")
			}
		})
	}
}

func TestAVaultReadsNoOtherSecret(t *testing.T) {
	_, v := vaultOf(t, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, map[string]any{"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": map[string]any{"name": "tumors.head"}, "data": map[string]any{"data": "cHJpdmF0ZQ=="}})
	})
	data, _, err := v.Get(t.Context(), "head")
	if err == nil || data != nil || strings.Contains(err.Error(), "private") {
		t.Errorf("got %q, %v", data, err)
	}
}
