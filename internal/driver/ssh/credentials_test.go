package ssh

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
)

// canary must not appear in any message.
const canary = "CANARY"

var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// keygen makes a key as users do. It is a process of its own, so the race detector does
// not slow it down.
func keygen(t *testing.T, passphrase string, arguments ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	arguments = append(arguments, "-q", "-N", passphrase, "-f", path)
	if out, err := exec.Command("ssh-keygen", arguments...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func rsaKey(t *testing.T, bits string) *rsa.PrivateKey {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	key, err := ssh.ParseRawPrivateKey(keygen(t, "", "-t", "rsa", "-b", bits))
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

// encrypted makes a key that is encrypted with as few rounds as possible.
func encrypted(t *testing.T, passphrase string) []byte {
	t.Helper()
	return keygen(t, passphrase, "-t", "ed25519", "-a", "1")
}

// dsaKey is a DSA key in the format of old ssh-keygen.
func dsaKey(t *testing.T) []byte {
	t.Helper()
	// The parser checks only the size of P.
	power := func(bit uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), bit) }
	der, err := asn1.Marshal(struct {
		Version       int
		P, Q, G, Y, X *big.Int
	}{0, power(1023), power(159), power(1), power(2), power(3)})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "DSA PRIVATE KEY", Bytes: der})
}

func certificate(t *testing.T, change func(*ssh.Certificate)) (key, cert []byte) {
	t.Helper()
	authority, _ := newKey(t)
	signer, text := newKey(t)
	c := &ssh.Certificate{
		Key: signer.PublicKey(), CertType: ssh.UserCert,
		ValidAfter: uint64(now.Add(-time.Hour).Unix()), ValidBefore: uint64(now.Add(time.Hour).Unix()),
	}
	change(c)
	if err := c.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	return text, ssh.MarshalAuthorizedKey(c)
}

func TestGoodCredentialsAreAccepted(t *testing.T) {
	signer, text := newKey(t)
	certified, cert := certificate(t, func(*ssh.Certificate) {})
	tests := map[string]map[string][]byte{
		"an ed25519 key":                          {"ssh-privatekey": text},
		"a key with Windows line ends":            {"ssh-privatekey": bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))},
		"a key without its last newline":          {"ssh-privatekey": bytes.TrimSpace(text)},
		"an RSA key in the old format":            {"ssh-privatekey": pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey(t, "2048"))})},
		"an encrypted key with its passphrase":    {"ssh-privatekey": encrypted(t, "secret"), "passphrase": []byte("secret")},
		"a passphrase that echo wrote":            {"ssh-privatekey": encrypted(t, "secret"), "passphrase": []byte("secret\n")},
		"a passphrase that is not needed":         {"ssh-privatekey": text, "passphrase": []byte("secret")},
		"a key with a certificate":                {"ssh-privatekey": certified, "ssh-certificate": cert},
		"a password":                              {"password": []byte("secret")},
		"keys of others' conventions are ignored": {"ssh-privatekey": text, "username": []byte("deploy"), "known_hosts": nil},
	}
	for name, secret := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := parseCredentials(secret, now); err != nil {
				t.Error(err)
			}
		})
	}
	got, err := parseCredentials(map[string][]byte{"ssh-privatekey": text}, now)
	if err != nil || !strings.Contains(got.describe(), ssh.FingerprintSHA256(signer.PublicKey())) {
		t.Errorf("described as %q, error %v", got.describe(), err)
	}
}

func TestBadCredentialsAreRefusedWithTheNextStep(t *testing.T) {
	signer, text := newKey(t)
	other, _ := newKey(t)
	weak := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey(t, "1024"))})
	withCertificate := func(change func(*ssh.Certificate)) map[string][]byte {
		key, cert := certificate(t, change)
		return map[string][]byte{"ssh-privatekey": key, "ssh-certificate": cert}
	}
	key := func(text []byte) map[string][]byte { return map[string][]byte{"ssh-privatekey": text} }
	tests := map[string]struct {
		secret map[string][]byte
		says   []string
	}{
		"nothing usable":         {map[string][]byte{"token": []byte(canary)}, []string{"ssh-privatekey", "password", "add"}},
		"a key and a password":   {map[string][]byte{"ssh-privatekey": text, "password": []byte(canary)}, []string{"both", "remove"}},
		"an empty key":           {key([]byte(" \n")), []string{"ssh-privatekey is empty"}},
		"an empty password":      {map[string][]byte{"password": nil}, []string{"password is empty"}},
		"something large":        {key(bytes.Repeat([]byte(canary), 20_000)), []string{"ssh-privatekey is larger than 64 KiB"}},
		"no key at all":          {key([]byte(canary)), []string{"not a private key", "ssh-keygen"}},
		"a public key":           {key(ssh.MarshalAuthorizedKey(signer.PublicKey())), []string{"public key", ".pub"}},
		"a public key in PEM":    {key(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte(canary)})), []string{"public key"}},
		"PuTTY's format":         {key([]byte("PuTTY-User-Key-File-3: " + canary)), []string{"PuTTY", "puttygen"}},
		"a key cut off":          {key(text[:len(text)/2]), []string{"cut off", "BEGIN", "END"}},
		"a key with a hole":      {key(slicesCut(text)), []string{"cut off"}},
		"a key without its pass": {key(encrypted(t, canary)), []string{"encrypted", "passphrase"}},
		"the wrong passphrase": {
			map[string][]byte{"ssh-privatekey": encrypted(t, "right"), "passphrase": []byte(canary)}, []string{"passphrase does not decrypt"},
		},
		"a DSA key":              {key(dsaKey(t)), []string{"DSA", "ed25519"}},
		"a small RSA key":        {key(weak), []string{"1024 bits", "2048"}},
		"no certificate":         {map[string][]byte{"ssh-privatekey": text, "ssh-certificate": []byte(canary)}, []string{"not a certificate", "-cert.pub"}},
		"another certificate":    {withCertificate(func(c *ssh.Certificate) { c.Key = other.PublicKey() }), []string{"certifies the key " + ssh.FingerprintSHA256(other.PublicKey())}},
		"an expired certificate": {withCertificate(func(c *ssh.Certificate) { c.ValidBefore = uint64(now.Unix()) }), []string{"expired", "sign"}},
		"a future certificate":   {withCertificate(func(c *ssh.Certificate) { c.ValidAfter = uint64(now.Unix() + 1) }), []string{"not valid yet", "clock"}},
		"a host's certificate":   {withCertificate(func(c *ssh.Certificate) { c.CertType = ssh.HostCert }), []string{"for a host"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := parseCredentials(tc.secret, now)
			if err == nil {
				t.Fatal("accepted")
			}
			got := driver.AsError(err)
			if got.Reason != driver.CredentialsInvalid && name != "nothing usable" || got.Stage != driver.StagePrepare {
				t.Errorf("reason %s at %s", got.Reason, got.Stage)
			}
			for _, part := range tc.says {
				if !strings.Contains(got.Message, part) {
					t.Errorf("message %q does not say %q", got.Message, part)
				}
			}
			if strings.Contains(got.Message, canary) || got.Err != nil {
				t.Errorf("%q, with inner cause %v, may give the Secret away", got.Message, got.Err)
			}
		})
	}
}

// slicesCut removes a line from the middle of a key.
func slicesCut(text []byte) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	return bytes.Join(append(lines[:2:2], lines[3:]...), nil)
}

func FuzzPrivateKey(f *testing.F) {
	f.Add([]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"), []byte("p"), []byte("ssh-ed25519-cert-v01@openssh.com AAAA"))
	f.Add([]byte("ssh-ed25519 AAAA"), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, passphrase, cert []byte) {
		c, err := parseCredentials(map[string][]byte{"ssh-privatekey": key, "passphrase": passphrase, "ssh-certificate": cert}, now)
		if err == nil && c.signer == nil {
			t.Error("accepted without a key")
		}
		if err != nil && driver.AsError(err).Stage != driver.StagePrepare {
			t.Errorf("not classified: %v", err)
		}
	})
}
