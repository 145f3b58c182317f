package signed

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const body = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n" +
	"parent 1111111111111111111111111111111111111111\n" +
	"author Ada <ada@example.org> 1772366400 +0000\n" +
	"committer Ada <ada@example.org> 1772366400 +0000\n"

const message = "\na change\n\ngpgsig is but a word here\n"

// signedBy is the commit with a signature as git lays it down.
func signedBy(sig string) string {
	return body + header("gpgsig", sig) + message
}

func header(name, sig string) string {
	return name + " " + strings.ReplaceAll(strings.TrimRight(sig, "\n"), "\n", "\n ") + "\n"
}

func pgpKey(t *testing.T, name string, life time.Duration) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", name+"@example.org", &packet.Config{
		Time: func() time.Time { return noon.Add(-time.Hour) }, KeyLifetimeSecs: uint32(life.Seconds()), Algorithm: packet.PubKeyAlgoEdDSA,
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func public(t *testing.T, list ...*openpgp.Entity) string {
	t.Helper()
	var out strings.Builder
	for _, e := range list {
		var b bytes.Buffer
		w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
		if err == nil {
			err = e.Serialize(w)
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		out.WriteString(b.String() + "\n")
	}
	return out.String()
}

func pgpSign(t *testing.T, e *openpgp.Entity, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&b, e, strings.NewReader(text), &packet.Config{Time: func() time.Time { return noon.Add(-45 * time.Minute) }}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func sshKey(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sshSign(t *testing.T, s ssh.Signer, text, namespace string) string {
	t.Helper()
	sig, err := sshsig.Sign(strings.NewReader(text), s, sshsig.HashSHA512, namespace)
	if err != nil {
		t.Fatal(err)
	}
	return string(sshsig.Armor(sig))
}

func line(options string, s ssh.Signer) string {
	return strings.TrimSpace("ada@example.org "+options) + " " + string(ssh.MarshalAuthorizedKey(s.PublicKey()))
}

func keysOf(t *testing.T, pgp, allowed string) *Keys {
	t.Helper()
	all := &Keys{}
	if pgp != "" {
		k, err := ParsePGP([]byte(pgp))
		if err != nil {
			t.Fatal(err)
		}
		all = Join(all, k)
	}
	if allowed != "" {
		k, err := ParseSSH([]byte(allowed))
		if err != nil {
			t.Fatal(err)
		}
		all = Join(all, k)
	}
	return all
}

func TestASignatureOfAKnownKeyCounts(t *testing.T) {
	ada, bob, key := pgpKey(t, "Ada", 0), pgpKey(t, "Bob", 0), sshKey(t)
	// The second block of a file counts as the first does.
	keys := keysOf(t, public(t, bob, ada), "# people\n"+line("", key))
	if keys.Len() != 3 {
		t.Fatalf("%d keys", keys.Len())
	}
	for name, c := range map[string]struct{ commit, by string }{
		"pgp": {signedBy(pgpSign(t, ada, body+message)), "Ada <Ada@example.org>, PGP key "},
		"ssh": {signedBy(sshSign(t, key, body+message, "git")), "ada@example.org, ssh key SHA256:"},
		"other fields beside it": {
			body + "encoding latin1\n" + header("gpgsig", pgpSign(t, ada, body+"encoding latin1\nmergetag object x\n type commit\n"+message)) + "mergetag object x\n type commit\n" + message, "Ada",
		},
	} {
		if by, err := keys.Check([]byte(c.commit), noon); err != nil || !strings.HasPrefix(by, c.by) {
			t.Errorf("%s: %q, %v", name, by, err)
		}
	}
}

func TestWhatIsNotSignedByAKnownKeyIsRefused(t *testing.T) {
	ada, eve, old, gone := pgpKey(t, "Ada", 0), pgpKey(t, "Eve", 0), pgpKey(t, "Old", time.Hour/2), pgpKey(t, "Gone", 0)
	before := public(t, gone)
	if err := gone.RevokeKey(packet.KeySuperseded, "lost", &packet.Config{Time: func() time.Time { return noon.Add(-time.Minute) }}); err != nil {
		t.Fatal(err)
	}
	key, foreign, early, late, files := sshKey(t), sshKey(t), sshKey(t), sshKey(t), sshKey(t)
	// The revoked key is there as it was, too, before and after it.
	keys := keysOf(t, before+public(t, ada, old, gone)+before, line("", key)+
		line(`valid-after="20260401Z"`, early)+line(`valid-before="202603011200Z"`, late)+line(`namespaces="file,!git,g*"`, files))
	good := pgpSign(t, ada, body+message)
	sshGood := sshSign(t, key, body+message, "git")
	text := func() string {
		var b bytes.Buffer
		if err := openpgp.ArmoredDetachSignText(&b, ada, strings.NewReader(body+message), &packet.Config{Time: func() time.Time { return noon }}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}()
	for name, c := range map[string]struct{ commit, says string }{
		"no signature":                          {body + message, "not signed"},
		"one in the message only":               {body + "\n" + header("gpgsig", good) + message, "not signed"},
		"an unknown PGP key":                    {signedBy(pgpSign(t, eve, body+message)), "none of the signers'"},
		"an unknown ssh key":                    {signedBy(sshSign(t, foreign, body+message, "git")), "none of the signers'"},
		"an expired PGP key":                    {signedBy(pgpSign(t, old, body+message)), "has expired"},
		"a revoked PGP key":                     {signedBy(pgpSign(t, gone, body+message)), "is revoked"},
		"an ssh key before its time":            {signedBy(sshSign(t, early, body+message, "git")), "valid-after"},
		"an ssh key after its time":             {signedBy(sshSign(t, late, body+message, "git")), "valid-before"},
		"an ssh key for files":                  {signedBy(sshSign(t, files, body+message, "git")), "namespaces"},
		"an ssh signature of a file":            {signedBy(sshSign(t, key, body+message, "file")), `one of "file"`},
		"an amended message, PGP":               {body + header("gpgsig", good) + message + "more\n", "does not fit"},
		"an amended message, ssh":               {body + header("gpgsig", sshGood) + message + " ", "does not fit"},
		"another tree":                          {strings.Replace(signedBy(good), "tree 4b", "tree 5b", 1), "does not fit"},
		"a parent taken away":                   {strings.Replace(signedBy(sshGood), "parent 1111111111111111111111111111111111111111\n", "", 1), "does not fit"},
		"two signature fields":                  {body + header("gpgsig", good) + header("gpgsig", sshGood) + message, "2 signatures"},
		"a second field of no use":              {body + header("gpgsig", good) + "encoding x\ngpgsig y\n" + message, "2 signatures"},
		"two signatures in one field":           {signedBy(good + sshGood), "2 signatures"},
		"two packets in one armor":              {signedBy(twice(t, ada, eve)), "several signatures"},
		"a field gpgsig-sha256":                 {body + header("gpgsig", good) + header("gpgsig-sha256", good) + message, "another kind"},
		"the signature before the parents":      {strings.Replace(body, "parent", header("gpgsig", good)+"parent", 1) + message, "first fields"},
		"a parent after the committer":          {body + "parent 2222222222222222222222222222222222222222\n" + header("gpgsig", good) + message, "not where it belongs"},
		"a second tree":                         {body + "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n" + header("gpgsig", good) + message, "not where it belongs"},
		"no committer":                          {strings.SplitAfter(body, "\nparent")[0] + " x\n" + message, "fields are missing"},
		"a zero byte":                           {strings.Replace(signedBy(good), "Ada <", "Ada\x00 <", 1), "zero byte"},
		"a signature over text of any line end": {signedBy(text), "over the bytes"},
		"a signature of S/MIME":                 {signedBy("-----BEGIN SIGNED MESSAGE-----\nMIID\n-----END SIGNED MESSAGE-----\n"), "no kind that is known"},
		"a torn armor, PGP":                     {signedBy(good[:len(good)/2]), "cannot be read"},
		"a torn armor, ssh":                     {signedBy(sshGood[:len(sshGood)/2]), "cannot be read"},
		"an endless signature":                  {signedBy(good + strings.Repeat("x", maxSignature)), "longer than"},
		"a signature of a time to come":         {signedBy(later(t, ada)), "time to come"},
		"nothing":                               {"", "fields are missing"},
	} {
		by, err := keys.Check([]byte(c.commit), noon)
		var no *RefusedError
		if !errors.As(err, &no) || by != "" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q, %v; want %q", name, by, err, c.says)
		}
	}
}

// twice is one armor with two signatures, the first of a stranger.
func twice(t *testing.T, ada, eve *openpgp.Entity) string {
	t.Helper()
	var b, all bytes.Buffer
	for _, e := range []*openpgp.Entity{eve, ada} {
		if err := openpgp.DetachSign(&b, e, strings.NewReader(body+message), nil); err != nil {
			t.Fatal(err)
		}
	}
	w, err := armor.Encode(&all, openpgp.SignatureType, nil)
	if err == nil {
		_, err = w.Write(b.Bytes())
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func later(t *testing.T, e *openpgp.Entity) string {
	t.Helper()
	var b bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&b, e, strings.NewReader(body+message), &packet.Config{Time: func() time.Time { return noon.Add(time.Hour) }}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestSignersThatCannotBeTakenAreAnError(t *testing.T) {
	key := sshKey(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := ssh.NewSignerFromKey(crypto.Signer(small))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, says string }{
		"nothing":               {"# nobody\n", "there is none"},
		"an authority":          {line("cert-authority", key), "certificate authorities"},
		"an unknown option":     {line("restrict", key), "not known"},
		"a key without a name":  {string(ssh.MarshalAuthorizedKey(key.PublicKey())), "NAME [OPTIONS]"},
		"a broken time":         {line(`valid-after="soon"`, key), "is no time"},
		"a time of no calendar": {line(`valid-after="20261399"`, key), "month"},
		"a short key":           {line("", weak), "2048"},
		"a broken key":          {"ada ssh-ed25519 AAAA\n", "line 1"},
	} {
		if _, err := ParseSSH([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q", name, err, c.says)
		}
	}
	ada := pgpKey(t, "Ada", 0)
	var private bytes.Buffer
	w, err := armor.Encode(&private, openpgp.PrivateKeyType, nil)
	if err == nil {
		err = ada.SerializePrivate(w, nil)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, says string }{
		"nothing":       {"hello", "no armored public key"},
		"a private key": {private.String(), "private key"},
		"a torn one":    {public(t, ada) + public(t, ada)[:200], "read PGP keys"},
	} {
		if _, err := ParsePGP([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %q", name, err, c.says)
		}
	}
}

// FuzzCheck holds that no commit brings the check down, and that none is taken
// whose signed bytes are not those that were signed.
func FuzzCheck(f *testing.F) {
	t := &testing.T{}
	ada, key := pgpKey(t, "Ada", 0), sshKey(t)
	pgp, err := ParsePGP([]byte(public(t, ada)))
	if err != nil {
		f.Fatal(err)
	}
	allowed, err := ParseSSH([]byte(line("", key)))
	if err != nil {
		f.Fatal(err)
	}
	keys := Join(pgp, allowed)
	f.Add([]byte(signedBy(pgpSign(t, ada, body+message))))
	f.Add([]byte(signedBy(sshSign(t, key, body+message, "git"))))
	f.Add([]byte(body + message))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := keys.Check(raw, noon); err != nil {
			return
		}
		payload, _, err := split(raw)
		if err != nil || string(payload) != body+message {
			t.Fatalf("taken: %q", raw)
		}
	})
}
