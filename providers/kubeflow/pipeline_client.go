package kubeflow

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// pipelines is the block `pipelines { … }` of the provider: where Kubeflow Pipelines is.
type pipelines struct {
	Endpoint  string `ml:"endpoint" doc:"Address of its API, such as https://kubeflow.example.com/pipeline. Default: KF_PIPELINES_ENDPOINT, then the service ml-pipeline, through the cluster's API server."`
	Service   string `ml:"service_namespace,default=kubeflow" doc:"Namespace of that service; it must be one of the provider's namespaces."`
	Namespace string `ml:"namespace" doc:"Namespace of the runs, where an installation keeps its users apart."`
	TokenEnv  string `ml:"token_env,default=KF_PIPELINES_TOKEN" doc:"Environment variable with the bearer token. When it is not set, the token is in the file of KF_PIPELINES_SA_TOKEN_PATH, or where a pod has its projected token for Kubeflow Pipelines; without a token none is sent."`
	CAFile    string `ml:"ca_file" doc:"File in the project with the certificates that vouch for the endpoint, besides those of this machine."`
}

const (
	podToken     = "/var/run/secrets/kubeflow/pipelines/token" //nolint:gosec // a path
	maxAnswer    = 64 << 20
	answerWithin = 30 * time.Second
)

// pipelinesAPI speaks v2beta1 of Kubeflow Pipelines. It is safe for concurrent use.
type pipelinesAPI struct {
	base      *url.URL
	http      *http.Client
	token     func() (string, error)
	namespace string
}

// errUnclear: the request may have been carried out, or not.
var errUnclear = errors.New("no answer")

// apiError is what the API says in the place of an answer.
type apiError struct {
	what   string
	status int
	text   string
}

// Error implements error.
func (e *apiError) Error() string {
	text := fmt.Sprintf("%s: Kubeflow Pipelines answers %d: %s", e.what, e.status, e.text)
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		text += "; give a token that it accepts in KF_PIPELINES_TOKEN (provider \"kubeflow\" { pipelines { token_env } })"
	case http.StatusNotImplemented:
		text += "; its version is older than 2"
	}
	return text
}

// passes reports whether an error may be over in a moment.
func passes(err error) bool {
	var answer *apiError
	if errors.As(err, &answer) {
		return answer.status == http.StatusTooManyRequests || answer.status >= 500 && answer.status != http.StatusNotImplemented
	}
	return errors.Is(err, errUnclear)
}

// newPipelinesAPI connects to an endpoint. It sends nothing.
func newPipelinesAPI(p pipelines, endpoint, root string, lookup func(string) (string, bool)) (*pipelinesAPI, error) {
	base, err := url.Parse(endpoint)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.RawQuery != "" || base.User != nil {
		return nil, fmt.Errorf("pipelines.endpoint: %q: write an address such as https://kubeflow.example.com/pipeline", endpoint)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, IdleConnTimeout: time.Minute}
	if p.CAFile != "" {
		if transport.TLSClientConfig.RootCAs, err = roots(root, p.CAFile); err != nil {
			return nil, fmt.Errorf("pipelines.ca_file: %w", err)
		}
	}
	a := &pipelinesAPI{base: base, namespace: p.Namespace, http: &http.Client{Transport: transport, CheckRedirect: noRedirect}}
	a.token = func() (string, error) { return tokenOf(p.TokenEnv, lookup, base) }
	return a, nil
}

// noRedirect: an answer that leads elsewhere is a page to log in on, and the token is not for it.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func roots(root, file string) (*x509.CertPool, error) {
	if !filepath.IsLocal(file) {
		return nil, fmt.Errorf("%s is not in the project", file)
	}
	pem, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
	}
	return pool, nil
}

// tokenOf finds the token at the moment when it is needed: one in a file is replaced before it runs out.
func tokenOf(variable string, lookup func(string) (string, bool), base *url.URL) (string, error) {
	token := ""
	if v, ok := lookup(variable); ok {
		token = strings.TrimSpace(v)
	} else {
		file, named := lookup("KF_PIPELINES_SA_TOKEN_PATH")
		if !named {
			file = podToken
		}
		b, err := os.ReadFile(file)
		if err != nil && (named || !errors.Is(err, os.ErrNotExist)) {
			return "", fmt.Errorf("read the token for Kubeflow Pipelines: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	if token != "" && base.Scheme == "http" && !inside(base.Hostname()) {
		return "", fmt.Errorf("pipelines.endpoint: %s would get the token without TLS: write https://", base)
	}
	return token, nil
}

// inside reports whether a host is this machine, or a service that is spoken to within the cluster.
func inside(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback() || strings.HasSuffix(host, ".svc") || strings.HasSuffix(host, ".svc.cluster.local")
}

// call sends one request. An answer that is none of success is an *apiError; no answer matches errUnclear.
func (a *pipelinesAPI) call(ctx context.Context, what, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		body = bytes.NewReader(b)
	}
	within, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	at := a.base.JoinPath("apis/v2beta1/" + path)
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(within, method, at.String(), body)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	token, err := a.token()
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return a.unreachable(ctx, what, err)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return a.unreachable(ctx, what, err)
	}
	if resp.StatusCode/100 != 2 {
		return refusal(what, resp, text)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s: %s does not answer as the API of Kubeflow Pipelines: %w", what, a.base, err)
	}
	return nil
}

func (a *pipelinesAPI) unreachable(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	var outer *url.Error // its text repeats method and address
	if errors.As(err, &outer) {
		err = outer.Err
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return fmt.Errorf("%s: %s: %w; give its certificates in pipelines.ca_file", what, a.base.Host, err)
	}
	return fmt.Errorf("%s: reach Kubeflow Pipelines at %s: %w: %w", what, a.base.Host, errUnclear, err)
}

// refusal makes an error of an answer.
func refusal(what string, resp *http.Response, text []byte) error {
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return &apiError{what, http.StatusUnauthorized, "it sends on to " + resp.Header.Get("Location") + ", to log in"}
	}
	var said struct {
		Message string `json:"message"`
		Error   string `json:"error"`
	}
	if err := json.Unmarshal(text, &said); err != nil || said.Message == "" && said.Error == "" {
		said.Message = strings.TrimSpace(string(text[:min(len(text), 300)]))
	}
	return &apiError{what, resp.StatusCode, or(said.Message, or(said.Error, resp.Status))}
}

// pipelineRun is what of a run's messages is read here.
type pipelineRun struct {
	ID      string    `json:"run_id"`
	Name    string    `json:"display_name"`
	State   string    `json:"state"`
	Created time.Time `json:"created_at"`
	Error   *rpcError `json:"error"`
	Details struct {
		Tasks []pipelineTask `json:"task_details"`
	} `json:"run_details"`
}

type pipelineTask struct {
	Name  string    `json:"display_name"`
	State string    `json:"state"`
	Error *rpcError `json:"error"`
}

type rpcError struct {
	Message string `json:"message"`
}

func (e *rpcError) text() string {
	if e == nil {
		return ""
	}
	return e.Message
}

// named is the query of a list that has at most what is called so.
func (a *pipelinesAPI) named(name string) (url.Values, error) {
	filter, err := json.Marshal(map[string]any{"predicates": []any{map[string]any{"key": "display_name", "operation": "EQUALS", "string_value": name}}})
	if err != nil {
		return nil, err
	}
	q := url.Values{"filter": {string(filter)}, "page_size": {"10"}}
	if a.namespace != "" {
		q.Set("namespace", a.namespace)
	}
	return q, nil
}

// find looks for a run by its name; nil when there is none.
func (a *pipelinesAPI) find(ctx context.Context, name string) (*pipelineRun, error) {
	q, err := a.named(name)
	if err != nil {
		return nil, err
	}
	q.Set("sort_by", "created_at asc")
	var list struct {
		Runs []pipelineRun `json:"runs"`
	}
	if err := a.call(ctx, "look for the run", http.MethodGet, "runs", q, nil, &list); err != nil {
		return nil, err
	}
	for _, r := range list.Runs {
		if r.Name == name { // a server that does not know the filter gives all
			return &r, nil
		}
	}
	return nil, nil
}

// experiment finds or makes the experiment of a name, and gives its id.
func (a *pipelinesAPI) experiment(ctx context.Context, name string) (string, error) {
	q, err := a.named(name)
	if err != nil {
		return "", err
	}
	type experiment struct {
		ID        string `json:"experiment_id,omitempty"`
		Name      string `json:"display_name"`
		Namespace string `json:"namespace,omitempty"`
	}
	var list struct {
		Experiments []experiment `json:"experiments"`
	}
	if err := a.call(ctx, "look for the experiment", http.MethodGet, "experiments", q, nil, &list); err != nil {
		return "", err
	}
	for _, e := range list.Experiments {
		if e.Name == name {
			return e.ID, nil
		}
	}
	var made experiment
	err = a.call(ctx, "make the experiment", http.MethodPost, "experiments", nil, experiment{Name: name, Namespace: a.namespace}, &made)
	return made.ID, err
}

// create makes a run.
func (a *pipelinesAPI) create(ctx context.Context, run map[string]any) (*pipelineRun, error) {
	var made pipelineRun
	err := a.call(ctx, "make the run", http.MethodPost, "runs", nil, run, &made)
	if err == nil && made.ID == "" {
		err = fmt.Errorf("make the run: %s gives it no id: is it the API of Kubeflow Pipelines?", a.base)
	}
	return &made, err
}

func (a *pipelinesAPI) get(ctx context.Context, id string) (*pipelineRun, error) {
	var r pipelineRun
	err := a.call(ctx, "look at the run", http.MethodGet, "runs/"+url.PathEscape(id), nil, nil, &r)
	return &r, err
}

func (a *pipelinesAPI) terminate(ctx context.Context, id string) error {
	return a.call(ctx, "terminate the run", http.MethodPost, "runs/"+url.PathEscape(id)+":terminate", nil, nil, nil)
}

// httpThrough is a client whose requests go through an API server.
func httpThrough(rt http.RoundTripper) *http.Client {
	return &http.Client{Transport: rt, CheckRedirect: noRedirect}
}
