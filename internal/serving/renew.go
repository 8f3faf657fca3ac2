package serving

import (
	"crypto/x509"
	"math/big"
	"slices"
	"time"
)

const (
	// reserve is how much of an authority's life must be left. It is much longer
	// than a certificate's, so that what an authority signs never outlives it.
	reserve = 365 * day
	// leadTime is how long a new authority is trusted before it signs. In that time
	// every client learns of it.
	leadTime = day
	// jitter is the part of a certificate's life over which renewals are spread.
	jitter = certificateLife / 10
)

// renewal says what changes.
type renewal struct {
	// authority and certificate say why a new one is made, in words that follow
	// "because"; empty means that none is made.
	authority, certificate string
	// forgotten is how many authorities leave the bundle, because nothing that they
	// have signed is valid any more.
	forgotten int
}

func (r renewal) needed() bool { return r != renewal{} }

// renew returns the contents that the Secret must have now, and why they differ
// from the present ones. It does not change the present ones.
func renew(now time.Time, present contents, names []string) (contents, renewal, error) {
	due := renewal{authority: newAuthorityReason(now, present)}
	due.certificate = newCertificateReason(now, present, names, due.authority != "")
	next := present
	if due.authority != "" {
		authority, key, err := issueAuthority(now)
		if err != nil {
			return contents{}, due, err
		}
		next.authorities = slices.Concat([]*x509.Certificate{authority}, present.authorities)
		next.signer = key
	}
	if due.certificate != "" {
		certificate, err := issueCertificate(now, names, next.authorities[0], next.signer)
		if err != nil {
			return contents{}, due, err
		}
		next.certificate = certificate
	}
	kept := trusted(now, next)
	due.forgotten = len(next.authorities) - len(kept)
	next.authorities = kept
	return next, due, nil
}

// newAuthorityReason says why another authority must sign from now on; empty means
// that the present one goes on.
func newAuthorityReason(now time.Time, c contents) string {
	switch {
	case c.signer == nil:
		return "there is none whose key is known"
	case now.Before(c.authorities[0].NotBefore):
		return "the present one is of the future"
	case c.authorities[0].NotAfter.Sub(now) < reserve:
		return "the last year of the present one has begun"
	}
	return ""
}

// newCertificateReason says why another certificate must be issued; empty means that
// the present one stays. When the authority is new, a certificate that is merely old
// stays until clients have learned of the authority.
func newCertificateReason(now time.Time, c contents, names []string, newAuthority bool) string {
	if c.certificate == nil {
		return "there is none"
	}
	leaf := c.certificate.Leaf
	switch {
	case !signedByAny(c.authorities, leaf):
		return "no known authority has signed the present one"
	case lacksName(leaf, names):
		return "the present one lacks a name"
	case now.Before(leaf.NotBefore):
		return "the present one is of the future"
	case leaf.NotAfter.Sub(now) < leadTime:
		return "the last day of the present one has begun"
	case now.After(renewalTime(leaf)) && !newAuthority && now.Sub(issuedAt(c.authorities[0])) >= leadTime:
		return "two thirds of the present one's life are over"
	}
	return ""
}

// lacksName reports whether the certificate is not good for one of the names.
func lacksName(certificate *x509.Certificate, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return certificate.VerifyHostname(name) != nil })
}

// renewalTime returns when two thirds of a certificate's life are over, or a little
// earlier. The serial number, which is random, decides how much earlier. So replicas
// agree on the time, and installations that were made together do not renew at once.
func renewalTime(certificate *x509.Certificate) time.Time {
	early := new(big.Int).Mod(certificate.SerialNumber, big.NewInt(int64(jitter)))
	return issuedAt(certificate).Add(certificateLife*2/3 - time.Duration(early.Int64()))
}

// trusted returns the authorities that stay in the bundle: the one that signs, and
// each earlier one until all that it has signed has run out.
func trusted(now time.Time, c contents) []*x509.Certificate {
	kept := c.authorities[:1:1]
	for i, authority := range c.authorities[1:] {
		// It has signed nothing since its successor was issued.
		runsOut := issuedAt(c.authorities[i]).Add(leadTime + certificateLife)
		if now.Before(runsOut) || signedByAny([]*x509.Certificate{authority}, c.certificate.Leaf) {
			kept = append(kept, authority)
		}
	}
	return kept
}
