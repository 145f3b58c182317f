package forge

import (
	"bytes"
	"compress/gzip"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

const secret = "hook-s3cr3t"

// hooks are what the forges send, in the shapes of their documentation, with the hint that is in them.
var hooks = []struct {
	name  string
	kind  Kind
	event string
	body  string
	want  Hint
}{
	{"a push", GitHub, "push", `{"ref": "refs/heads/main", "before": "a", "after": "b", "repository": {"id": 1, "full_name": "lab/churn", "clone_url": "https://f/x"}, "commits": []}`, Hint{Kind: HintPush, Repo: "lab/churn", Ref: "refs/heads/main"}},
	{"a pull request", GitHub, "pull_request", `{"action": "synchronize", "number": 7, "pull_request": {"number": 7}, "repository": {"full_name": "lab/churn"}}`, Hint{Kind: HintPull, Repo: "lab/churn", Number: 7}},
	{"a comment", GitHub, "issue_comment", `{"action": "created", "issue": {"number": 7, "pull_request": {"url": "x"}}, "comment": {"id": 1, "body": "ml apply"}, "repository": {"full_name": "lab/churn"}}`, Hint{Kind: HintComment, Repo: "lab/churn", Number: 7}},
	{"a push", Gitea, "push", `{"ref": "refs/heads/main", "before": "a", "after": "b", "repository": {"full_name": "lab/churn"}}`, Hint{Kind: HintPush, Repo: "lab/churn", Ref: "refs/heads/main"}},
	{"a pull request", Gitea, "pull_request", `{"action": "opened", "number": 7, "pull_request": {}, "repository": {"full_name": "lab/churn"}}`, Hint{Kind: HintPull, Repo: "lab/churn", Number: 7}},
	{"a comment", Gitea, "issue_comment", `{"action": "created", "issue": {"number": 7, "pull_request": {"merged": false}}, "is_pull": true, "repository": {"full_name": "lab/churn"}}`, Hint{Kind: HintComment, Repo: "lab/churn", Number: 7}},
	{"a push", GitLab, "Push Hook", `{"object_kind": "push", "ref": "refs/heads/main", "project": {"id": 1, "path_with_namespace": "group/sub/churn"}}`, Hint{Kind: HintPush, Repo: "group/sub/churn", Ref: "refs/heads/main"}},
	{"a tag", GitLab, "Tag Push Hook", `{"object_kind": "tag_push", "ref": "refs/tags/main", "project": {"path_with_namespace": "lab/churn"}}`, Hint{Kind: HintPush, Repo: "lab/churn", Ref: "refs/tags/main"}},
	{"a merge request", GitLab, "Merge Request Hook", `{"object_kind": "merge_request", "object_attributes": {"iid": 7, "action": "update"}, "project": {"path_with_namespace": "lab/churn"}}`, Hint{Kind: HintPull, Repo: "lab/churn", Number: 7}},
	{"a note", GitLab, "Note Hook", `{"object_kind": "note", "object_attributes": {"noteable_type": "MergeRequest", "note": "ml plan"}, "merge_request": {"iid": 7}, "project": {"path_with_namespace": "lab/churn"}}`, Hint{Kind: HintComment, Repo: "lab/churn", Number: 7}},
}

func signature(body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

// signed are the headers of an honest delivery.
func signed(kind Kind, event, body string) http.Header {
	h := http.Header{}
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set(hookHeaders[kind].event, event)
	h.Set(hookHeaders[kind].delivery, "d-1")
	switch kind {
	case GitHub:
		h.Set("X-Hub-Signature-256", "sha256="+signature(body))
	case GitLab:
		h.Set("X-Gitlab-Token", secret)
	case Gitea:
		h.Set("X-Gitea-Signature", signature(body))
	}
	return h
}

func push(kind Kind) (event, body string) {
	for _, h := range hooks {
		if h.kind == kind && h.want.Kind == HintPush {
			return h.event, h.body
		}
	}
	return "", ""
}

func eachHook(t *testing.T, f func(t *testing.T, kind Kind, event, body string)) {
	for _, k := range kinds {
		t.Run(string(k), func(t *testing.T) {
			event, body := push(k)
			f(t, k, event, body)
		})
	}
}

func TestWebhooksHoldAHint(t *testing.T) {
	for _, tt := range hooks {
		got, err := Verify(tt.kind, secret, signed(tt.kind, tt.event, tt.body), []byte(tt.body))
		want := tt.want
		want.Delivery, want.Body = "d-1", sha256.Sum256([]byte(tt.body))
		if err != nil || got != want {
			t.Errorf("%s of %s: %+v, %v", tt.name, tt.kind, got, err)
		}
	}
}

func refused(t *testing.T, what string, kind Kind, secret string, h http.Header, body []byte, with error) {
	t.Helper()
	hint, err := Verify(kind, secret, h, body)
	if !errors.Is(err, with) || hint != (Hint{}) {
		t.Errorf("%s: %+v, %v", what, hint, err)
	}
}

func TestNoSecretNoWebhook(t *testing.T) {
	eachHook(t, func(t *testing.T, k Kind, event, body string) {
		h := signed(k, event, body)
		if k == GitLab {
			h.Set("X-Gitlab-Token", "")
		}
		refused(t, "without a secret", k, "", h, []byte(body), ErrNoSecret)
	})
}

func TestW1SignaturesThatAreNone(t *testing.T) {
	eachHook(t, func(t *testing.T, k Kind, event, body string) {
		name := hookHeaders[k].signature
		good := signed(k, event, body).Get(name)
		old := hmac.New(sha1.New, []byte(secret))
		old.Write([]byte(body))
		for what, values := range map[string][]string{
			"none": nil, "empty": {""}, "truncated": {good[:len(good)-2]}, "one digit short": {good[:len(good)-1]}, "longer": {good + "00"}, "twice": {good, good}, "a second one that is wrong": {good, "x"},
			"in one line": {good + "," + good}, "sha1": {"sha1=" + hex.EncodeToString(old.Sum(nil))}, "under another secret": {strings.Repeat("0", len(good))},
			"another algorithm's name": {"sha512=" + strings.TrimPrefix(good, "sha256=")}, "blanks": {" " + good}, "of nothing": {"sha256="},
		} {
			h := signed(k, event, body)
			h[name] = values
			refused(t, what, k, secret, h, []byte(body), ErrSignature)
		}
		h := signed(k, event, body)
		h.Del(name)
		h.Set("X-Hub-Signature", "sha1="+hex.EncodeToString(old.Sum(nil)))
		refused(t, "GitHub's old header", k, secret, h, []byte(body), ErrSignature)
		refused(t, "another secret", k, secret+"x", signed(k, event, body), []byte(body), ErrSignature)
	})
}

func TestW2ABodyThatChanged(t *testing.T) {
	for _, k := range []Kind{GitHub, Gitea} { // GitLab signs nothing
		event, body := push(k)
		for what, changed := range map[string]string{"one space more": body + " ", "one less": strings.Replace(body, " ", "", 1), "another branch": strings.Replace(body, "main", "evil", 1)} {
			refused(t, what, k, secret, signed(k, event, body), []byte(changed), ErrSignature)
		}
	}
}

func TestW3ABodyThatIsTooLong(t *testing.T) {
	eachHook(t, func(t *testing.T, k Kind, event, body string) {
		long := body + strings.Repeat(" ", MaxHook-len(body)) // blanks at the end are no mistake
		if _, err := Verify(k, secret, signed(k, event, long), []byte(long)); err != nil {
			t.Errorf("as long as may be: %v", err)
		}
		body = long + " "
		refused(t, "too long", k, secret, signed(k, event, body), []byte(body), ErrBody)
	})
}

func TestW4ABodyThatIsDeep(t *testing.T) {
	eachHook(t, func(t *testing.T, k Kind, event, _ string) {
		for _, deep := range []string{strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000), `{"ref": ` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`} {
			refused(t, "deep", k, secret, signed(k, event, deep), []byte(deep), ErrBody)
		}
	})
}

func TestW5BodiesThatAreNone(t *testing.T) {
	for _, tt := range hooks {
		for _, body := range []string{
			``, ` `, `null`, `1`, `"x"`, `[]`, `{}`, `{"ref": 1}`, `{"ref": null}`, `{"ref": "refs/heads/main", "commits": null}`, `{"repository": null, "project": null}`, `{"repository": [], "project": []}`,
			`{"repository": {"full_name": 1}, "project": {"path_with_namespace": 1}, "ref": "refs/heads/x", "number": 1}`, `{"number": "7", "repository": {"full_name": "a/b"}}`, `{"number": -1, "repository": {"full_name": "a/b"}}`,
			`{"number": 1e99, "repository": {"full_name": "a/b"}}`, `{"number": 7.5, "repository": {"full_name": "a/b"}}`, `{"object_attributes": {"iid": 0, "noteable_type": "MergeRequest"}, "merge_request": {}}`,
			tt.body[:len(tt.body)-1], tt.body + tt.body, tt.body + "x", strings.Replace(tt.body, "churn", "../churn", 1), strings.Replace(tt.body, "refs/heads/main", "main", 1) + " x",
		} {
			hint, err := Verify(tt.kind, secret, signed(tt.kind, tt.event, body), []byte(body))
			if !errors.Is(err, ErrBody) && !errors.Is(err, ErrIgnored) || hint != (Hint{}) {
				t.Errorf("%s %s of %.80q: %+v, %v", tt.kind, tt.event, body, hint, err)
			}
		}
	}
}

func TestW6NamesThatDifferInCase(t *testing.T) {
	eachHook(t, func(t *testing.T, k Kind, event, body string) {
		for what, changed := range map[string]string{
			"Ref after ref":  strings.TrimSuffix(body, "}") + `, "Ref": "refs/heads/evil"}`,
			"REF before ref": `{"REF": "refs/heads/evil", ` + strings.TrimPrefix(body, "{"),
			"ref twice":      strings.TrimSuffix(body, "}") + `, "ref": "refs/heads/evil"}`,
			"Ref alone":      strings.Replace(body, `"ref"`, `"Ref"`, 1),
		} {
			refused(t, what, k, secret, signed(k, event, changed), []byte(changed), ErrBody)
		}
	})
}

// A delivery that comes a thousand times can be told by its body, whatever its id says: that is not signed.
func TestW7TheSameDeliveryAgain(t *testing.T) {
	eachHook(t, func(t *testing.T, k Kind, event, body string) {
		seen, ids := map[[32]byte]bool{}, map[string]bool{}
		for i := range 1000 {
			h := signed(k, event, body)
			h.Set(hookHeaders[k].delivery, fmt.Sprint(i%2))
			hint, err := Verify(k, secret, h, []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			seen[hint.Body], ids[hint.Delivery] = true, true
		}
		if len(seen) != 1 || len(ids) != 2 {
			t.Errorf("%d bodies, %d ids", len(seen), len(ids))
		}
	})
}

// An old delivery after a newer push, and an address in the body, do nothing: a hint has no place for a commit or for an address.
func TestW8AndW11AHintHoldsNoCommitAndNoAddress(t *testing.T) {
	eachHook(t, func(t *testing.T, k Kind, event, body string) {
		sha := strings.Repeat("ab", 20)
		body = strings.TrimSuffix(body, "}") + `, "after": "` + sha + `", "checkout_sha": "` + sha + `", "clone_url": "http://169.254.169.254/latest", "git_http_url": "http://169.254.169.254/"}`
		body = strings.ReplaceAll(body, `"after": "b", `, "")
		hint, err := Verify(k, secret, signed(k, event, body), []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		hint.Body = [32]byte{}
		if text := fmt.Sprintf("%+v", hint); strings.Contains(text, sha) || strings.Contains(text, "169.254") {
			t.Errorf("%s", text)
		}
	})
	if n := reflect.TypeFor[Hint]().NumField(); n != 6 {
		t.Errorf("a hint has %d fields: it must not tell what the forge can be asked", n)
	}
}

func TestW9AFormIsNoWebhook(t *testing.T) {
	eachHook(t, func(t *testing.T, k Kind, event, body string) {
		form := "payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D&secret=" + secret
		h := signed(k, event, form)
		h.Set("Content-Type", "application/x-www-form-urlencoded")
		refused(t, "a form", k, secret, h, []byte(form), ErrBody)
		h = signed(k, event, body)
		h.Del("Content-Type")
		refused(t, "no type", k, secret, h, []byte(body), ErrBody)
	})
}

// Which repository, which branch: a tag named like the branch is told by the whole name, and a branch that was deleted is worth a look too.
func TestW10OtherRepositoriesBranchesAndTags(t *testing.T) {
	eachHook(t, func(t *testing.T, k Kind, event, body string) {
		for from, to := range map[string]string{"refs/heads/main": "refs/tags/main", "churn": "other"} {
			changed := strings.ReplaceAll(strings.ReplaceAll(body, from, to), `"after": "b"`, `"after": "0000000000000000000000000000000000000000"`)
			hint, err := Verify(k, secret, signed(k, event, changed), []byte(changed))
			if err != nil || !strings.Contains(hint.Repo+hint.Ref, to) {
				t.Errorf("%+v, %v", hint, err)
			}
		}
		for _, bad := range []string{"main", "refs/heads/a b", "refs/heads/\\n", "refs/heads/" + strings.Repeat("x", 4096)} {
			changed := strings.Replace(body, "refs/heads/main", bad, 1)
			refused(t, bad[:min(len(bad), 20)], k, secret, signed(k, event, changed), []byte(changed), ErrBody)
		}
	})
}

func TestW13ACompressedBodyIsNotOpened(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(make([]byte, 100<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	eachHook(t, func(t *testing.T, k Kind, event, _ string) {
		h := signed(k, event, b.String())
		h.Set("Content-Encoding", "gzip")
		refused(t, "gzip", k, secret, h, b.Bytes(), ErrBody)
	})
}

func TestW14EventsThatNobodyAskedFor(t *testing.T) {
	eachHook(t, func(t *testing.T, k Kind, _, body string) {
		for _, event := range []string{"", "ping", "star", "System Hook", "Pipeline Hook", "PUSH", strings.Repeat("x", 5000)} {
			refused(t, event[:min(len(event), 20)], k, secret, signed(k, event, body), []byte(body), ErrIgnored)
		}
	})
	for kind, body := range map[Kind]string{
		GitHub: `{"issue": {"number": 7}, "repository": {"full_name": "a/b"}}`, Gitea: `{"issue": {"number": 7, "pull_request": null}, "repository": {"full_name": "a/b"}}`,
		GitLab: `{"object_attributes": {"noteable_type": "Issue"}, "issue": {"iid": 7}, "project": {"path_with_namespace": "a/b"}}`,
	} {
		event := "issue_comment"
		if kind == GitLab {
			event = "Note Hook"
		}
		refused(t, "a comment on an issue", kind, secret, signed(kind, event, body), []byte(body), ErrIgnored)
	}
	refused(t, "another forge's event", GitHub, secret, signed(GitHub, "Push Hook", "{}"), []byte("{}"), ErrIgnored)
	if _, err := Verify("bitbucket", secret, http.Header{}, nil); err == nil {
		t.Error("a forge that is none")
	}
}

func FuzzVerify(f *testing.F) {
	for _, h := range hooks {
		f.Add(string(h.kind), h.event, h.body, true)
	}
	f.Add("github", "push", `{"ref": 1}`, true)
	f.Add("gitea", "push", `{"ref": "refs/heads/x"}`, false)
	f.Fuzz(func(t *testing.T, kind, event, body string, honest bool) {
		k := Kind(kind)
		h := signed(k, event, body)
		if !honest {
			h = signed(k, event, body+" ")
			h.Del("X-Gitlab-Token")
		}
		hint, err := Verify(k, secret, h, []byte(body))
		switch {
		case err != nil && hint != (Hint{}):
			t.Errorf("a hint beside %v", err)
		case err == nil && !honest:
			t.Error("it was not signed")
		case err == nil && (!repoName(k, hint.Repo) || (hint.Kind == HintPush) != (hint.Number == 0) || (hint.Kind == HintPush) != strings.HasPrefix(hint.Ref, "refs/")):
			t.Errorf("%+v", hint)
		}
	})
}
