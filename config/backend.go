package config

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/continuo-ml/continuo/config/internal/syntax"
)

// Backend is a `backend` block of the root module: where the state is kept when
// it is not in a file of this machine.
type Backend struct {
	Type  string            // s3 or kubernetes
	Attrs map[string]string // those that are set, checked
	Range hcl.Range
}

// Same says whether two backends name one place; nil is the file of this machine.
func (b *Backend) Same(o *Backend) bool {
	if b == nil || o == nil {
		return b == o
	}
	return b.Type == o.Type && maps.Equal(b.Attrs, o.Attrs)
}

// backends are the types with their attributes, the first of which must be given.
var backends = map[string][]string{
	"s3":         {"bucket", "prefix", "region", "endpoint"},
	"kubernetes": {"name", "namespace", "context", "kubeconfig"},
}

// backendSecrets are names from other tools under which people write secrets.
var backendSecrets = regexp.MustCompile(`(?i)secret|token|password|access_key|credential`)

// What stands in a backend becomes part of the names of objects.
var backendValues = map[string]*regexp.Regexp{
	"bucket":    regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,62}$`),
	"prefix":    regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,200}$`),
	"region":    regexp.MustCompile(`^[a-z0-9-]{1,40}$`),
	"name":      regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`),
	"namespace": regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`),
}

// backendJSON is the block in JSON syntax.
func backendJSON() *syntax.BodySchema {
	var attrs []string
	for _, list := range backends {
		attrs = append(attrs, list...)
	}
	slices.Sort(attrs)
	return &syntax.BodySchema{Attrs: slices.Compact(attrs)}
}

// backend reads the backend block of the root module's ml block. Its values are
// plain texts: the state has to be found when nothing else can be evaluated.
func (r *resolver) backend(blk *hclsyntax.Block, root bool) {
	for _, b := range blk.Body.Blocks {
		if b.Type != "backend" {
			continue // told by fields
		}
		switch {
		case !root:
			r.add(errAt(b.DefRange(), "Setting outside of the root module", "backend stands in the root module's ml block only; a module takes required_version alone."))
		case r.p.Settings.Backend != nil:
			r.add(errAt(b.DefRange(), "Duplicate block", "A state has one place; the first backend is at %s. Remove one.", r.p.Settings.Backend.Range))
		case len(b.Labels) != 1 || backends[b.Labels[0]] == nil:
			r.add(errAt(b.DefRange(), "Unknown backend", "Write backend \"s3\" { … } or backend \"kubernetes\" { … }. Without one, the state is .ml/state.db on this machine."))
		default:
			r.p.Settings.Backend = r.oneBackend(b)
		}
	}
}

func (r *resolver) oneBackend(b *hclsyntax.Block) *Backend {
	out := &Backend{Type: b.Labels[0], Attrs: map[string]string{}, Range: b.DefRange()}
	known := backends[out.Type]
	for _, name := range sortedKeys(b.Body.Attributes) {
		if a := b.Body.Attributes[name]; !slices.Contains(known, name) && backendSecrets.MatchString(name) {
			r.add(errAt(a.NameRange, "Credentials in a file", "A backend takes no credentials. They come from where AWS's and Kubernetes' own tools take them: the environment, ~/.aws, a kubeconfig, the role of a pod."))
			return out
		}
	}
	attrs := r.fields(b, known)
	for _, name := range known {
		a := attrs[name]
		if a == nil {
			continue
		}
		text, ok := r.literalText(a)
		if !ok {
			continue
		}
		if form := backendValues[name]; form != nil && (!form.MatchString(text) || strings.Contains(text, "//") || strings.Contains(text, "..")) {
			r.add(errAt(a.Expr.Range(), "Invalid value", "%q cannot be the %s of a state: it does not match %s.", text, name, form))
			continue
		}
		if name == "endpoint" {
			u, err := url.Parse(text)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
				r.add(errAt(a.Expr.Range(), "Invalid value", "endpoint is an address such as https://s3.example.com, without user, password or parameters."))
				continue
			}
		}
		out.Attrs[name] = text
	}
	if attrs[known[0]] == nil {
		r.add(errAt(b.DefRange(), "Missing attribute", "backend %q needs %s.", out.Type, known[0]))
	}
	return out
}
