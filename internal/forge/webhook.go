package forge

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// MaxHook is how long the body of a webhook may be. Whoever reads it from the network must stop there.
const MaxHook = 1 << 20

// Errors of [Verify]. Only ErrIgnored is one of an honest forge.
var (
	ErrNoSecret  = errors.New("the endpoint has no secret: it takes no webhook")
	ErrSignature = errors.New("the signature is not that of the body under the endpoint's secret")
	ErrBody      = errors.New("the body is not that of a webhook")
	ErrIgnored   = errors.New("nothing that a plan depends on")
)

// HintKind is what a webhook says has happened.
type HintKind string

// The kinds of hints.
const (
	HintPush    HintKind = "push"    // to a branch or a tag, or its end
	HintPull    HintKind = "pull"    // anything about a pull request
	HintComment HintKind = "comment" // on a pull request
)

// Hint says where it is worth looking. It is no more than that: what is there is asked from the forge, so that a hint that is old, forged or
// doubled costs a look and changes nothing. It holds no commit and no address for that reason.
type Hint struct {
	Kind   HintKind
	Repo   string // owner/name, as the forge spells it
	Ref    string // of a push, in full: "refs/heads/main"
	Number int    // of the pull request
	// Delivery is the forge's id of this delivery, which its signature does not cover; Body is the SHA-256 of the body, which it does.
	Delivery string
	Body     [sha256.Size]byte
}

// headers of each kind.
var hookHeaders = map[Kind]struct{ event, delivery, signature string }{
	GitHub: {"X-Github-Event", "X-Github-Delivery", "X-Hub-Signature-256"},
	GitLab: {"X-Gitlab-Event", "X-Gitlab-Event-Uuid", "X-Gitlab-Token"},
	Gitea:  {"X-Gitea-Event", "X-Gitea-Delivery", "X-Gitea-Signature"},
}

// Verify checks that a webhook comes from whoever knows the secret, and only then reads it. body is what came over the wire, byte by byte,
// at most [MaxHook] of it. GitLab signs nothing: its secret comes as it is, so its webhooks need TLS.
func Verify(kind Kind, secret string, header http.Header, body []byte) (Hint, error) {
	names, ok := hookHeaders[kind]
	switch {
	case !ok:
		return Hint{}, fmt.Errorf("no forge %q", kind)
	case secret == "":
		return Hint{}, ErrNoSecret
	case len(body) > MaxHook:
		return Hint{}, fmt.Errorf("%w: it is longer than %d bytes", ErrBody, MaxHook)
	case !authentic(kind, secret, header[names.signature], body):
		return Hint{}, ErrSignature
	case header.Get("Content-Encoding") != "" && header.Get("Content-Encoding") != "identity":
		return Hint{}, fmt.Errorf("%w: it is compressed", ErrBody)
	}
	if media, _, _ := strings.Cut(header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(media), "application/json") {
		return Hint{}, fmt.Errorf("%w: choose application/json as the webhook's content type", ErrBody)
	}
	h, err := parseHook(kind, header.Get(names.event), body)
	if err != nil {
		return Hint{}, err
	}
	if !repoName(kind, h.Repo) {
		return Hint{}, fmt.Errorf("%w: it names no repository", ErrBody)
	}
	h.Body = sha256.Sum256(body)
	if h.Delivery = header.Get(names.delivery); len(h.Delivery) > 100 {
		h.Delivery = h.Delivery[:100]
	}
	return h, nil
}

// authentic takes no more time for a signature that is nearly right than for any other of its length.
func authentic(kind Kind, secret string, given []string, body []byte) bool {
	if len(given) != 1 {
		return false
	}
	got := given[0]
	if kind == GitLab {
		// Digests are compared, so that the time does not tell the secret's length.
		want, have := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(got))
		return subtle.ConstantTimeCompare(want[:], have[:]) == 1
	}
	if kind == GitHub {
		var ok bool
		if got, ok = strings.CutPrefix(got, "sha256="); !ok {
			return false
		}
	}
	sum, err := hex.DecodeString(got)
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body) // a hash does not fail
	return hmac.Equal(sum, mac.Sum(nil))
}

func parseHook(kind Kind, event string, body []byte) (Hint, error) {
	read := map[string]func(object) (Hint, error){
		"github push": hubPush, "github pull_request": hubPullHook, "github issue_comment": hubCommentHook,
		"gitea push": hubPush, "gitea pull_request": hubPullHook, "gitea issue_comment": hubCommentHook,
		"gitlab Push Hook": labPush, "gitlab Tag Push Hook": labPush, "gitlab Merge Request Hook": labPullHook, "gitlab Note Hook": labNoteHook,
	}[string(kind)+" "+event]
	if read == nil {
		if len(event) > 100 {
			event = event[:100]
		}
		return Hint{}, fmt.Errorf("%w: event %q", ErrIgnored, event)
	}
	o, err := readObject(body)
	if err != nil {
		return Hint{}, err
	}
	h, err := read(o)
	if err != nil && !errors.Is(err, ErrIgnored) {
		err = fmt.Errorf("%w: %s: %w", ErrBody, event, err)
	}
	return h, err
}

func hubPush(o object) (h Hint, err error) {
	h.Kind = HintPush
	return h, errors.Join(o.text(&h.Repo, "repository", "full_name"), o.ref(&h.Ref))
}

func hubPullHook(o object) (h Hint, err error) {
	h.Kind = HintPull
	return h, errors.Join(o.text(&h.Repo, "repository", "full_name"), o.number(&h.Number, "number"))
}

func hubCommentHook(o object) (h Hint, err error) {
	h.Kind = HintComment
	if !o.has("issue", "pull_request") {
		return h, fmt.Errorf("%w: a comment on an issue", ErrIgnored)
	}
	return h, errors.Join(o.text(&h.Repo, "repository", "full_name"), o.number(&h.Number, "issue", "number"))
}

func labPush(o object) (h Hint, err error) {
	h.Kind = HintPush
	return h, errors.Join(o.text(&h.Repo, "project", "path_with_namespace"), o.ref(&h.Ref))
}

func labPullHook(o object) (h Hint, err error) {
	h.Kind = HintPull
	return h, errors.Join(o.text(&h.Repo, "project", "path_with_namespace"), o.number(&h.Number, "object_attributes", "iid"))
}

func labNoteHook(o object) (h Hint, err error) {
	h.Kind = HintComment
	var on string
	if err := o.text(&on, "object_attributes", "noteable_type"); err != nil {
		return h, err
	}
	if on != "MergeRequest" {
		return h, fmt.Errorf("%w: a comment on another thing", ErrIgnored)
	}
	return h, errors.Join(o.text(&h.Repo, "project", "path_with_namespace"), o.number(&h.Number, "merge_request", "iid"))
}

// object is a JSON object whose names are compared as they are written: Go's decoder takes "Ref" for "ref", and of two the last.
type object map[string]json.RawMessage

func readObject(raw []byte) (object, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%w: no JSON object", ErrBody)
	}
	o := object{}
	folded := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, fmt.Errorf("%w: no JSON object", ErrBody)
		}
		if low := strings.ToLower(name); folded[low] {
			return nil, fmt.Errorf("%w: %.40q stands in it twice", ErrBody, name)
		} else {
			folded[low] = true
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("%w: no JSON object", ErrBody)
		}
		o[name] = v
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("%w: it ends early", ErrBody)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows it", ErrBody)
	}
	return o, nil
}

// at finds a value below the object.
func (o object) at(path ...string) (json.RawMessage, error) {
	for i, name := range path {
		v, ok := o[name]
		if !ok || string(v) == "null" {
			return nil, fmt.Errorf("no %s", strings.Join(path[:i+1], "."))
		}
		if i == len(path)-1 {
			return v, nil
		}
		var err error
		if o, err = readObject(v); err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(path[:i+1], "."), err)
		}
	}
	return nil, errors.New("no path")
}

func (o object) has(path ...string) bool {
	_, err := o.at(path...)
	return err == nil
}

func (o object) text(to *string, path ...string) error {
	v, err := o.at(path...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(v, to); err != nil {
		return fmt.Errorf("%s is no text", strings.Join(path, "."))
	}
	return nil
}

func (o object) number(to *int, path ...string) error {
	v, err := o.at(path...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(v, to); err != nil || *to <= 0 {
		return fmt.Errorf("%s is no number of a pull request", strings.Join(path, "."))
	}
	return nil
}

// maxRef is longer than any name of a branch that a forge takes.
const maxRef = 1024

func (o object) ref(to *string) error {
	if err := o.text(to, "ref"); err != nil {
		return err
	}
	if !strings.HasPrefix(*to, "refs/") || len(*to) > maxRef || strings.ContainsFunc(*to, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return errors.New("ref is no name of a branch or a tag")
	}
	return nil
}
