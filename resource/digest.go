package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"sort"
	"strings"
)

// Digest is a content address, "sha256:" and 64 lower case hex digits; "" means none.
type Digest string

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// DigestOfHex adds the algorithm to a bare hex SHA-256, as sha256sum prints it.
func DigestOfHex(h string) Digest { return Digest("sha256:" + h) }

// Hex is the digest without its algorithm.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), "sha256:") }

// Short is the digest as plans show it: the algorithm and seven digits.
func (d Digest) Short() string {
	if h := d.Hex(); len(h) > 7 {
		return "sha256:" + h[:7] + "…"
	}
	return string(d)
}

// Parts are what a run depends on, one entry per path: `command`, `code`,
// `inputs.train`, `params.epochs`. Values are digests or canonical JSON;
// sensitive ones are keyed hashes. Parts are compared one by one to say which
// input moved, and together, as one digest, to say whether any did.
type Parts map[string]string

// Digest is one digest over all parts, independent of map order.
func (p Parts) Digest() Digest {
	h := sha256.New()
	var lengths [16]byte
	for _, k := range p.Paths() {
		writeLength(lengths[:8], len(k))
		writeLength(lengths[8:], len(p[k]))
		h.Write(lengths[:])
		h.Write([]byte(k))
		h.Write([]byte(p[k]))
	}
	return Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
}

// Paths lists the parts' paths, sorted.
func (p Parts) Paths() []string {
	paths := make([]string, 0, len(p))
	for k := range p {
		paths = append(paths, k)
	}
	sort.Strings(paths)
	return paths
}

func writeLength(b []byte, n int) {
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
}
