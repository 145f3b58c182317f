package signed

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// namespace is what git signs under, so that a signature of a file is none of a commit.
const namespace = "git"

// minRSA is the shortest RSA key that counts, in bits.
const minRSA = 2048

// sshSigner is one line of an allowed_signers file.
type sshSigner struct {
	principals string
	key        ssh.PublicKey
	namespaces []string // patterns; none = any
	from, till time.Time
}

func (s sshSigner) name() string { return s.principals + ", ssh key " + ssh.FingerprintSHA256(s.key) }

// ParseSSH reads an allowed_signers file of ssh-keygen, with the options
// namespaces, valid-after and valid-before. Certificate authorities are an error:
// there is no list here of what they have taken back.
func ParseSSH(raw []byte) (*Keys, error) {
	k := &Keys{}
	for i, line := range strings.Split(string(raw), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		s, err := parseSigner(line)
		if err != nil {
			return nil, fmt.Errorf("read ssh signers: line %d: %w", i+1, err)
		}
		if k.ssh = append(k.ssh, s); len(k.ssh) > MaxKeys {
			return nil, fmt.Errorf("read ssh signers: more than %d", MaxKeys)
		}
	}
	if len(k.ssh) == 0 {
		return nil, errors.New("read ssh signers: there is none; a line is: NAME KEYTYPE KEY")
	}
	return k, nil
}

func parseSigner(line string) (sshSigner, error) {
	at := strings.IndexAny(line, " \t")
	if at < 0 || line[0] == '"' {
		return sshSigner{}, errors.New("it is not NAME [OPTIONS] KEYTYPE KEY, with a name without quotes")
	}
	s := sshSigner{principals: line[:at]}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line[at:]))
	if err != nil {
		return s, fmt.Errorf("it is not NAME [OPTIONS] KEYTYPE KEY: %w", err)
	}
	if s.key = key; isWeak(key) {
		return s, fmt.Errorf("a %s key is not taken, or not of this length: use ed25519, ecdsa, or RSA of %d bits and more", key.Type(), minRSA)
	}
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		value = strings.Trim(value, `"`)
		switch strings.ToLower(name) {
		case "namespaces":
			s.namespaces = strings.Split(value, ",")
		case "valid-after":
			s.from, err = sshTime(value)
		case "valid-before":
			s.till, err = sshTime(value)
		case "cert-authority":
			err = errors.New("certificate authorities are not supported: name the keys themselves")
		default:
			err = fmt.Errorf("the option %.40q is not known", name)
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// isWeak says whether a key is none that ssh-keygen would sign with today, or a
// certificate, which only an authority could vouch for.
func isWeak(key ssh.PublicKey) bool {
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKECDSA256:
		return false
	case ssh.KeyAlgoRSA:
		if c, ok := key.(ssh.CryptoPublicKey); ok {
			if r, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok {
				return r.N.BitLen() < minRSA
			}
		}
	}
	return true
}

// sshTime reads YYYYMMDD[HHMM[SS]], of this machine's zone unless Z follows.
func sshTime(text string) (time.Time, error) {
	digits, zone := text, time.Local
	if d, ok := strings.CutSuffix(strings.ToUpper(text), "Z"); ok {
		digits, zone = d, time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(digits) == len(layout) {
			return time.ParseInLocation(layout, digits, zone)
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is no time: write YYYYMMDD or YYYYMMDDHHMM, and Z for UTC", text)
}

func (k *Keys) checkSSH(payload, armored []byte, now time.Time) (string, error) {
	sig, err := sshsig.Unarmor(armored)
	if err != nil {
		return "", refuse("", "its signature cannot be read: %s", err)
	}
	claimed := "ssh key " + ssh.FingerprintSHA256(sig.PublicKey)
	if sig.Namespace != namespace {
		return "", refuse(claimed, "its signature is one of %.40q and not of git", sig.Namespace)
	}
	why := refuse(claimed, "its key is none of the signers'")
	for _, s := range k.ssh {
		if !bytes.Equal(s.key.Marshal(), sig.PublicKey.Marshal()) {
			continue
		}
		if err := sshsig.Verify(bytes.NewReader(payload), sig, s.key, sig.HashAlgorithm, namespace); err != nil {
			return "", refuse(s.name(), "its signature does not fit: %s", err)
		}
		switch {
		case !s.mayUse(namespace):
			why = refuse(s.name(), "its key is not for git (namespaces)")
		case !s.from.IsZero() && now.Before(s.from):
			why = refuse(s.name(), "its key is not valid yet (valid-after)")
		case !s.till.IsZero() && !now.Before(s.till):
			why = refuse(s.name(), "its key has expired (valid-before)")
		default:
			return s.name(), nil
		}
	}
	return "", why
}

// mayUse matches a namespace with the patterns of the line; ! takes one away.
func (s sshSigner) mayUse(name string) bool {
	if len(s.namespaces) == 0 {
		return true
	}
	may := false
	for _, p := range s.namespaces {
		pattern, not := strings.CutPrefix(strings.TrimSpace(p), "!")
		if ok, err := path.Match(strings.ReplaceAll(pattern, "[", `\[`), name); err != nil || !ok {
			continue
		}
		if not {
			return false
		}
		may = true
	}
	return may
}
