package source

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/continuo-ml/continuo/config"
)

// The schemes of addresses.
const (
	schemeS3    = "s3"
	schemeGS    = "gs"
	schemeAzure = "azure"
	schemeHTTPS = "https"
	schemeHTTP  = "http"
	schemeOCI   = "oci"
	schemeGit   = "git"
	schemePVC   = "pvc"
)

// Remote reports whether a dataset's source is an address, and not a path in the project.
func Remote(source string) bool {
	return strings.Contains(source, "://") || strings.HasPrefix(source, "git::")
}

// address is one source, taken apart.
type address struct {
	text   string // for messages: without what may be secret
	scheme string
	host   string     // bucket, container or host with port
	key    string     // below it, without a slash in front; of a web address the whole address
	query  url.Values // options, by the names in options
	glob   bool       // key is a pattern
	pin    string     // SHA-256 that the one object must have, 64 hex digits, or ""
}

// optionsOf lists what may stand behind the question mark.
var optionsOf = map[string][]string{
	schemeS3:    {"anonymous", "endpoint", "region", "sha256", "version"},
	schemeGS:    {"anonymous", "sha256", "version"},
	schemeAzure: {"account", "anonymous", "sha256", "version"},
}

// maxAddress bounds an address in bytes; a key of S3 has 1,024 at most, and a signed web address some thousand.
const maxAddress = 8192

func parse(source string) (address, error) {
	if len(source) > maxAddress || strings.ContainsFunc(source, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return address{}, fmt.Errorf("source %.80q is no address: it is too long or holds control characters", source)
	}
	if strings.HasPrefix(source, "git::") {
		return address{text: withoutUser(source), scheme: schemeGit, key: source}, nil
	}
	scheme, rest, _ := strings.Cut(source, "://")
	switch scheme {
	case schemeHTTPS, schemeHTTP:
		return parseWeb(source)
	case schemeS3, schemeGS, schemeAzure:
		return parseBucket(scheme, rest)
	case schemePVC:
		return parseClaim(rest)
	case schemeOCI:
		if rest == "" {
			return address{}, fmt.Errorf("source %q names nothing; write %s", source, forms[scheme])
		}
		return address{text: source, scheme: scheme, key: rest}, nil
	}
	return address{}, fmt.Errorf("source %q: nothing here reads %s://; %s", source, scheme, known)
}

const known = "known are s3://, gs://, azure://, https://, git::, oci:// and pvc:// addresses, and paths in the project"

// forms says how an address is written.
var forms = map[string]string{
	schemeS3:    "s3://BUCKET/KEY, s3://BUCKET/FOLDER/ or s3://BUCKET/FOLDER/*.csv, with ?region=…&endpoint=… when needed",
	schemeGS:    "gs://BUCKET/KEY, gs://BUCKET/FOLDER/ or gs://BUCKET/FOLDER/*.csv",
	schemeAzure: "azure://CONTAINER/KEY, azure://CONTAINER/FOLDER/ or azure://CONTAINER/FOLDER/*.csv, with ?account=… unless AZURE_STORAGE_ACCOUNT is set",
	schemeOCI:   "oci://HOST/REPOSITORY@sha256:…, with //FOLDER for a part of the image",
	schemePVC:   "pvc://CLAIM/FILE, pvc://CLAIM/FOLDER or pvc://CLAIM/FOLDER/*.csv",
}

func parseBucket(scheme, rest string) (address, error) {
	bad := func(why string, args ...any) (address, error) {
		return address{}, fmt.Errorf("source %s://%.200s: %s; write %s", scheme, rest, fmt.Sprintf(why, args...), forms[scheme])
	}
	rest, query, asked := strings.Cut(rest, "?")
	a := address{scheme: scheme}
	if asked {
		var err error
		if a.query, err = url.ParseQuery(query); err != nil {
			return bad("what follows the ? cannot be read: %v", err)
		}
		for name := range a.query {
			if !slices.Contains(optionsOf[scheme], name) {
				return bad("there is no option %q; known are %s (a ? is no wildcard in an address: write *)", name, strings.Join(optionsOf[scheme], ", "))
			}
		}
	}
	a.host, a.key, _ = strings.Cut(rest, "/")
	a.text = scheme + "://" + rest
	if a.host == "" || strings.ContainsAny(a.host, `@:\*[{`) {
		return bad("it names no %s", map[bool]string{true: "container", false: "bucket"}[scheme == schemeAzure])
	}
	if strings.ContainsAny(a.key, `*[{`) {
		a.glob = true
	}
	if err := checkKey(strings.TrimSuffix(a.key, "/")); a.key != "" && err != nil {
		return bad("%v", err)
	}
	if v := a.query.Get("anonymous"); v != "" && v != "true" {
		return bad("anonymous is %q; write anonymous=true", v)
	}
	if e := a.query.Get("endpoint"); e != "" {
		if err := checkEndpoint(e); err != nil {
			return bad("%v", err)
		}
		a.text += "?endpoint=" + e
	}
	return a, a.setPin(a.query.Get("sha256"))
}

// checkKey refuses what no file below a folder can be called. A pattern is a name, too.
func checkKey(key string) error {
	if path.Clean(key) != key || key == "." || strings.HasPrefix(key, "..") && (key == ".." || key[2] == '/') || strings.HasPrefix(key, "/") {
		return fmt.Errorf("%q is no clean path", key)
	}
	return nil
}

// checkEndpoint wants TLS, except where nobody can listen in.
func checkEndpoint(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.User != nil, u.RawQuery != "":
		return errors.New("the endpoint is no address such as https://HOST:PORT")
	case u.Scheme == schemeHTTPS, u.Scheme == schemeHTTP && near(u.Hostname()):
		return nil
	}
	return fmt.Errorf("the endpoint is %s: write https://, or set AWS_ENDPOINT_URL in the environment to trust the network", u.Scheme+"://"+u.Host)
}

// near reports whether a host is this machine or in a private network, by its address.
func near(host string) bool {
	ip := net.ParseIP(host)
	return loopback(host) || ip != nil && ip.IsPrivate()
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

func parseWeb(source string) (address, error) {
	u, err := url.Parse(source)
	if err != nil || u.Host == "" {
		return address{}, errors.New("the source is no web address; write https://HOST/PATH")
	}
	shown := u.Scheme + "://" + u.Host + u.EscapedPath()
	switch {
	case u.User != nil:
		return address{}, fmt.Errorf("source %s: an address must hold no user and password, for it is recorded; use a source whose credentials come from the environment", shown)
	case u.Scheme == schemeHTTP && !loopback(u.Hostname()):
		return address{}, fmt.Errorf("source %s: plain http is for this machine only, for anybody between could change the data; write https://", shown)
	case strings.ContainsAny(u.Path, "*"), strings.HasSuffix(u.Path, "/"), u.Path == "":
		return address{}, fmt.Errorf("source %s: a web address stands for one file, for a web server lists none; name the file, or use a bucket", shown)
	}
	a := address{text: shown, scheme: u.Scheme, host: u.Host}
	pin := ""
	if u.Fragment != "" {
		var ok bool
		if pin, ok = strings.CutPrefix(u.Fragment, "sha256="); !ok {
			return a, fmt.Errorf("source %s: what follows the # is not sha256=…, the digest that the file must have", shown)
		}
		u.Fragment, u.RawFragment = "", ""
	}
	if q := u.Query(); pin == "" && q.Has("sha256") {
		pin = q.Get("sha256")
		q.Del("sha256")
		u.RawQuery = q.Encode()
	}
	a.key = u.String()
	return a, a.setPin(pin)
}

func (a *address) setPin(text string) error {
	pin := strings.TrimPrefix(text, "sha256:")
	switch {
	case text == "":
		return nil
	case !isHex(pin):
		return fmt.Errorf("source %s: sha256 is %.80q; write the 64 digits that sha256sum prints, in lower case", a.text, text)
	case a.glob || a.key == "" || a.scheme != schemeHTTPS && a.scheme != schemeHTTP && strings.HasSuffix(a.key, "/"):
		return fmt.Errorf("source %s: sha256 is for one file; leave it out: a plan tells when a file of several moved", a.text)
	}
	a.pin = pin
	return nil
}

func isHex(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }

// name is what a single object is called as a file.
func (a address) name() string {
	at := a.key
	if g, err := config.ParseGitData(a.key, true); a.scheme == schemeGit && err == nil {
		at = g.File()
	}
	if u, err := url.Parse(a.key); err == nil && (a.scheme == schemeHTTPS || a.scheme == schemeHTTP) {
		at = u.Path
	}
	base := path.Base(strings.TrimSuffix(at, "/"))
	if checkName(base) != nil {
		return "data"
	}
	return base
}

// withoutUser hides the user of a git address.
func withoutUser(source string) string {
	u, err := url.Parse(strings.TrimPrefix(source, "git::"))
	if err != nil || u.User == nil {
		return source
	}
	if _, secret := u.User.Password(); !secret && u.Scheme == "ssh" {
		return source
	}
	u.User = nil
	return "git::" + u.String()
}
