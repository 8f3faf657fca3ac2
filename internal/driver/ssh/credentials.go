package ssh

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
)

// The keys of a Secret that this driver reads.
const (
	keyPrivate     = "ssh-privatekey"
	keyPassphrase  = "passphrase"
	keyCertificate = "ssh-certificate"
	keyPassword    = "password"
)

const (
	maxSecretBytes = 64 << 10
	minRSABits     = 2048
)

// credentials prove the identity of the operator, in one way.
type credentials struct {
	signer      ssh.Signer       // nil with a password
	certificate *ssh.Certificate // nil without one
	password    string
}

func invalid(format string, args ...any) error {
	return driver.Errorf(driver.CredentialsInvalid, driver.StagePrepare, format, args...)
}

func parseCredentials(secret map[string][]byte, now time.Time) (*credentials, error) {
	if err := checkSecret(secret); err != nil {
		return nil, err
	}
	if password, ok := secret[keyPassword]; ok {
		return &credentials{password: withoutNewline(password)}, nil
	}
	signer, err := parsePrivateKey(secret[keyPrivate], secret[keyPassphrase])
	if err != nil {
		return nil, err
	}
	c := &credentials{signer: signer}
	text, ok := secret[keyCertificate]
	if !ok {
		return c, nil
	}
	if c.certificate, err = parseCertificate(text); err != nil {
		return nil, err
	}
	if c.signer, err = certify(c.certificate, signer); err != nil {
		return nil, err
	}
	return c, c.checkTime(now)
}

// checkSecret checks which keys are there, and that they have a sensible size.
func checkSecret(secret map[string][]byte) error {
	_, hasKey := secret[keyPrivate]
	_, hasPassword := secret[keyPassword]
	switch {
	case !hasKey && !hasPassword:
		return driver.Errorf(driver.CredentialsMissing, driver.StagePrepare,
			"the Secret holds neither ssh-privatekey nor password; add one of them")
	case hasKey && hasPassword:
		return invalid("the Secret holds both ssh-privatekey and password; remove one of them")
	}
	for _, key := range []string{keyPrivate, keyPassphrase, keyCertificate, keyPassword} {
		value, ok := secret[key]
		if ok && len(bytes.TrimSpace(value)) == 0 {
			return invalid("the Secret's key %s is empty; fill it or remove it", key)
		}
		if len(value) > maxSecretBytes {
			return invalid("the Secret's key %s is larger than 64 KiB; it holds something else than it should", key)
		}
	}
	return nil
}

// withoutNewline drops the newline that `echo` adds to a password.
func withoutNewline(text []byte) string { return strings.TrimRight(string(text), "\r\n") }

func parsePrivateKey(text, passphrase []byte) (ssh.Signer, error) {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	if block, _ := pem.Decode(text); block == nil || strings.Contains(block.Type, "PUBLIC KEY") {
		return nil, invalid("the Secret's key ssh-privatekey %s", notAKey(string(text)))
	}
	key, err := ssh.ParsePrivateKey(text)
	if _, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); encrypted {
		if len(passphrase) == 0 {
			return nil, invalid("the Secret's key ssh-privatekey is encrypted; add its passphrase under the key passphrase")
		}
		key, err = ssh.ParsePrivateKeyWithPassphrase(text, []byte(withoutNewline(passphrase)))
	}
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, invalid("the Secret's key passphrase does not decrypt ssh-privatekey; correct it")
	}
	if err != nil {
		return nil, invalid("the Secret's key ssh-privatekey cannot be read as a private key, it may be cut off; " +
			"copy the whole file again, or make a new key with ssh-keygen -t ed25519")
	}
	if weakness := weaknessOf(key.PublicKey()); weakness != "" {
		return nil, invalid("the Secret's key ssh-privatekey is %s; make a new one with ssh-keygen -t ed25519", weakness)
	}
	return withoutSHA1(key)
}

// notAKey says what the text is that should be a private key.
func notAKey(text string) string {
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.Contains(trimmed, "PUBLIC KEY"), isKeyType(strings.SplitN(trimmed, " ", 2)[0]):
		return "is a public key; put the private key there, the file without .pub"
	case strings.HasPrefix(trimmed, "PuTTY-User-Key-File"):
		return "is in PuTTY's format; convert it with puttygen -O private-openssh"
	case strings.Contains(trimmed, "-----BEGIN"):
		return "is cut off or damaged; copy the whole file again, from its BEGIN line to its END line"
	}
	return "is not a private key; put the file there that ssh-keygen wrote"
}

// isKeyType reports whether the word begins like the type of a public key.
func isKeyType(word string) bool {
	return slices.ContainsFunc([]string{"ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"}, func(prefix string) bool {
		return strings.HasPrefix(word, prefix)
	})
}

func weaknessOf(key ssh.PublicKey) string {
	if key.Type() == ssh.InsecureKeyAlgoDSA { //nolint:staticcheck // to refuse it
		return "a DSA key, which is not secure"
	}
	crypto, ok := key.(ssh.CryptoPublicKey)
	if !ok {
		return ""
	}
	if public, ok := crypto.CryptoPublicKey().(*rsa.PublicKey); ok && public.N.BitLen() < minRSABits {
		return fmt.Sprintf("an RSA key of %d bits, fewer than %d", public.N.BitLen(), minRSABits)
	}
	return ""
}

// withoutSHA1 returns a signer that does not sign with SHA-1 if the key is an RSA key.
func withoutSHA1(key ssh.Signer) (ssh.Signer, error) {
	signer, ok := key.(ssh.AlgorithmSigner)
	if !ok || key.PublicKey().Type() != ssh.KeyAlgoRSA {
		return key, nil
	}
	return ssh.NewSignerWithAlgorithms(signer, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
}

func parseCertificate(text []byte) (*ssh.Certificate, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(text) //nolint:dogsled // the library's signature
	certificate, ok := key.(*ssh.Certificate)
	if err != nil || !ok {
		return nil, invalid("the Secret's key ssh-certificate is not a certificate; " +
			"put the file there that ssh-keygen -s wrote, its name ends with -cert.pub")
	}
	if certificate.CertType != ssh.UserCert {
		return nil, invalid("the Secret's key ssh-certificate is for a host, not for a user; sign again without -h")
	}
	return certificate, nil
}

func certify(certificate *ssh.Certificate, signer ssh.Signer) (ssh.Signer, error) {
	certified, err := ssh.NewCertSigner(certificate, signer)
	if err != nil {
		return nil, invalid("the Secret's key ssh-certificate certifies the key %s, but ssh-privatekey is %s; replace either",
			ssh.FingerprintSHA256(certificate.Key), ssh.FingerprintSHA256(signer.PublicKey()))
	}
	return certified, nil
}

func (c *credentials) checkTime(now time.Time) error {
	if c.certificate == nil {
		return nil
	}
	seconds := uint64(now.Unix())
	switch {
	case seconds >= c.certificate.ValidBefore:
		return invalid("the Secret's key ssh-certificate has expired; sign the key again")
	case seconds < c.certificate.ValidAfter:
		return invalid("the Secret's key ssh-certificate is not valid yet; check its dates and this machine's clock")
	}
	return nil
}

func (c *credentials) describe() string {
	switch {
	case c.certificate != nil:
		return "the certificate of key " + ssh.FingerprintSHA256(c.certificate.Key)
	case c.signer != nil:
		return "the key " + ssh.FingerprintSHA256(c.signer.PublicKey())
	}
	return "the password"
}

// method returns a way to authenticate that the server allows, or nil.
func (c *credentials) method(allowed []string) ssh.AuthMethod {
	switch {
	case c.signer != nil && slices.Contains(allowed, "publickey"):
		return ssh.PublicKeys(c.signer)
	case c.signer == nil && slices.Contains(allowed, "password"):
		return ssh.Password(c.password)
	case c.signer == nil && slices.Contains(allowed, "keyboard-interactive"):
		return ssh.KeyboardInteractive(c.answer)
	}
	return nil
}

func (c *credentials) answer(_, _ string, questions []string, echos []bool) ([]string, error) {
	switch {
	case len(questions) == 0:
		return nil, nil
	case len(questions) == 1 && !echos[0]:
		return []string{c.password}, nil
	}
	return nil, errors.New("the server asks for more than a password")
}
