// Package api speaks to an API server with nothing but HTTP and JSON: the e2e cluster needs a handful of calls, and a client library of
// its own version beside the product's would only hide what is asked.
package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/yaml"
)

// Object is a Kubernetes object as it is written in JSON.
type Object map[string]any

// Client calls one API server.
type Client struct {
	Server string // https://HOST:PORT
	token  string
	http   *http.Client

	mu    sync.Mutex
	kinds map[string]map[string]kind // by apiVersion, then kind
}

type kind struct {
	Name       string
	Kind       string
	Namespaced bool
}

// Error is what an API server answered instead of doing it.
type Error struct {
	Code    int
	Reason  string
	Message string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%d %s: %s", e.Code, e.Reason, e.Message) }

// IsCode reports whether err is an answer with this HTTP status.
func IsCode(err error, code int) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// config is the part of a kubeconfig that is read: tokens, client certificates and authorities, in place or in files.
type config struct {
	CurrentContext string `json:"current-context"`
	Contexts       []struct {
		Name    string
		Context struct{ Cluster, User string }
	}
	Clusters []struct {
		Name    string
		Cluster struct {
			Server string
			CAData string `json:"certificate-authority-data"`
			CAFile string `json:"certificate-authority"`
		}
	}
	Users []struct {
		Name string
		User struct {
			Token    string
			CertData string `json:"client-certificate-data"`
			CertFile string `json:"client-certificate"`
			KeyData  string `json:"client-key-data"`
			KeyFile  string `json:"client-key"`
		}
	}
}

// Load returns a client for the current context of a kubeconfig. Exec plugins are not supported.
func Load(file string) (*Client, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	var c config
	if err := yaml.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", file, err)
	}
	client := &Client{}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	for _, ctx := range c.Contexts {
		if ctx.Name != c.CurrentContext {
			continue
		}
		for _, cl := range c.Clusters {
			if cl.Name != ctx.Context.Cluster {
				continue
			}
			client.Server = cl.Cluster.Server
			ca, err := inline(cl.Cluster.CAData, cl.Cluster.CAFile)
			if err != nil {
				return nil, fmt.Errorf("read kubeconfig %s: %w", file, err)
			}
			if ca != nil {
				tlsConfig.RootCAs = x509.NewCertPool()
				tlsConfig.RootCAs.AppendCertsFromPEM(ca)
			}
		}
		for _, u := range c.Users {
			if u.Name != ctx.Context.User {
				continue
			}
			client.token = u.User.Token
			cert, err1 := inline(u.User.CertData, u.User.CertFile)
			key, err2 := inline(u.User.KeyData, u.User.KeyFile)
			if err := errors.Join(err1, err2); err != nil {
				return nil, fmt.Errorf("read kubeconfig %s: %w", file, err)
			}
			if cert != nil {
				pair, err := tls.X509KeyPair(cert, key)
				if err != nil {
					return nil, fmt.Errorf("read kubeconfig %s: %w", file, err)
				}
				tlsConfig.Certificates = []tls.Certificate{pair}
			}
		}
	}
	if client.Server == "" {
		return nil, fmt.Errorf("read kubeconfig %s: its current context %q names no cluster", file, c.CurrentContext)
	}
	client.http = &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{TLSClientConfig: tlsConfig, MaxIdleConnsPerHost: 8}}
	return client, nil
}

func inline(data, file string) ([]byte, error) {
	if data != "" {
		return base64.StdEncoding.DecodeString(data)
	}
	if file != "" {
		return os.ReadFile(file)
	}
	return nil, nil
}

// Do sends one request and decodes the answer into out, unless out is nil; a *[]byte takes it as it is.
func (c *Client) Do(ctx context.Context, method, path, contentType string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.Server+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		e := &Error{Code: resp.StatusCode}
		if json.Unmarshal(answer, e) != nil || e.Message == "" {
			e.Message = string(bytes.TrimSpace(answer))
		}
		e.Code = resp.StatusCode
		return fmt.Errorf("%s %s: %w", method, path, e)
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*out = answer
		return nil
	default:
		return json.Unmarshal(answer, out)
	}
}

// Get reads path into out.
func (c *Client) Get(ctx context.Context, path string, out any) error {
	return c.Do(ctx, http.MethodGet, path, "", nil, out)
}

// Apply writes objects by server-side apply, in order, as the owner of all their fields.
func (c *Client) Apply(ctx context.Context, objects ...Object) error {
	for _, o := range objects {
		path, err := c.Path(ctx, o)
		if err != nil {
			return err
		}
		body, err := json.Marshal(o)
		if err != nil {
			return err
		}
		if err := c.Do(ctx, http.MethodPatch, path+"?fieldManager=e2e-cluster&force=true", "application/apply-patch+yaml", body, nil); err != nil {
			return err
		}
	}
	return nil
}

// Delete deletes the object at path and what it owns; one that is not there is no error.
func (c *Client) Delete(ctx context.Context, path string) error {
	err := c.Do(ctx, http.MethodDelete, path+"?propagationPolicy=Background", "", nil, nil)
	if IsCode(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// Path returns where the object lives. Its kind is looked up once.
func (c *Client) Path(ctx context.Context, o Object) (string, error) {
	version, name := o.String("apiVersion"), o.String("kind")
	prefix := "/apis/" + version
	if !strings.Contains(version, "/") {
		prefix = "/api/" + version
	}
	k, err := c.kind(ctx, prefix, version, name)
	if err != nil {
		return "", err
	}
	if k.Namespaced {
		prefix += "/namespaces/" + o.String("metadata", "namespace")
	}
	return prefix + "/" + k.Name + "/" + o.String("metadata", "name"), nil
}

func (c *Client) kind(ctx context.Context, prefix, version, name string) (kind, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.kinds[version][name]; ok {
		return k, nil
	}
	var list struct{ Resources []kind }
	if err := c.Get(ctx, prefix, &list); err != nil {
		return kind{}, err
	}
	if c.kinds == nil {
		c.kinds = map[string]map[string]kind{}
	}
	c.kinds[version] = map[string]kind{}
	for _, k := range list.Resources {
		if !strings.Contains(k.Name, "/") {
			c.kinds[version][k.Kind] = k
		}
	}
	k, ok := c.kinds[version][name]
	if !ok {
		return kind{}, fmt.Errorf("the API server has no kind %s in %s", name, version)
	}
	return k, nil
}

// String returns the text at a path of field names, "" if there is none.
func (o Object) String(path ...string) string {
	s, _ := o.At(path...).(string)
	return s
}

// At returns the value at a path of field names, nil if there is none.
func (o Object) At(path ...string) any {
	var v any = map[string]any(o)
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// Parse reads the documents of a YAML file; empty ones are left out.
func Parse(text []byte) ([]Object, error) {
	var all []Object
	for _, doc := range bytes.Split(append([]byte("\n"), text...), []byte("\n---")) {
		var o Object
		if err := yaml.Unmarshal(doc, &o); err != nil {
			return nil, err
		}
		if len(o) > 0 {
			all = append(all, o)
		}
	}
	return all, nil
}

// ParseFile reads the documents of a file.
func ParseFile(name string) ([]Object, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	all, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	return all, nil
}
