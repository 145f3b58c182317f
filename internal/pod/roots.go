package pod

import (
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// trustRoots has the program trust Mozilla's certificate authorities where the system names none: it runs in the user's image, and a
// slim one has no list. It is for the beginning of a process, once.
func trustRoots() error {
	pool := x509.NewCertPool()
	for r := range bundle.Roots() {
		c, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return fmt.Errorf("read the list of certificate authorities: %w", err)
		}
		if r.Constraint == nil {
			pool.AddCert(c)
		} else {
			pool.AddCertWithConstraint(c, r.Constraint)
		}
	}
	x509.SetFallbackRoots(pool)
	return nil
}
