package ssh

import (
	"crypto"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/test/openssh"
)

func line(key ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) }

func hostCertificate(t *testing.T, authority ssh.Signer, change func(*ssh.Certificate)) *ssh.Certificate {
	t.Helper()
	host, _ := newKey(t)
	c := &ssh.Certificate{
		Key: host.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"web-1"},
		ValidAfter: uint64(time.Now().Add(-time.Hour).Unix()), ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
	}
	if change != nil {
		change(c)
	}
	if err := c.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	return c
}

// certifiedOpenSSH starts a server whose host certificate, and those of its users, are
// issued by one authority.
func certifiedOpenSSH(t *testing.T, authority ssh.Signer, principal string) driver.Endpoint {
	t.Helper()
	dir := t.TempDir()
	hostKey, text := newKey(t)
	raw, err := ssh.ParseRawPrivateKey(text)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, key ssh.PublicKey) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, ssh.MarshalAuthorizedKey(key), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert := hostCertificate(t, authority, func(c *ssh.Certificate) {
		c.Key, c.ValidPrincipals = hostKey.PublicKey(), []string{principal}
	})
	server, err := openssh.Start(t.Context(), openssh.Options{
		HostKeys: []crypto.PrivateKey{raw},
		Config: []string{
			"HostCertificate " + write("host-cert.pub", cert),
			"TrustedUserCAKeys " + write("authority.pub", authority.PublicKey()),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	endpoint := endpointOf(server.Addr, server.User, "@cert-authority "+line(authority.PublicKey()), nil)
	endpoint.Credentials = userCertificate(t, authority, server.User)
	return endpoint
}

func userCertificate(t *testing.T, authority ssh.Signer, user string) map[string][]byte {
	t.Helper()
	return changedCertificate(t, authority, user, func(*ssh.Certificate) {})
}

func changedCertificate(t *testing.T, authority ssh.Signer, user string, change func(*ssh.Certificate)) map[string][]byte {
	t.Helper()
	key, text := newKey(t)
	cert := &ssh.Certificate{
		Key: key.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{user},
		ValidAfter: uint64(time.Now().Add(-time.Hour).Unix()), ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
	}
	change(cert)
	if err := cert.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"ssh-privatekey": text, "ssh-certificate": ssh.MarshalAuthorizedKey(cert)}
}

func TestOpenSSHAndWeKnowEachOtherByCertificates(t *testing.T) {
	authority, _ := newKey(t)
	mustRun(t, mustDial(t, Options{}, certifiedOpenSSH(t, authority, "127.0.0.1")))
}

func TestOpenSSHsCertificateForAnotherHostIsRefused(t *testing.T) {
	authority, _ := newKey(t)
	_, err := dialWith(t.Context(), Options{}, certifiedOpenSSH(t, authority, "elsewhere"))
	wantError(t, err, driver.CertificateInvalid, driver.StageHostKey)
}

func TestAPasswordIsOfferedToAVerifiedServerOnly(t *testing.T) {
	_, endpoint := startEmbeddedWithPassword(t)
	mustRun(t, mustDial(t, Options{}, endpoint))

	wrong := endpoint
	wrong.Credentials = map[string][]byte{"password": []byte("wrong")}
	_, err := dialWith(t.Context(), Options{}, wrong)
	wantError(t, err, driver.AuthenticationFailed, driver.StageAuthentication)

	impostor, _ := newKey(t)
	endpoint.KnownHosts = []byte(line(impostor.PublicKey()))
	_, err = dialWith(t.Context(), Options{}, endpoint)
	wantError(t, err, driver.HostKeyMismatch, driver.StageHostKey)
}

func TestCredentialsThatTheServerDoesNotTakeAreNotOffered(t *testing.T) {
	_, endpoint := startOpenSSH(t, "AuthenticationMethods publickey")
	endpoint.Credentials = map[string][]byte{"password": []byte("secret")}
	_, err := dialWith(t.Context(), Options{}, endpoint)
	wantError(t, err, driver.AuthenticationFailed, driver.StageAuthentication)
}
