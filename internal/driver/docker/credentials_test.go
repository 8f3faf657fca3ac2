package docker

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/dockerd"
)

func newAuthority(t *testing.T) *dockerd.Authority {
	t.Helper()
	authority, err := dockerd.NewAuthority("authority")
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func issue(t *testing.T, authority *dockerd.Authority, template *x509.Certificate) (cert, key []byte) {
	t.Helper()
	cert, key, err := authority.Issue(template)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// secretOf returns a Secret that is accepted.
func secretOf(t *testing.T, authority *dockerd.Authority) map[string][]byte {
	t.Helper()
	cert, key := issue(t, authority, dockerd.ClientTemplate("client"))
	return map[string][]byte{"ca.crt": authority.Certificate, "tls.crt": cert, "tls.key": key}
}

func clientTemplate(change func(*x509.Certificate)) *x509.Certificate {
	template := dockerd.ClientTemplate("client")
	change(template)
	return template
}

func wantError(t *testing.T, err error, reason driver.Reason, stage driver.Stage) *driver.Error {
	t.Helper()
	var got *driver.Error
	if !errors.As(err, &got) {
		t.Fatalf("error %v, want %s", err, reason)
	}
	if got.Reason != reason || got.Stage != stage {
		t.Errorf("%s at %q (%s; %v), want %s at %q", got.Reason, got.Stage, got.Message, got.Err, reason, stage)
	}
	if got.Message != driver.Sanitize(got.Message) && len(got.Message) < 256 {
		t.Errorf("the message is not plain: %q", got.Message)
	}
	return got
}

func TestCredentialsAreCheckedWithoutIO(t *testing.T) {
	authority := newAuthority(t)
	good := secretOf(t, authority)
	with := func(key string, value []byte) map[string][]byte {
		secret := maps.Clone(good)
		secret[key] = value
		return secret
	}
	without := func(key string) map[string][]byte {
		secret := maps.Clone(good)
		delete(secret, key)
		return secret
	}
	issued := func(change func(*x509.Certificate)) map[string][]byte {
		cert, key := issue(t, authority, clientTemplate(change))
		return map[string][]byte{"ca.crt": authority.Certificate, "tls.crt": cert, "tls.key": key}
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	//nolint:staticcheck // people have such keys
	encrypted, err := x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey), []byte("x"), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		secret map[string][]byte
		reason driver.Reason // none when empty
		words  string
	}{
		"all three that belong together are good":  {secret: good},
		"a CRLF copy is good":                      {secret: with("tls.crt", bytes.ReplaceAll(good["tls.crt"], []byte("\n"), []byte("\r\n")))},
		"several authorities are good":             {secret: with("ca.crt", append(bytes.Clone(newAuthority(t).Certificate), good["ca.crt"]...))},
		"no credentials at all":                    {reason: driver.CredentialsMissing, words: "mutual TLS"},
		"no authority":                             {secret: without("ca.crt"), reason: driver.CredentialsMissing, words: "ca.crt"},
		"no certificate":                           {secret: without("tls.crt"), reason: driver.CredentialsMissing, words: "tls.crt"},
		"no key":                                   {secret: without("tls.key"), reason: driver.CredentialsMissing, words: "tls.key"},
		"an empty certificate":                     {secret: with("tls.crt", []byte(" \n")), reason: driver.CredentialsInvalid, words: "tls.crt is empty"},
		"a certificate larger than any":            {secret: with("tls.crt", make([]byte, 70<<10)), reason: driver.CredentialsInvalid, words: "64 KiB"},
		"an authority that is no PEM":              {secret: with("ca.crt", []byte("hello")), reason: driver.CredentialsInvalid, words: "ca.crt holds no certificate"},
		"a private key pasted as the certificate":  {secret: with("tls.crt", good["tls.key"]), reason: driver.CredentialsInvalid, words: "tls.crt holds a private key"},
		"a private key pasted as the authority":    {secret: with("ca.crt", good["tls.key"]), reason: driver.CredentialsInvalid, words: "ca.crt holds a private key"},
		"a certificate pasted as the private key":  {secret: with("tls.key", good["tls.crt"]), reason: driver.CredentialsInvalid, words: "tls.key holds a certificate"},
		"a private key that is no PEM":             {secret: with("tls.key", []byte("hello")), reason: driver.CredentialsInvalid, words: "tls.key holds no private key"},
		"a private key that is cut off":            {secret: with("tls.key", cut(good["tls.key"])), reason: driver.CredentialsInvalid, words: "cut off"},
		"a certificate that is cut off":            {secret: with("tls.crt", cut(good["tls.crt"])), reason: driver.CredentialsInvalid, words: "tls.crt holds something that is not a certificate"},
		"an encrypted private key":                 {secret: with("tls.key", pem.EncodeToMemory(encrypted)), reason: driver.CredentialsInvalid, words: "encrypted"},
		"a key of another certificate":             {secret: with("tls.key", secretOf(t, authority)["tls.key"]), reason: driver.CredentialsInvalid, words: "belong together"},
		"a certificate for servers only":           {secret: issued(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), reason: driver.CredentialsInvalid, words: "clientAuth"},
		"a certificate that has expired":           {secret: issued(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), reason: driver.CertificateInvalid, words: "expired"},
		"a certificate that is not valid yet":      {secret: issued(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), reason: driver.CertificateInvalid, words: "not valid before"},
		"a private key that takes long to use":     {secret: with("tls.key", longKey(t)), reason: driver.CredentialsInvalid, words: "8,192 bits"},
		"an authority that takes long to verify":   {secret: with("ca.crt", longAuthority(t)), reason: driver.CredentialsInvalid, words: "8,192 bits"},
		"a bundle of very many authorities":        {secret: with("ca.crt", bytes.Repeat(good["ca.crt"], 101)), reason: driver.CredentialsInvalid, words: "100 certificates"},
		"a certificate without any extended usage": {secret: issued(func(c *x509.Certificate) { c.ExtKeyUsage = nil })},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := New(Options{}).Prepare(driver.Endpoint{Address: "engine:2376", Credentials: tc.secret})
			if tc.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if got := wantError(t, err, tc.reason, driver.StagePrepare); !strings.Contains(got.Message, tc.words) {
				t.Errorf("message %q, want it to say %q", got.Message, tc.words)
			}
		})
	}
}

// longModulus is no product of primes, but what it costs is the same.
func longModulus() *big.Int {
	return new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 16_384), big.NewInt(1))
}

func longKey(t *testing.T) []byte {
	t.Helper()
	der, err := asn1.Marshal(struct {
		Version int
		Modulus *big.Int
	}{0, longModulus()})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der})
}

func longAuthority(t *testing.T) []byte {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	parent := &x509.Certificate{PublicKey: signer.Public()}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &rsa.PublicKey{N: longModulus(), E: 65537}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// cut takes the middle out of a PEM file.
func cut(text []byte) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	return bytes.Join(append(lines[:1:1], lines[2:]...), nil)
}

func TestAnEndpointIsCheckedWithoutIO(t *testing.T) {
	secret := secretOf(t, newAuthority(t))
	tests := map[string]struct {
		endpoint driver.Endpoint
		reason   driver.Reason
	}{
		"a relative socket":            {driver.Endpoint{Network: "unix", Address: "docker.sock"}, driver.ProtocolError},
		"credentials for a socket":     {driver.Endpoint{Network: "unix", Address: "/docker.sock", Credentials: secret}, driver.CredentialsInvalid},
		"an address without a port":    {driver.Endpoint{Address: "engine", Credentials: secret}, driver.ProtocolError},
		"an engine on TCP without TLS": {driver.Endpoint{Network: "tcp", Address: "engine:2375"}, driver.CredentialsMissing},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := New(Options{}).Prepare(tc.endpoint)
			wantError(t, err, tc.reason, driver.StagePrepare)
		})
	}
}

func TestACertificateThatHasExpiredSincePrepareIsNotShown(t *testing.T) {
	authority := newAuthority(t)
	cert, key := issue(t, authority, clientTemplate(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) }))
	prepared, err := New(Options{}).Prepare(driver.Endpoint{
		Address: "engine:2376", Credentials: map[string][]byte{"ca.crt": authority.Certificate, "tls.crt": cert, "tls.key": key},
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("dialed") },
	})
	if err != nil {
		t.Fatal(err)
	}
	prepared.(*dialer).credentials.certificate.Leaf.NotAfter = time.Now().Add(-time.Second)
	_, err = prepared.Dial(t.Context())
	wantError(t, err, driver.CertificateInvalid, driver.StagePrepare)
}
