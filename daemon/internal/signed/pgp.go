package signed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

var pgpBegin = []byte("-----BEGIN PGP ")

// ParsePGP reads armored public keys, as gpg --armor --export writes them. A file
// may hold several blocks.
func ParsePGP(raw []byte) (*Keys, error) {
	k := &Keys{}
	for at := bytes.Index(raw, pgpBegin); at >= 0; {
		block := raw[at:]
		next := bytes.Index(block[len(pgpBegin):], pgpBegin)
		if next >= 0 {
			block = block[:len(pgpBegin)+next]
		}
		list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(block))
		if err != nil {
			return nil, fmt.Errorf("read PGP keys: %w; gpg --armor --export writes them", err)
		}
		k.pgp = append(k.pgp, list...)
		if len(k.pgp) > MaxKeys {
			return nil, fmt.Errorf("read PGP keys: more than %d", MaxKeys)
		}
		if next < 0 {
			break
		}
		at += len(pgpBegin) + next
	}
	for _, e := range k.pgp {
		if e.PrivateKey != nil {
			return nil, fmt.Errorf("read PGP keys: %X is a private key; only public ones belong here", e.PrimaryKey.Fingerprint)
		}
	}
	if len(k.pgp) == 0 {
		return nil, errors.New("read PGP keys: there is no armored public key; gpg --armor --export writes one")
	}
	return k, nil
}

// pgpName is a key as people know it.
func pgpName(e *openpgp.Entity) string {
	name := ""
	if id := e.PrimaryIdentity(); id != nil {
		name = id.Name + ", "
	} else if ids := slices.Sorted(maps.Keys(e.Identities)); len(ids) > 0 {
		name = ids[0] + ", "
	}
	return fmt.Sprintf("%sPGP key %X", name, e.PrimaryKey.Fingerprint)
}

func (k *Keys) checkPGP(payload, armored []byte, now time.Time) (string, error) {
	body, id, err := onePacket(armored)
	if err != nil {
		return "", err
	}
	claimed := fmt.Sprintf("PGP key %016X", id)
	// A key may be there more than once: as it was, and as it was revoked or prolonged.
	var good, bad string
	var why error
	for _, e := range k.pgp {
		if !holds(e, id) {
			continue
		}
		_, err := openpgp.CheckDetachedSignature(openpgp.EntityList{e}, bytes.NewReader(payload), bytes.NewReader(body), &packet.Config{Time: func() time.Time { return now }})
		switch {
		case errors.Is(err, pgperrors.ErrKeyRevoked): // whatever another copy says
			return "", refuse(pgpName(e), "its key is revoked")
		case err == nil:
			good = pgpName(e)
		default:
			bad, why = pgpName(e), err
		}
	}
	switch {
	case good != "":
		return good, nil
	case bad == "":
		return "", refuse(claimed, "its key is none of the signers'")
	case errors.Is(why, pgperrors.ErrKeyExpired):
		return "", refuse(bad, "its key has expired")
	case errors.Is(why, pgperrors.ErrSignatureExpired):
		return "", refuse(bad, "its signature has expired, or is of a time to come")
	case errors.Is(why, pgperrors.ErrUnknownIssuer):
		return "", refuse(bad, "its key may not sign")
	}
	return "", refuse(bad, "its signature does not fit: %s", why)
}

// holds says whether an entity has a key, its own or a subkey, of that id.
func holds(e *openpgp.Entity, id uint64) bool {
	return e.PrimaryKey.KeyId == id || slices.ContainsFunc(e.Subkeys, func(s openpgp.Subkey) bool { return s.PublicKey.KeyId == id })
}

// onePacket takes off the armor. There must be one signature, over bytes as they
// are: one over text would be as good for other line ends.
func onePacket(armored []byte) (body []byte, issuer uint64, err error) {
	block, err := armor.Decode(bytes.NewReader(armored))
	if err == nil {
		body, err = io.ReadAll(block.Body)
	}
	if err != nil {
		return nil, 0, refuse("", "its signature cannot be read: %s", err)
	}
	packets := packet.NewReader(bytes.NewReader(body))
	p, err := packets.Next()
	if err != nil {
		return nil, 0, refuse("", "its signature cannot be read: %s", err)
	}
	sig, ok := p.(*packet.Signature)
	switch {
	case !ok || sig.IssuerKeyId == nil:
		return nil, 0, refuse("", "its signature names no key")
	case sig.SigType != packet.SigTypeBinary:
		return nil, 0, refuse("", "its signature is not one over the bytes of the commit")
	}
	if _, err := packets.Next(); !errors.Is(err, io.EOF) {
		return nil, 0, refuse("", "it has several signatures, and must have one")
	}
	return body, *sig.IssuerKeyId, nil
}
