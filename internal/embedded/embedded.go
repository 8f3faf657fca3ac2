// Package embedded gives a program what it would otherwise read from the file system, so
// that an image needs nothing but the program: time zones, for schedules, and the
// certificate authorities that Mozilla trusts, for the API servers of kubeconfigs that
// name no authority. Where the file system has either of them, that one is used.
//
// Trade-off: a program calls Authorities before it needs them. To parse them all takes
// longer than everything else that the plugin does before its first request, and it seldom
// needs them.
package embedded

import (
	"crypto/x509"
	"sync"
	_ "time/tzdata" // used by time.LoadLocation

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// Authorities has crypto/x509 trust the embedded authorities in programs on a system
// without authorities of its own. Later calls do nothing.
var Authorities = sync.OnceFunc(func() { x509.SetFallbackRoots(mozilla()) })

func mozilla() *x509.CertPool {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		certificate, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			continue // one that this version of Go does not understand vouches for no server
		}
		if root.Constraint == nil {
			pool.AddCert(certificate)
		} else {
			pool.AddCertWithConstraint(certificate, root.Constraint)
		}
	}
	return pool
}
