package kube

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/flowcontrol"
)

const (
	// The server's own priority and fairness decides who waits, and says so by 429; these are a bound for what would be a mistake here.
	// An apply of a thousand blocks sends three thousand, from as many steps at once as -parallelism allows.
	queriesPerSecond = 1000
	queryBurst       = 1000
	// AllNamespaces in Config.Allowed lifts the limit, also for objects that belong to no namespace.
	AllNamespaces = "*"
	defaultRetry  = 20 * time.Second
	defaultAnswer = 30 * time.Second
)

// Config says which cluster, and what may be touched in it.
type Config struct {
	// Kubeconfig is a file given by the project; "" means the user's own: $KUBECONFIG, ~/.kube/config, else the pod's service
	// account. What a project gives may not start programs or read files for a token: see [Connect].
	Kubeconfig string
	Context    string // "" = the file's current one
	Namespace  string // "" = the context's one, else "default"
	// Allowed lists the namespaces that may be touched; empty = Namespace alone. [AllNamespaces] allows all, and writing objects
	// that belong to none.
	Allowed []string
	Version string // of this program, for the user agent
	// RetryFor bounds how long one request is repeated after answers that pass by themselves; 0 = 20 s, below 0 = never.
	RetryFor time.Duration
	// AnswerWithin bounds one answer; 0 = 30 s. Streams of logs have no such bound.
	AnswerWithin time.Duration
}

// Client speaks to one cluster. It is safe for concurrent use.
type Client struct {
	host      *url.URL
	http      *http.Client
	namespace string
	allowed   []string
	context   string
	limit     flowcontrol.RateLimiter
	retryFor  time.Duration
	granted   sync.Map     // rights that were used: call.right → true
	blind     sync.Map     // rights to watch that are missing: call.right → true
	away      atomic.Int64 // when the API server last could not be reached, in nanoseconds since 1970; 0 = never
	within    time.Duration
	kinds     kinds
	identity  identity
}

// Connect reads the configuration and sends nothing. A kubeconfig that the project names may not use an exec plugin, an auth
// provider or a token file unless it is the user's own file: otherwise a cloned project could start programs and send
// away what any file holds. Errors name the file to make, or the contexts that exist.
func Connect(_ context.Context, cfg Config) (*Client, error) {
	rc, namespace, err := load(&cfg)
	if err != nil {
		return nil, err
	}
	version := cfg.Version
	if version == "" {
		version = "dev"
	}
	rc.UserAgent = "continuo/" + version
	transport, err := rest.TransportFor(rc)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: prepare the connection to %s: %w", rc.Host, err)
	}
	// A redirect would carry the credentials to wherever it points; an API server sends none.
	hc := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	host, _, err := rest.DefaultServerUrlFor(rc)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: the server %q: %w", rc.Host, err)
	}
	c := &Client{host: host, http: hc, namespace: namespace, allowed: slices.Clone(cfg.Allowed), context: cfg.Context,
		limit: flowcontrol.NewTokenBucketRateLimiter(queriesPerSecond, queryBurst), retryFor: cfg.RetryFor, within: cfg.AnswerWithin}
	c.identity = identity{cfg.Kubeconfig, cfg.Context, host.String()}
	if len(c.allowed) == 0 {
		c.allowed = []string{namespace}
	}
	if c.retryFor == 0 {
		c.retryFor = defaultRetry
	}
	if c.within == 0 {
		c.within = defaultAnswer
	}
	if err := c.Allow(namespace); err != nil {
		return nil, err
	}
	return c, nil
}

// Namespace is where objects without a namespace of their own go.
func (c *Client) Namespace() string { return c.namespace }

// Host is the API server's address.
func (c *Client) Host() string { return c.host.String() }

// NamespaceError refuses a namespace that the configuration does not allow. No request was sent.
type NamespaceError struct {
	Namespace string
	Allowed   []string
}

// Error implements error.
func (e *NamespaceError) Error() string {
	what := fmt.Sprintf("namespace %q is not allowed", e.Namespace)
	if e.Namespace == "" {
		what = "objects outside of namespaces, or in all of them, are not allowed"
	}
	return fmt.Sprintf("%s: the provider's namespaces are %s; add it there if that is meant", what, strings.Join(e.Allowed, ", "))
}

// Allow errors when the configuration does not let a namespace be touched ("" = what belongs to none, or all of them).
func (c *Client) Allow(namespace string) error {
	if slices.Contains(c.allowed, AllNamespaces) || namespace != "" && slices.Contains(c.allowed, namespace) {
		return nil
	}
	return &NamespaceError{Namespace: namespace, Allowed: c.allowed}
}

// load reads the kubeconfig under the usual rules. It fills in cfg.Context.
func load(cfg *Config) (*rest.Config, string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	own := rules.GetLoadingPrecedence()
	if cfg.Kubeconfig != "" {
		path, err := expandHome(cfg.Kubeconfig)
		if err != nil {
			return nil, "", err
		}
		rules.ExplicitPath = path
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: cfg.Context})
	raw, err := loader.RawConfig()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", fmt.Errorf("kubeconfig %s does not exist: make it, or drop `kubeconfig` from the provider to use the usual one", rules.ExplicitPath)
	case err != nil:
		return nil, "", fmt.Errorf("kubeconfig: %w", err)
	}
	if len(raw.Contexts) == 0 && len(raw.Clusters) == 0 && cfg.Kubeconfig == "" && cfg.Context == "" {
		return inCluster(cfg, own)
	}
	if cfg.Context == "" {
		cfg.Context = raw.CurrentContext
	}
	ctx, err := pickContext(raw, cfg.Context)
	if err != nil {
		return nil, "", err
	}
	if user := raw.AuthInfos[ctx.AuthInfo]; user != nil && rules.ExplicitPath != "" {
		if err := checkUser(rules.ExplicitPath, ctx.AuthInfo, user, own); err != nil {
			return nil, "", err
		}
	}
	rc, err := loader.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("kubeconfig: context %q: %w", cfg.Context, err)
	}
	namespace := cfg.Namespace
	if namespace == "" {
		namespace = ctx.Namespace
	}
	if namespace == "" {
		namespace = "default"
	}
	return rc, namespace, nil
}

func pickContext(raw clientcmdapi.Config, name string) (*clientcmdapi.Context, error) {
	if ctx := raw.Contexts[name]; ctx != nil && name != "" {
		return ctx, nil
	}
	have := slices.Sorted(maps.Keys(raw.Contexts))
	switch {
	case len(have) == 0:
		return nil, errors.New("kubeconfig: it has no context: make one with kubectl config set-context")
	case name == "":
		return nil, fmt.Errorf("kubeconfig: no context is current: set `context` in the provider to one of %s", strings.Join(have, ", "))
	}
	return nil, fmt.Errorf("kubeconfig: context %q does not exist: there are %s", name, strings.Join(have, ", "))
}

// inCluster is the way of a pod: its service account.
func inCluster(cfg *Config, own []string) (*rest.Config, string, error) {
	rc, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, "", fmt.Errorf("no kubeconfig: make %s, or name one in KUBECONFIG or in the provider's `kubeconfig`", strings.Join(own, " or "))
	}
	if err != nil {
		return nil, "", fmt.Errorf("use the pod's service account: %w", err)
	}
	namespace := cfg.Namespace
	if namespace == "" {
		b, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
		if err != nil {
			return nil, "", fmt.Errorf("read the pod's own namespace: %w", err)
		}
		namespace = strings.TrimSpace(string(b))
	}
	return rc, namespace, nil
}

// checkUser refuses what a file of the project may not do.
func checkUser(path, name string, user *clientcmdapi.AuthInfo, own []string) error {
	var what string
	switch {
	case user.Exec != nil:
		what = "starts a program (exec)"
	case user.AuthProvider != nil:
		what = "uses an auth provider"
	case user.TokenFile != "":
		what = "reads its token from a file"
	default:
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("kubeconfig: %w", err)
	}
	for _, o := range own {
		if other, err := os.Stat(o); err == nil && os.SameFile(info, other) {
			return nil
		}
	}
	return fmt.Errorf("kubeconfig %s: user %q %s, which only your own kubeconfig may do, not one that a project names: "+
		"put it into KUBECONFIG or %s and set only `context`", path, name, what, own[len(own)-1])
}

func expandHome(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return filepath.Join(home, rest), nil
}
