package source

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Claim is a source on a persistent volume claim. No [Reader] reads it: only pods of a cluster reach a claim.
type Claim struct {
	Name string
	// Path is a file, a folder or a pattern on the volume, as files.Index.DigestSource takes it; "." is all of it.
	Path string
}

// IsClaim reports whether a dataset's source is on a claim.
func IsClaim(source string) bool { return strings.HasPrefix(source, schemePVC+"://") }

// claimName is what the API server takes as the name of a claim.
var claimName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// ParseClaim takes pvc://CLAIM/PATH apart. The namespace is not part of it: it is that of the block.
func ParseClaim(source string) (Claim, error) {
	a, err := parse(source)
	if err != nil {
		return Claim{}, err
	}
	if a.scheme != schemePVC {
		return Claim{}, fmt.Errorf("source %q is on no claim; write %s", source, forms[schemePVC])
	}
	return Claim{Name: a.host, Path: a.key}, nil
}

func parseClaim(rest string) (address, error) {
	a := address{text: schemePVC + "://" + rest, scheme: schemePVC}
	bad := func(err error) (address, error) {
		return address{}, fmt.Errorf("source %.200s: %w; write %s", a.text, err, forms[schemePVC])
	}
	a.host, a.key, _ = strings.Cut(rest, "/")
	if len(a.host) > 253 || !claimName.MatchString(a.host) {
		return bad(fmt.Errorf("%q is no name of a claim", a.host))
	}
	if strings.Contains(a.key, "?") {
		return bad(errors.New("a claim has no options, and a ? is no wildcard in an address: write *"))
	}
	a.key = strings.TrimSuffix(a.key, "/")
	if a.key == "" {
		a.key = "."
		return a, nil
	}
	if err := checkKey(a.key); err != nil {
		return bad(err)
	}
	return a, nil
}
