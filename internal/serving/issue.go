package serving

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"time"
)

const day = 24 * time.Hour

const (
	certificateLife = 90 * day
	authorityLife   = 3650 * day
	// backdate is how far the clock of a client may be behind.
	backdate = time.Hour
)

// serialBits is the length of a serial number. It is random, because a serial number
// must not be predictable.
const serialBits = 127

// issueAuthority makes a self-signed authority. Its name differs from that of every
// other authority, so that a verifier tries the right one.
func issueAuthority(now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	template, err := newTemplate(now, authorityLife)
	if err != nil {
		return nil, nil, err
	}
	template.Subject = pkix.Name{CommonName: fmt.Sprintf("connpool-live-ca@%d", now.Unix())}
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	return sign(template, nil, nil)
}

// issueCertificate makes a certificate for the names, each a DNS name or an IP
// address. The first is its common name.
func issueCertificate(now time.Time, names []string, authority *x509.Certificate, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	template, err := newTemplate(now, certificateLife)
	if err != nil {
		return nil, err
	}
	template.Subject = pkix.Name{CommonName: names[0]}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
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

func newTemplate(now time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), serialBits))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	return &x509.Certificate{SerialNumber: serial, NotBefore: now.Add(-backdate), NotAfter: now.Add(life)}, nil
}

// sign makes a key and a certificate for it, signed by the parent. Without a parent
// the certificate is self-signed.
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
