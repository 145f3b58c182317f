package api

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// server answers discovery and takes PATCH; it keeps what it was asked.
func server(t *testing.T) (client *Client, asked *[]string) {
	t.Helper()
	asked = &[]string{}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		*asked = append(*asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(body))
		switch {
		case r.URL.Path == "/api/v1":
			fmt.Fprint(w, `{"resources":[{"name":"pods/log","kind":"Pod","namespaced":true},{"name":"configmaps","kind":"ConfigMap","namespaced":true},{"name":"namespaces","kind":"Namespace"}]}`)
		case r.Method == http.MethodPatch:
			fmt.Fprint(w, `{}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"kind":"Status","reason":"NotFound","message":"no such thing","code":404}`)
		}
	}))
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	file := filepath.Join(t.TempDir(), "config")
	text, err := json.Marshal(map[string]any{
		"current-context": "c", "contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "k", "user": "u"}}},
		"clusters": []any{map[string]any{"name": "k", "cluster": map[string]any{"server": s.URL, "certificate-authority-data": base64.StdEncoding.EncodeToString(ca)}}},
		"users":    []any{map[string]any{"name": "u", "user": map[string]any{"token": "secret"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	client, err = Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return client, asked
}

func TestObjectsGoToThePathOfTheirKind(t *testing.T) {
	client, asked := server(t)
	err := client.Apply(t.Context(),
		Object{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "n"}},
		Object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "c", "namespace": "n"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"GET /api/v1 Bearer secret ",
		`PATCH /api/v1/namespaces/n Bearer secret {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"n"}}`,
		`PATCH /api/v1/namespaces/n/configmaps/c Bearer secret {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"n"}}`,
	}
	if !reflect.DeepEqual(*asked, want) {
		t.Errorf("asked\n%q, want\n%q", *asked, want)
	}
}

func TestAnAnswerThatSaysNoIsAnError(t *testing.T) {
	client, _ := server(t)
	err := client.Get(t.Context(), "/api/v1/nodes/x", nil)
	if !IsCode(err, http.StatusNotFound) || err.Error() != "GET /api/v1/nodes/x: 404 NotFound: no such thing" {
		t.Errorf("got %v", err)
	}
	if err := client.Delete(t.Context(), "/api/v1/nodes/x"); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
	if _, err := client.Path(t.Context(), Object{"apiVersion": "v1", "kind": "Pod"}); err == nil {
		t.Error("a subresource passed for its kind")
	}
}

func TestDocumentsOfAFileAreRead(t *testing.T) {
	all, err := Parse([]byte("# a comment\n---\nkind: A\nmetadata: {name: x}\n---\n\n---\nkind: B\n"))
	if err != nil || len(all) != 2 || all[0].String("metadata", "name") != "x" || all[1].String("kind") != "B" {
		t.Errorf("got %v, %v", all, err)
	}
	if _, err := Parse([]byte("a: [")); err == nil {
		t.Error("no error for broken text")
	}
}
