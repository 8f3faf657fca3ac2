package serving

import (
	"crypto/x509"
	"slices"
	"time"
)

const (
	// reserve is how much of an authority's life must be left. It is much longer
	// than a certificate's, so that what an authority signs never outlives it.
	reserve = 365 * day
	// settle is how long a new authority is only believed, before it signs: until
	// then whoever verifies has learned of it.
	settle = day
	// jitter is the part of a certificate's life over which renewals are spread.
	jitter = certificateLife / 10
)

// renewal says why a new one is made, in words that follow "because"; empty means
// that none is.
type renewal struct {
	authority, certificate string
	// forgotten is how many authorities have nothing left to vouch for.
	forgotten int
}

func (r renewal) needed() bool { return r != renewal{} }

// renew returns what to have from now on instead of the present material.
func renew(now time.Time, present material, names []string) (material, renewal, error) {
	due := renewal{authority: whyAuthority(now, present)}
	due.certificate = whyCertificate(now, present, names, due.authority != "")
	next := present
	if due.authority != "" {
		authority, key, err := issueAuthority(now)
		if err != nil {
			return material{}, due, err
		}
		next.authorities = slices.Concat([]*x509.Certificate{authority}, present.authorities)
		next.signer = key
	}
	if due.certificate != "" {
		certificate, err := issueCertificate(now, names, next.authorities[0], next.signer)
		if err != nil {
			return material{}, due, err
		}
		next.certificate = certificate
	}
	believed := believed(now, next)
	due.forgotten = len(next.authorities) - len(believed)
	next.authorities = believed
	return next, due, nil
}

// whyAuthority decides about the authority that signs.
func whyAuthority(now time.Time, m material) string {
	switch {
	case m.signer == nil:
		return "there is none whose key is known"
	case now.Before(m.authorities[0].NotBefore):
		return "the present one is of the future"
	case m.authorities[0].NotAfter.Sub(now) < reserve:
		return "the last year of the present one has begun"
	}
	return ""
}

// whyCertificate decides about the certificate. A certificate that is merely old
// waits for an authority that is still new.
func whyCertificate(now time.Time, m material, names []string, newAuthority bool) string {
	if m.certificate == nil {
		return "there is none"
	}
	leaf := m.certificate.Leaf
	switch {
	case !vouches(m.authorities, leaf):
		return "no known authority vouches for the present one"
	case lacks(leaf, names):
		return "the present one lacks a name"
	case now.Before(leaf.NotBefore):
		return "the present one is of the future"
	case leaf.NotAfter.Sub(now) < settle:
		return "the last day of the present one has begun"
	case now.After(renewalTime(leaf)) && !newAuthority && now.Sub(issuedAt(m.authorities[0])) >= settle:
		return "two thirds of the present one's life are over"
	}
	return ""
}

func lacks(certificate *x509.Certificate, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return certificate.VerifyHostname(name) != nil })
}

// renewalTime is when two thirds of a certificate's life are over, or a little
// earlier. The serial number is random and decides how much, so that replicas
// agree, and installations that were made together do not.
func renewalTime(certificate *x509.Certificate) time.Time {
	serial := certificate.SerialNumber.Bits()
	early := time.Duration(0)
	if len(serial) > 0 {
		early = time.Duration(uint64(serial[0]) % uint64(jitter))
	}
	return issuedAt(certificate).Add(certificateLife*2/3 - early)
}

// believed are the authorities that are worth it: the one that signs, and each
// earlier one until what it has signed must have run out.
func believed(now time.Time, m material) []*x509.Certificate {
	kept := m.authorities[:1:1]
	for i, authority := range m.authorities[1:] {
		// From when its successor was there, it has signed no more.
		runsOut := issuedAt(m.authorities[i]).Add(settle + certificateLife)
		if now.Before(runsOut) || vouches([]*x509.Certificate{authority}, m.certificate.Leaf) {
			kept = append(kept, authority)
		}
	}
	return kept
}
