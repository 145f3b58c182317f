package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/prometheus/common/model"
	"github.com/zclconf/go-cty/cty"

	"github.com/continuo-ml/continuo/config"
	"github.com/continuo-ml/continuo/resource"
)

// Mode says how far the daemon goes with a repository.
type Mode string

// The modes, each with what the one before it does.
const (
	Observe Mode = "observe" // fetch, and say how what is recorded stands
	Plan    Mode = "plan"    // and plan, and say so on pull requests
	Apply   Mode = "apply"   // and apply what the policy allows
)

// Config is the daemon's own file, checked.
type Config struct {
	Data   string // folder of all that the daemon keeps
	Listen string // address of the HTTP server
	Public string // URL under which people reach it, for links; "" = none
	// TLS and Tokens are required beyond loopback.
	TLS          *TLS
	Tokens       Tokens
	Notifiers    []*Notifier
	Repositories []*Repository
	// Leader lets several daemons stand by for one another; nil = there is but one.
	Leader *LeaderConfig
}

// TLS are files in PEM.
type TLS struct {
	Cert string `hcl:"cert_file"`
	Key  string `hcl:"key_file"`
}

// Tokens are what callers of the API show; "" lets nobody in but from loopback.
type Tokens struct{ Read, Write Secret }

// Repository is one project in one repository.
type Repository struct {
	Name, URL, Branch, Path string
	Interval                time.Duration
	Mode                    Mode
	Username                string
	Password                Secret
	SSHKey, KnownHosts      string
	Vars                    []config.VarInput
	Policy                  Policy
	Verify                  *Verify // nil asks for no signatures
	Notify                  *Notify // nil tells nobody
	Forge                   *ForgeConfig
}

// ForgeConfig says where the repository's pull requests are.
type ForgeConfig struct {
	Kind, URL, Repo string
	Token, Webhook  Secret
}

// MinInterval keeps a daemon from flooding a forge.
const MinInterval = 5 * time.Second

type fileSchema struct {
	Data         string           `hcl:"data,optional"`
	Listen       string           `hcl:"listen,optional"`
	Public       string           `hcl:"public_url,optional"`
	TLS          *TLS             `hcl:"tls,block"`
	Tokens       *tokenBlock      `hcl:"tokens,block"`
	Notifiers    []*notifierBlock `hcl:"notifier,block"`
	Leader       *leaderBlock     `hcl:"leader,block"`
	Repositories []*repoBlock     `hcl:"repository,block"`
}

type tokenBlock struct {
	ReadEnv   string `hcl:"read_env,optional"`
	ReadFile  string `hcl:"read_file,optional"`
	WriteEnv  string `hcl:"write_env,optional"`
	WriteFile string `hcl:"write_file,optional"`
}

type repoBlock struct {
	Name        string               `hcl:"name,label"`
	URL         string               `hcl:"url"`
	Branch      string               `hcl:"branch,optional"`
	Path        string               `hcl:"path,optional"`
	Interval    string               `hcl:"interval,optional"`
	Mode        string               `hcl:"mode,optional"`
	Variables   map[string]cty.Value `hcl:"variables,optional"`
	Credentials *credentialBlock     `hcl:"credentials,block"`
	Policy      *policyBlock         `hcl:"policy,block"`
	Verify      *verifyBlock         `hcl:"verify,block"`
	Notify      *notifyBlock         `hcl:"notify,block"`
	Forge       *forgeBlock          `hcl:"forge,block"`
	At          hcl.Body             `hcl:",body"`
}

type credentialBlock struct {
	Username     string `hcl:"username,optional"`
	PasswordEnv  string `hcl:"password_env,optional"`
	PasswordFile string `hcl:"password_file,optional"`
	SSHKey       string `hcl:"ssh_key_file,optional"`
	KnownHosts   string `hcl:"known_hosts_file,optional"`
}

type policyBlock struct {
	Allow     []string      `hcl:"allow,optional"`
	MaxDelete *float64      `hcl:"max_delete_share,optional"`
	Windows   []windowBlock `hcl:"window,block"`
}

type windowBlock struct {
	Schedule string `hcl:"schedule"`
	Duration string `hcl:"duration"`
	Zone     string `hcl:"time_zone,optional"`
}

type forgeBlock struct {
	Kind        string `hcl:"kind"`
	URL         string `hcl:"url,optional"`
	Repo        string `hcl:"repo"`
	TokenEnv    string `hcl:"token_env,optional"`
	TokenFile   string `hcl:"token_file,optional"`
	WebhookEnv  string `hcl:"webhook_secret_env,optional"`
	WebhookFile string `hcl:"webhook_secret_file,optional"`
}

// maxConfigBytes is far more than a file of settings needs.
const maxConfigBytes = 1 << 20

// Load reads the daemon's file. Relative folders and files in it are relative to
// the file's own folder. The diagnostics' sources are in the second result.
func Load(file string) (*Config, map[string]*hcl.File, hcl.Diagnostics) {
	parser := hclparse.NewParser()
	raw, err := readCapped(file)
	if err != nil {
		return nil, nil, hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "The daemon's file cannot be read", Detail: err.Error() + ". ml daemon -config FILE names it."}}
	}
	f, diags := parser.ParseHCL(raw, file)
	if diags.HasErrors() {
		return nil, parser.Files(), diags
	}
	var s fileSchema
	if diags = append(diags, gohcl.DecodeBody(f.Body, nil, &s)...); diags.HasErrors() {
		return nil, parser.Files(), diags
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, parser.Files(), append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "The daemon's file has no place", Detail: err.Error()})
	}
	c := &checker{dir: filepath.Dir(abs), file: file}
	conf := c.config(&s)
	diags = append(diags, c.diags...)
	if diags.HasErrors() {
		return nil, parser.Files(), diags
	}
	return conf, parser.Files(), diags
}

func readCapped(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxConfigBytes {
		return nil, fmt.Errorf("%s is no regular file of at most %d bytes", file, maxConfigBytes)
	}
	return os.ReadFile(file)
}

// checker turns the file's blocks into a Config, and says what is wrong with them.
type checker struct {
	dir, file string
	diags     hcl.Diagnostics
}

func (c *checker) fail(at *hcl.Range, summary, format string, args ...any) {
	if at == nil {
		at = &hcl.Range{Filename: c.file, Start: hcl.InitialPos, End: hcl.InitialPos}
	}
	c.diags = append(c.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: at})
}

func (c *checker) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.dir, p)
}

func (c *checker) secret(env, file string, at *hcl.Range, what string) Secret {
	if env != "" && file != "" {
		c.fail(at, "A secret is given twice", "%s is given by the environment and by a file. Keep one of them.", what)
	}
	return Secret{Env: env, File: c.path(file)}
}

func (c *checker) config(s *fileSchema) *Config {
	conf := &Config{Data: c.path(s.Data), Listen: s.Listen, TLS: s.TLS, Public: strings.TrimRight(s.Public, "/")}
	if conf.Data == "" {
		conf.Data = filepath.Join(c.dir, "ml-data")
	}
	if conf.Listen == "" {
		conf.Listen = "127.0.0.1:8480"
	}
	if s.TLS != nil {
		conf.TLS = &TLS{Cert: c.path(s.TLS.Cert), Key: c.path(s.TLS.Key)}
	}
	if t := s.Tokens; t != nil {
		conf.Tokens.Read = c.secret(t.ReadEnv, t.ReadFile, nil, "tokens.read")
		conf.Tokens.Write = c.secret(t.WriteEnv, t.WriteFile, nil, "tokens.write")
	}
	conf.Leader = c.leader(s.Leader)
	conf.Notifiers = c.notifiers(s.Notifiers)
	if err := conf.checkListen(); err != nil {
		c.fail(nil, "The daemon would be open to everybody", "%s", err)
	}
	if len(s.Repositories) == 0 {
		c.fail(nil, "No repository", "Add a block: repository \"NAME\" { url = \"https://…\" }.")
	}
	seen := map[string]bool{}
	for _, b := range s.Repositories {
		at := b.At.MissingItemRange()
		if seen[b.Name] {
			c.fail(&at, "Two repositories have one name", "%q stands there twice. Each needs a name of its own; the same repository may be there with several paths.", b.Name)
		}
		seen[b.Name] = true
		r := c.repository(b, &at)
		r.Notify = c.notify(b.Notify, conf.Notifiers, &at)
		conf.Repositories = append(conf.Repositories, r)
	}
	return conf
}

// checkListen refuses to listen beyond this machine without encryption and tokens.
func (c *Config) checkListen() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen = %q is no address: write HOST:PORT", c.Listen)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	if c.TLS == nil || !c.Tokens.Read.Set() || !c.Tokens.Write.Set() {
		return fmt.Errorf("listen = %q is reached from other machines. Add tls { cert_file, key_file } and tokens { read_env, write_env }, or listen on 127.0.0.1", c.Listen)
	}
	return nil
}

var repoName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,39}$`)

func (c *checker) repository(b *repoBlock, at *hcl.Range) *Repository {
	r := &Repository{Name: b.Name, URL: b.URL, Branch: b.Branch, Path: path.Clean(b.Path), Mode: Mode(b.Mode), Interval: time.Minute}
	if !repoName.MatchString(b.Name) {
		c.fail(at, "A name cannot be used", "%q: names are letters, digits, - and _, at most 40, and begin with a letter.", b.Name)
	}
	if r.Branch == "" {
		r.Branch = "main"
	}
	if b.Path == "" {
		r.Path = "."
	}
	if !filepath.IsLocal(filepath.FromSlash(r.Path)) {
		c.fail(at, "The path leads out of the repository", "path = %q must be a folder inside of it.", b.Path)
	}
	switch r.Mode {
	case "":
		r.Mode = Plan
	case Observe, Plan, Apply:
	default:
		c.fail(at, "No such mode", "mode = %q: choose observe, plan or apply.", b.Mode)
	}
	if b.Interval != "" {
		r.Interval = c.duration(b.Interval, at, "interval")
		if r.Interval < MinInterval {
			c.fail(at, "The interval is too short", "interval = %q: at least %s; a webhook makes the daemon look at once.", b.Interval, MinInterval)
		}
	}
	if cr := b.Credentials; cr != nil {
		r.Username, r.Password = cr.Username, c.secret(cr.PasswordEnv, cr.PasswordFile, at, "the password")
		r.SSHKey, r.KnownHosts = c.path(cr.SSHKey), c.path(cr.KnownHosts)
	}
	for _, name := range sorted(b.Variables) {
		r.Vars = append(r.Vars, config.VarInput{Name: name, Source: "variables of " + c.file, Value: b.Variables[name]})
	}
	r.Policy, r.Verify = c.policy(b.Policy, at), c.verify(b.Verify, at)
	if f := b.Forge; f != nil {
		r.Forge = &ForgeConfig{
			Kind: f.Kind, URL: f.URL, Repo: f.Repo, Token: c.secret(f.TokenEnv, f.TokenFile, at, "the forge's token"),
			Webhook: c.secret(f.WebhookEnv, f.WebhookFile, at, "the webhook's secret"),
		}
		if !slices.Contains([]string{"github", "gitlab", "gitea"}, f.Kind) {
			c.fail(at, "No such forge", "kind = %q: choose github, gitlab or gitea (Forgejo, too).", f.Kind)
		}
		if !r.Forge.Token.Set() {
			c.fail(at, "The forge needs a token", "Add token_env or token_file to the forge block: it writes comments and statuses.")
		}
	}
	return r
}

func (c *checker) duration(text string, at *hcl.Range, name string) time.Duration {
	d, err := model.ParseDuration(text)
	if err != nil {
		c.fail(at, "No duration", "%s = %q: write it as 30s, 5m or 2h.", name, text)
	}
	return time.Duration(d)
}

// actions are those that a policy may speak of.
var actions = []resource.Action{resource.Create, resource.Update, resource.Replace, resource.Delete, resource.RunIt, resource.Move, resource.Import, resource.Forget}

func (c *checker) policy(b *policyBlock, at *hcl.Range) Policy {
	p := DefaultPolicy()
	if b == nil {
		return p
	}
	if b.Allow != nil {
		p.Allow = nil
		for _, a := range b.Allow {
			if !slices.Contains(actions, resource.Action(a)) {
				c.fail(at, "No such action", "policy.allow: %q is none; choose from %s.", a, join(actions))
			}
			p.Allow = append(p.Allow, resource.Action(a))
		}
	}
	if b.MaxDelete != nil {
		if p.MaxDeleteShare = *b.MaxDelete; p.MaxDeleteShare < 0 || p.MaxDeleteShare > 1 {
			c.fail(at, "No share", "policy.max_delete_share = %v: write a number from 0 to 1.", p.MaxDeleteShare)
		}
	}
	for _, w := range b.Windows {
		next, err := config.Slots(w.Schedule, w.Zone)
		if err != nil {
			c.fail(at, "A window cannot be read", "schedule = %q: %s. Write five fields of cron, such as \"0 22 * * *\".", w.Schedule, err)
			continue
		}
		d := c.duration(w.Duration, at, "duration")
		if d <= 0 {
			c.fail(at, "A window is empty", "duration = %q must be longer than nothing.", w.Duration)
		}
		p.Windows = append(p.Windows, Window{Next: next, Lasts: d})
	}
	return p
}

func join[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = string(x)
	}
	return strings.Join(out, ", ")
}

func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

var errNotApply = errors.New("this repository is not applied by the daemon (mode)")
