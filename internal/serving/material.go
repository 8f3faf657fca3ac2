package serving

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// What the Secret's keys are called.
const (
	authoritiesKey  = "ca.crt"
	authorityKeyKey = "ca.key"
	certificateKey  = "tls.crt"
	privateKeyKey   = "tls.key"
)

// material is what the Secret holds. What is missing or unreadable is zero.
type material struct {
	// authorities are those to believe, the newest first: it is the one that
	// signs, and the only one whose key is kept.
	authorities []*x509.Certificate
	signer      *ecdsa.PrivateKey
	// certificate is served; its Leaf is set.
	certificate *tls.Certificate
}

// readMaterial takes what is of use. The rest is as good as lost, and made anew.
func readMaterial(data map[string][]byte) material {
	var m material
	found, _ := certutil.ParseCertsPEM(data[authoritiesKey])
	for _, candidate := range found {
		if candidate.IsCA {
			m.authorities = append(m.authorities, candidate)
		}
	}
	key, _ := keyutil.ParsePrivateKeyPEM(data[authorityKeyKey])
	if signer, ok := key.(*ecdsa.PrivateKey); ok && len(m.authorities) > 0 && signer.PublicKey.Equal(m.authorities[0].PublicKey) {
		m.signer = signer
	}
	if pair, err := tls.X509KeyPair(data[certificateKey], data[privateKeyKey]); err == nil {
		m.certificate = &pair
	}
	return m
}

// write puts a complete material into a Secret's data.
func (m material) write(data map[string][]byte) error {
	authorityKey, err := keyutil.MarshalPrivateKeyToPEM(m.signer)
	if err != nil {
		return err
	}
	privateKey, err := keyutil.MarshalPrivateKeyToPEM(m.certificate.PrivateKey)
	if err != nil {
		return err
	}
	data[authoritiesKey], data[authorityKeyKey] = m.bundle(), authorityKey
	data[certificateKey], data[privateKeyKey] = encode(m.certificate.Leaf), privateKey
	return nil
}

// bundle is the authorities in PEM.
func (m material) bundle() []byte { return encode(m.authorities...) }

// vouches tells whether one of the authorities has signed the certificate.
func vouches(authorities []*x509.Certificate, certificate *x509.Certificate) bool {
	for _, authority := range authorities {
		if certificate.CheckSignatureFrom(authority) == nil {
			return true
		}
	}
	return false
}

// encode writes certificates in PEM.
func encode(certificates ...*x509.Certificate) []byte {
	var text bytes.Buffer
	for _, certificate := range certificates {
		data, err := certutil.EncodeCertificates(certificate)
		if err != nil {
			panic(err) // writing to memory does not fail
		}
		text.Write(data)
	}
	return text.Bytes()
}
