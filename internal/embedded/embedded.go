// Package embedded gives a program that imports it what it would otherwise read from
// the file system, so that an image needs nothing but the program: time zones, for
// schedules, and the certificate authorities that Mozilla trusts, for the API servers
// of kubeconfigs that name no authority. Where the file system has either of them, that
// one is used.
package embedded

import (
	_ "time/tzdata" // used by time.LoadLocation

	// Used by crypto/x509.
	_ "golang.org/x/crypto/x509roots/fallback"
)
