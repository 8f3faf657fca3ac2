package dockerd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// Authority issues certificates.
type Authority struct {
	// Certificate is its own; PEM.
	Certificate []byte

	parsed *x509.Certificate
	key    *ecdsa.PrivateKey
}

// NewAuthority makes an authority.
func NewAuthority(name string) (*Authority, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	complete(template)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the authority %s: %w", name, err)
	}
	parsed, err := x509.ParseCertificate(der)
	return &Authority{Certificate: encode("CERTIFICATE", der), parsed: parsed, key: key}, err
}

// Issue makes a certificate and its key, in PEM, from a template. It is valid from an
// hour ago until tomorrow unless the template says otherwise.
func (a *Authority) Issue(template *x509.Certificate) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	complete(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.parsed, private.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("issue a certificate for %s: %w", template.Subject.CommonName, err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", pkcs8), err
}

func complete(template *x509.Certificate) {
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// ServerTemplate is a certificate for servers on this machine's loopback.
func ServerTemplate() *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: "dockerd"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
}

// ClientTemplate is a certificate for a client.
func ClientTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

// writeKeys makes all keys and writes those that the engine reads.
func (e *Engine) writeKeys() (err error) {
	if e.Authority, err = NewAuthority("connpool test engines"); err != nil {
		return err
	}
	e.CA = e.Authority.Certificate
	if e.Cert, e.Key, err = e.Authority.Issue(ClientTemplate("connpool")); err != nil {
		return err
	}
	template := ServerTemplate()
	if host, _, err := net.SplitHostPort(e.TCP); err == nil && net.ParseIP(host) != nil {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(host))
	}
	cert, key, err := e.Authority.Issue(template)
	return errors.Join(err,
		os.WriteFile(e.path("ca.crt"), e.CA, 0o600),
		os.WriteFile(e.path("server.crt"), cert, 0o600),
		os.WriteFile(e.path("server.key"), key, 0o600),
		os.WriteFile(e.path("daemon.json"), []byte("{}"), 0o600), // not this machine's
	)
}
