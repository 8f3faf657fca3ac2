package docker

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/keybounds"
)

// The keys of a Secret that this driver reads.
const (
	keyCA          = "ca.crt"
	keyCertificate = "tls.crt"
	keyPrivate     = "tls.key"
)

const maxSecretBytes = 64 << 10

// credentials prove the identity of the operator, and verify that of the engine.
type credentials struct {
	authorities *x509.CertPool
	certificate tls.Certificate
}

func invalid(format string, args ...any) *driver.Error {
	return driver.Errorf(driver.CredentialsInvalid, driver.StagePrepare, format, args...)
}

func parseCredentials(secret map[string][]byte, now time.Time) (*credentials, error) {
	if err := checkSecret(secret); err != nil {
		return nil, err
	}
	authorities, err := parseCertificates(secret, keyCA)
	if err != nil {
		return nil, err
	}
	c := &credentials{authorities: x509.NewCertPool()}
	for _, authority := range authorities {
		c.authorities.AddCert(authority)
	}
	chain, err := parseCertificates(secret, keyCertificate)
	if err != nil {
		return nil, err
	}
	if c.certificate, err = parsePair(secret); err != nil {
		return nil, err
	}
	c.certificate.Leaf = chain[0]
	if err := checkAuthorities(authorities, now); err != nil {
		return nil, err
	}
	return c, c.check(now)
}

func checkSecret(secret map[string][]byte) error {
	for _, key := range []string{keyCA, keyCertificate, keyPrivate} {
		value, ok := secret[key]
		switch {
		case !ok:
			return driver.Errorf(driver.CredentialsMissing, driver.StagePrepare,
				"the Secret lacks the key %s: an engine on TCP is reached with mutual TLS only; add ca.crt, tls.crt and tls.key", key)
		case len(bytes.TrimSpace(value)) == 0:
			return invalid("the Secret's key %s is empty; fill it", key)
		case len(value) > maxSecretBytes:
			return invalid("the Secret's key %s is larger than 64 KiB; it holds something else than it should", key)
		}
		if err := keybounds.CheckPEM(value); err != nil {
			return invalid("the Secret's key %s holds %s, which the operator does not use; replace it", key, err.Error()).Because(err)
		}
	}
	return nil
}

// parseCertificates returns at least one certificate, or an error.
func parseCertificates(secret map[string][]byte, key string) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	for block, rest := pem.Decode(secret[key]); block != nil; block, rest = pem.Decode(rest) {
		if strings.Contains(block.Type, "PRIVATE KEY") {
			return nil, invalid("the Secret's key %s holds a private key; put a certificate there", key)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, invalid("the Secret's key %s holds something that is not a certificate; copy the whole file again", key)
		}
		found = append(found, certificate)
	}
	if len(found) == 0 {
		return nil, invalid("the Secret's key %s holds no certificate in PEM format; copy the whole file again", key)
	}
	return found, nil
}

func parsePair(secret map[string][]byte) (tls.Certificate, error) {
	none := tls.Certificate{}
	block, _ := pem.Decode(secret[keyPrivate])
	switch {
	case block == nil:
		return none, invalid("the Secret's key tls.key holds no private key in PEM format; copy the whole file again")
	case !strings.Contains(block.Type, "PRIVATE KEY") && !strings.Contains(block.Type, "PARAMETERS"):
		return none, invalid("the Secret's key tls.key holds a %s; put the private key of tls.crt there",
			strings.ToLower(driver.Sanitize(block.Type)))
	case strings.Contains(block.Type, "ENCRYPTED"), block.Headers["DEK-Info"] != "":
		return none, invalid("the Secret's key tls.key is encrypted; store it without a passphrase")
	}
	pair, err := tls.X509KeyPair(secret[keyCertificate], secret[keyPrivate])
	if err == nil {
		return pair, nil
	}
	if strings.Contains(err.Error(), "does not match") {
		return none, invalid("the Secret's keys tls.key and tls.crt do not belong together; replace both")
	}
	return none, invalid("the Secret's key tls.key cannot be read as a private key, it may be cut off; copy the whole file again")
}

// checkAuthorities returns an error if all authorities have expired. A bundle may hold
// some that have.
func checkAuthorities(authorities []*x509.Certificate, now time.Time) error {
	expired := func(authority *x509.Certificate) bool { return now.After(authority.NotAfter) }
	if slices.ContainsFunc(authorities, func(a *x509.Certificate) bool { return !expired(a) }) {
		return nil
	}
	return outdated("the Secret's key ca.crt holds an authority that expired on %s; replace it", formatDate(authorities[0].NotAfter))
}

func outdated(format string, args ...any) *driver.Error {
	return driver.Errorf(driver.CertificateInvalid, driver.StagePrepare, format, args...)
}

func (c *credentials) check(now time.Time) error {
	leaf := c.certificate.Leaf
	switch {
	case now.After(leaf.NotAfter):
		return outdated("the Secret's key tls.crt holds a certificate that expired on %s; renew it", formatDate(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return outdated("the Secret's key tls.crt holds a certificate that is not valid before %s; check the clocks, or wait",
			formatDate(leaf.NotBefore))
	case !forClients(leaf):
		return invalid("the Secret's key tls.crt holds a certificate that is not for clients; " +
			"issue one with the extended key usage clientAuth")
	}
	return nil
}

func forClients(leaf *x509.Certificate) bool {
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.ContainsFunc(leaf.ExtKeyUsage, func(usage x509.ExtKeyUsage) bool {
		return usage == x509.ExtKeyUsageClientAuth || usage == x509.ExtKeyUsageAny
	})
}

func formatDate(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// config returns a TLS configuration that trusts only the Secret's authorities.
func (c *credentials) config(address string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, driver.Errorf(driver.ProtocolError, driver.StagePrepare,
			"%s is not a host and a port; write the endpoint as tcp://host:2376", driver.Sanitize(address))
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: host,
		RootCAs: c.authorities, Certificates: []tls.Certificate{c.certificate},
		NextProtos: []string{"http/1.1"},
	}, nil
}

func (c *credentials) describe() string {
	leaf := c.certificate.Leaf
	return fmt.Sprintf("the certificate of %q, valid until %s", leaf.Subject.CommonName, formatDate(leaf.NotAfter))
}
