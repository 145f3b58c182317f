// Package signed says who signed a git commit, and refuses what nobody known did.
//
// Keys are the signers: public keys of OpenPGP, and lines of an allowed_signers
// file of ssh-keygen. Check takes the bytes of a commit object as git keeps them.
// It is strict where git is kind: one signature of one signer over the very bytes
// of the commit, by a key that is good now, not at the time that the commit
// claims for itself. It reads no file and asks nobody.
package signed

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
)

// MaxKeys bounds the signers of one set.
const MaxKeys = 1000

// maxSignature bounds the text of a signature; ssh's and PGP's take a few hundred bytes.
const maxSignature = 64 << 10

// Keys are signers.
type Keys struct {
	pgp openpgp.EntityList
	ssh []sshSigner
}

// Len is how many keys there are.
func (k *Keys) Len() int { return len(k.pgp) + len(k.ssh) }

// Join gives the signers of all sets.
func Join(sets ...*Keys) *Keys {
	out := &Keys{}
	for _, k := range sets {
		out.pgp, out.ssh = append(out.pgp, k.pgp...), append(out.ssh, k.ssh...)
	}
	return out
}

// RefusedError says why a commit's signature does not count.
type RefusedError struct {
	// By is the key that signed, or claims to have; "" when there is none.
	By  string
	Why string
}

// Error implements error.
func (e *RefusedError) Error() string {
	if e.By == "" {
		return e.Why
	}
	return e.Why + " (" + e.By + ")"
}

func refuse(by, format string, args ...any) error {
	return &RefusedError{By: by, Why: fmt.Sprintf(format, args...)}
}

// Check says whose key signed a commit, in the words of the key itself. raw is
// the commit object without git's own header. A signature that does not count is
// a RefusedError.
func (k *Keys) Check(raw []byte, now time.Time) (by string, err error) {
	payload, sig, err := split(raw)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(sig, []byte("-----BEGIN ")); n > 1 {
		return "", refuse("", "it has %d signatures, and must have one", n)
	}
	switch {
	case bytes.HasPrefix(sig, []byte("-----BEGIN PGP SIGNATURE-----")):
		return k.checkPGP(payload, sig, now)
	case bytes.HasPrefix(sig, []byte("-----BEGIN SSH SIGNATURE-----")):
		return k.checkSSH(payload, sig, now)
	}
	return "", refuse("", "its signature is of no kind that is known here: sign with gpg or with ssh")
}

// head are the fields that a commit begins with, in their order. The parents and
// the tree that count are those that were signed, so nothing may stand elsewhere.
var head = []string{"tree", "parent", "author", "committer"}

// split parts a commit into what was signed and the signature.
func split(raw []byte) (payload, sig []byte, err error) {
	at, count, in := 0, 0, false // place in head; signatures; within one
	rest := raw
	for len(rest) > 0 {
		line, after, _ := bytes.Cut(rest, []byte{'\n'})
		if len(line) == 0 { // the message begins
			break
		}
		whole := rest[:len(rest)-len(after)]
		rest = after
		if line[0] == ' ' {
			if in {
				sig = append(append(sig, line[1:]...), '\n')
			} else {
				payload = append(payload, whole...)
			}
			continue
		}
		key, value, _ := bytes.Cut(line, []byte{' '})
		if in = string(key) == "gpgsig"; in {
			if at < len(head) {
				return nil, nil, refuse("", "it is no sound commit: its signature stands among its first fields")
			}
			count++
			sig = append(append(sig, value...), '\n')
			continue
		}
		if at, err = place(string(key), at); err != nil {
			return nil, nil, err
		}
		payload = append(payload, whole...)
	}
	switch {
	case at < len(head):
		return nil, nil, refuse("", "it is no sound commit: fields are missing")
	case bytes.IndexByte(payload, 0) >= 0:
		return nil, nil, refuse("", "it is no sound commit: there is a zero byte in its fields")
	case count == 0:
		return nil, nil, refuse("", "it is not signed")
	case count > 1:
		return nil, nil, refuse("", "it has %d signatures, and must have one", count)
	case len(sig) > maxSignature:
		return nil, nil, refuse("", "its signature is longer than %d bytes", maxSignature)
	}
	return append(payload, rest...), sig, nil
}

// place checks that the first fields come in their order, each but parent once,
// and that none comes later. It returns where the next one is.
func place(key string, at int) (int, error) {
	if strings.HasPrefix(key, "gpgsig") {
		return at, refuse("", "it has a signature of another kind (%.40q)", key)
	}
	i := slices.Index(head, key)
	switch {
	case i < 0 && at == len(head):
		return at, nil // encoding, mergetag and others
	case i < 0 || at == len(head):
		return at, refuse("", "it is no sound commit: the field %.40q is not where it belongs", key)
	case key == "parent" && at == 1:
		return at, nil
	case key == "author" && at == 1:
		return 3, nil
	case i == at:
		return at + 1, nil
	}
	return at, refuse("", "it is no sound commit: the field %.40q is not where it belongs", key)
}
