package serving

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"slices"
	"time"

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

const day = 24 * time.Hour

const (
	certificateLife = 90 * day
	authorityLife   = 3650 * day
	// backdate is how far the clock of a client may be behind.
	backdate = time.Hour
)

// issueAuthority makes a self-signed authority. Its name differs from that of every
// other authority, so that a verifier tries the right one.
func issueAuthority(now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	return sign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: fmt.Sprintf("connpool-live-ca@%d", now.Unix())},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:     true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}, nil, nil)
}

// issueCertificate makes a certificate for the names, each a DNS name or an IP
// address. The first is its common name.
func issueCertificate(now time.Time, names []string, authority *x509.Certificate, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: names[0]},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(certificateLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	leaf, leafKey, err := sign(template, authority, key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: leafKey, Leaf: leaf}, nil
}

// sign makes a key, and a certificate for it with a random serial number, signed by
// the parent. Without a parent the certificate is self-signed.
func sign(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, nil, fmt.Errorf("issue %s: %w", template.Subject.CommonName, err)
	}
	issued, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, fmt.Errorf("read back %s: %w", template.Subject.CommonName, err)
	}
	return issued, key, nil
}

// issuedAt returns when one of our certificates was issued.
func issuedAt(certificate *x509.Certificate) time.Time { return certificate.NotBefore.Add(backdate) }
