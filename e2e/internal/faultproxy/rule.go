package faultproxy

import (
	"encoding/json"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is what happens to a request.
type Kind string

// The kinds of faults. After ResetAfter and Slow the server has done what it was asked for, and the client does not know.
const (
	None        Kind = ""
	Refuse      Kind = "refused"
	ResetBefore Kind = "reset before"
	ResetAfter  Kind = "reset after"
	Truncate    Kind = "truncated"
	Slow        Kind = "slow"
)

// Fault is a kind with its numbers.
type Fault struct {
	Kind       Kind
	Code       int    // of a refusal
	Message    string // of a refusal
	RetryAfter int    // seconds, of a refusal; 0 = none is given
	After      time.Duration
}

// Request is what came through, in the words of Kubernetes or of a registry.
type Request struct {
	// Verb is get, list, watch, create, update, apply, delete, or discover; for a registry the method in lower case.
	Verb string
	// Resource is jobs, pods/log, pods/proxy; for a registry manifests, blobs, uploads.
	Resource  string
	Namespace string
	Name      string
	Query     string
	Fault     Kind
}

// String is "apply jobs training-t".
func (r Request) String() string { return strings.TrimSpace(r.Verb + " " + r.Resource + " " + r.Name) }

// Rule says which requests meet a fault: those that match all that is set here, counted for each verb, resource and name by itself.
type Rule struct {
	Verbs     []string // empty = all
	Resources []string // empty = all
	// First says how many of each are let pass, Count how many then meet the fault; a Count of 0 means all that come.
	First, Count int
	Fault        Fault
}

type counted struct {
	Rule
	per map[string]int
}

func (c *counted) meets(r Request) bool {
	if len(c.Verbs) > 0 && !slices.Contains(c.Verbs, r.Verb) || len(c.Resources) > 0 && !slices.Contains(c.Resources, r.Resource) {
		return false
	}
	key := r.String()
	c.per[key]++
	n := c.per[key] - c.First
	return n > 0 && (c.Count == 0 || n <= c.Count)
}

// parse reads what a request is about from its path.
func parse(r *http.Request) Request {
	if rest, ok := strings.CutPrefix(r.URL.Path, "/v2/"); ok {
		return parseRegistry(r, rest)
	}
	out := Request{Query: r.URL.RawQuery}
	parts := strings.Split(strings.Trim(path.Clean(r.URL.Path), "/"), "/")
	switch {
	case len(parts) >= 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) >= 3 && parts[0] == "apis":
		parts = parts[3:]
	default:
		parts = nil
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		out.Namespace, parts = parts[1], parts[2:]
	}
	if len(parts) > 0 {
		out.Resource = parts[0]
	}
	if len(parts) > 1 {
		out.Name = parts[1]
	}
	if len(parts) > 2 {
		out.Resource += "/" + parts[2]
	}
	out.Verb = verb(r, out)
	return out
}

func verb(r *http.Request, q Request) string {
	switch r.Method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "apply"
	case http.MethodDelete:
		return "delete"
	}
	switch {
	case q.Resource == "":
		return "discover"
	case r.URL.Query().Get("watch") == "true":
		return "watch"
	case q.Name == "":
		return "list"
	}
	return "get"
}

// parseRegistry takes the repository as the namespace.
func parseRegistry(r *http.Request, rest string) Request {
	out := Request{Verb: strings.ToLower(r.Method), Query: r.URL.RawQuery}
	for _, what := range []string{"/blobs/uploads/", "/blobs/", "/manifests/", "/tags/"} {
		if repo, name, ok := strings.Cut(rest, what); ok {
			out.Namespace, out.Name, out.Resource = repo, name, path.Base(what)
			break
		}
	}
	if out.Resource == "uploads" {
		out.Name = "" // an id of its own for each
	}
	return out
}

// refuse answers in the place of the server, as an API server would.
func refuse(w http.ResponseWriter, r *http.Request, f Fault) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.RetryAfter))
	}
	body := map[string]any{"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": "Failure", "code": f.Code, "message": f.Message}
	if reason := reasons[f.Code]; reason != "" {
		body["reason"] = reason
	}
	if strings.HasPrefix(r.URL.Path, "/v2/") {
		body = map[string]any{"errors": []any{map[string]any{"code": "UNAVAILABLE", "message": f.Message}}}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.Code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

var reasons = map[int]string{409: "Conflict", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}
