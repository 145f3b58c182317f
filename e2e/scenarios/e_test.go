//go:build e2e

package scenarios

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/continuo-ml/continuo/e2e/internal/faultproxy"
)

// storm is one apply in bad weather. With words, it must end with an error of which one line says them all; without, it must come through.
type storm struct {
	name          string
	http1         bool
	api, registry []faultproxy.Rule
	least         int // that many faults must have been met, or the storm was none
	words         []string
	within        time.Duration // of the apply; 0 = limit
}

var (
	reads  = []string{"get", "list"}
	writes = []string{"apply", "delete"}
	pushes = []string{"put", "post", "patch"}
)

func refused(code int, message string, after int) faultproxy.Fault {
	return faultproxy.Fault{Kind: faultproxy.Refuse, Code: code, Message: message, RetryAfter: after}
}

func broken(kind faultproxy.Kind) faultproxy.Fault { return faultproxy.Fault{Kind: kind} }

// The counts of a rule are those of each verb, resource and name: every request of an apply meets what is said here.
var storms = []storm{
	{
		name: "429, 503 and 500", least: 60,
		api: []faultproxy.Rule{
			{Verbs: []string{"apply"}, Resources: []string{"jobs", "secrets", "deployments"}, Count: 1, Fault: refused(429, "too many requests", 1)},
			{Count: 1, Fault: refused(503, "etcdserver: leader changed", 0)},
			{Count: 1, Fault: refused(500, "etcdserver: request timed out", 0)},
		},
		registry: []faultproxy.Rule{{Count: 1, Fault: refused(503, "busy", 0)}, {Verbs: pushes, Count: 1, Fault: refused(429, "slow down", 1)}},
	},
	{
		name: "conflicts, and connections that break before the request", http1: true, least: 50,
		api: []faultproxy.Rule{
			{Verbs: writes, Count: 2, Fault: refused(409, "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version and try again", 0)},
			{Count: 1, Fault: broken(faultproxy.ResetBefore)},
		},
		registry: []faultproxy.Rule{{Count: 1, Fault: broken(faultproxy.ResetBefore)}},
	},
	{
		name: "done, and the answer lost", least: 30,
		api: []faultproxy.Rule{
			{Verbs: []string{"apply", "delete", "create", "update"}, Count: 2, Fault: broken(faultproxy.ResetAfter)},
			{Verbs: reads, Count: 1, Fault: broken(faultproxy.Truncate)},
		},
		registry: []faultproxy.Rule{{Verbs: pushes, Count: 1, Fault: broken(faultproxy.ResetAfter)}, {Verbs: []string{"get"}, Count: 1, Fault: broken(faultproxy.Truncate)}},
	},
	{
		name: "slower than the client waits", http1: true, least: 8,
		api: []faultproxy.Rule{
			{Verbs: []string{"apply"}, Count: 1, Fault: faultproxy.Fault{Kind: faultproxy.Slow, After: 4 * time.Second}},
			{Verbs: []string{"list"}, Resources: []string{"deployments"}, Count: 1, Fault: faultproxy.Fault{Kind: faultproxy.Slow, After: 4 * time.Second}},
		},
	},
	{
		name: "nobody can look at the run for a while", least: 10,
		api: []faultproxy.Rule{
			{Verbs: reads, Resources: []string{"jobs", "pods"}, First: 3, Count: 6, Fault: refused(503, "no quorum", 0)},
			{Verbs: reads, Resources: []string{"pods/log"}, Count: 2, Fault: broken(faultproxy.Truncate)},
		},
	},
	{
		name: "the run's object is made, and nobody ever says so", least: 2, within: time.Minute,
		api:   []faultproxy.Rule{{Verbs: []string{"apply"}, Resources: []string{"jobs"}, Fault: broken(faultproxy.ResetAfter)}},
		words: []string{"training.t", "Job", "again"},
	},
	{
		name: "the server wants to be left alone for an hour", least: 1, within: time.Minute,
		api:   []faultproxy.Rule{{Verbs: []string{"apply"}, Resources: []string{"deployments"}, Fault: refused(429, "too many requests", 3600)}},
		words: []string{"deployment.m", "429", "1h0m0s", "again"},
	},
	{
		name: "half of the live state", least: 1, within: time.Minute,
		api:   []faultproxy.Rule{{Verbs: []string{"list"}, Resources: []string{"services"}, Fault: refused(503, "no quorum", 3600)}},
		words: []string{"deployment.m", "live state", "services", "no quorum"},
	},
	{
		name: "the registry takes nothing", least: 4, within: time.Minute,
		registry: []faultproxy.Rule{{Verbs: pushes, Fault: refused(503, "read only", 0)}},
		words:    []string{"training.t", "503", "read only"},
	},
}

// TestE applies in bad weather, made by proxies between ml and the API server and between ml and the registry. Each time it comes through,
// or ends with one clear line and the next apply in good weather finishes; never with two trainings, an orphan, or something called
// missing because a request failed.
func TestE(t *testing.T) {
	k := newKilled(t)
	k.edit("kills.ml.hcl", "provider \"kubernetes\" {", "provider \"kubernetes\" {\n  request_timeout = \"2s\"")
	k.newData()
	k.ml("apply", "-auto-approve")
	k.recovered()
	clear := slices.Clone(k.env)
	for _, s := range storms {
		ok := t.Run(s.name, func(t *testing.T) { k.weathers(t, s, clear) })
		if !ok {
			k.env = clear
			break // its state is what the next would begin with
		}
	}
	k.env = clear
	k.ml("destroy", "-auto-approve")
	k.gone()
}

func (k *killed) weathers(t *testing.T, s storm, clear []string) {
	outer := k.T
	defer func() { k.T = outer }()
	k.T = t
	k.newData()
	p := k.behind(clear, !s.http1)
	p.api.Set(s.api...)
	p.registry.Set(s.registry...)
	if len(s.words) > 0 && s.words[1] == "live state" {
		k.notMissing()
	}
	began := time.Now()
	out, err := k.apply("ML_NOTHING=", nil)
	took := time.Since(began)
	k.env = clear
	met := p.api.Faults() + p.registry.Faults()
	t.Logf("%.1f s, %d faults among %d requests, %v: %s", took.Seconds(), met, len(p.api.Seen())+len(p.registry.Seen()), err, lineOf(out, s.words))
	if met < s.least {
		t.Errorf("only %d faults were met, want %d: this was no storm", met, s.least)
	}
	if s.within > 0 && took > s.within {
		t.Errorf("it took %s", took)
	}
	switch {
	case len(s.words) == 0 && err != nil:
		t.Errorf("it did not come through: %v\n%s", err, out)
	case len(s.words) > 0 && err == nil:
		t.Errorf("it ended well, which it cannot have:\n%s", out)
	case len(s.words) > 0 && !oneLineHas(out, s.words):
		t.Errorf("no line says %q:\n%s", s.words, out)
	}
	k.recovered()
}

// lineOf is the line that says why it ended, for the log of the test.
func lineOf(out string, words []string) string {
	if len(words) == 0 {
		return "it came through"
	}
	return lineWith(out, words[len(words)-1])
}

// notMissing wants no plan rather than one that calls missing what it could not read.
func (k *killed) notMissing() {
	k.Helper()
	out := k.exits(1, "plan")
	if strings.Contains(out, "missing") || strings.Contains(out, "will be created") {
		k.Errorf("what could not be read is called missing:\n%s", out)
	}
}

// proxies stand between ml and the cluster, and between ml and the registry. Pods, and what the test itself looks at, go past them.
type proxies struct{ api, registry *faultproxy.Proxy }

const kubeconfigVar = "KUBECONFIG="

// behind puts the program behind proxies. Rights and credentials stay what they are.
func (w *world) behind(clear []string, http2 bool) proxies {
	w.Helper()
	var path string
	for _, e := range clear { // the last one counts
		if p, ok := strings.CutPrefix(e, kubeconfigVar); ok {
			path = p
		}
	}
	cfg, err := clientcmd.LoadFromFile(path)
	if err != nil {
		w.Fatal(err)
	}
	target, err := clientcmd.NewDefaultClientConfig(*cfg, nil).ClientConfig()
	if err != nil {
		w.Fatal(err)
	}
	tls, err := rest.TLSConfigFor(target)
	if err != nil {
		w.Fatal(err)
	}
	upstream, err := url.Parse(target.Host)
	if err != nil {
		w.Fatal(err)
	}
	p := proxies{faultproxy.New(faultproxy.Options{Upstream: upstream, TLS: tls, HTTP2: http2}), faultproxy.New(faultproxy.Options{})}
	w.Cleanup(p.api.Close)
	w.Cleanup(p.registry.Close)
	cluster := cfg.Clusters[cfg.Contexts[cfg.CurrentContext].Cluster]
	cluster.Server, cluster.CertificateAuthority, cluster.CertificateAuthorityData = p.api.URL(), "", p.api.CA()
	at := filepath.Join(w.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, at); err != nil {
		w.Fatal(err)
	}
	w.env = append(slices.Clone(clear), kubeconfigVar+at, "HTTP_PROXY="+p.registry.URL())
	return p
}
