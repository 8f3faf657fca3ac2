package serving

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"slices"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// The keys of the Secret's data.
const (
	authoritiesKey  = "ca.crt"
	authorityKeyKey = "ca.key"
	certificateKey  = "tls.crt"
	privateKeyKey   = "tls.key"
)

// contents is what the Secret holds. What is missing or unreadable is zero.
type contents struct {
	// authorities are the trusted ones, the newest first. The newest signs, and is
	// the only one whose key is kept.
	authorities []*x509.Certificate
	signer      *ecdsa.PrivateKey
	// certificate is served; its Leaf is set.
	certificate *tls.Certificate
}

// readContents reads what it can from a Secret's data. The rest is lost, and renew
// replaces it.
func readContents(data map[string][]byte) contents {
	var c contents
	found, _ := certutil.ParseCertsPEM(data[authoritiesKey])
	c.authorities = slices.DeleteFunc(found, func(candidate *x509.Certificate) bool { return !candidate.IsCA })
	key, _ := keyutil.ParsePrivateKeyPEM(data[authorityKeyKey])
	if signer, ok := key.(*ecdsa.PrivateKey); ok && len(c.authorities) > 0 && signer.PublicKey.Equal(c.authorities[0].PublicKey) {
		c.signer = signer
	}
	if pair, err := tls.X509KeyPair(data[certificateKey], data[privateKeyKey]); err == nil {
		c.certificate = &pair
	}
	return c
}

// write puts complete contents into a Secret's data.
func (c contents) write(data map[string][]byte) error {
	authorityKey, err := keyutil.MarshalPrivateKeyToPEM(c.signer)
	if err != nil {
		return err
	}
	privateKey, err := keyutil.MarshalPrivateKeyToPEM(c.certificate.PrivateKey)
	if err != nil {
		return err
	}
	data[authoritiesKey], data[authorityKeyKey] = c.bundle(), authorityKey
	data[certificateKey], data[privateKeyKey] = encode(c.certificate.Leaf), privateKey
	return nil
}

// bundle returns the authorities in PEM.
func (c contents) bundle() []byte { return encode(c.authorities...) }

// encode writes certificates in PEM.
func encode(certificates ...*x509.Certificate) []byte {
	text, _ := certutil.EncodeCertificates(certificates...) // writing to memory does not fail
	return text
}

// signedByAny reports whether one of the authorities has signed the certificate.
func signedByAny(authorities []*x509.Certificate, certificate *x509.Certificate) bool {
	return slices.ContainsFunc(authorities, func(authority *x509.Certificate) bool {
		return certificate.CheckSignatureFrom(authority) == nil
	})
}
