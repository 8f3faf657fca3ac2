package ssh

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/ssh/sshkey"
)

// The keys of a Secret that this driver reads.
const (
	keyPrivate     = "ssh-privatekey"
	keyPassphrase  = "passphrase"
	keyCertificate = "ssh-certificate"
	keyPassword    = "password"
)

const maxSecretBytes = 64 << 10

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
	signer, err := sshkey.ParsePrivate(text, withoutNewline(passphrase))
	switch {
	case errors.Is(err, sshkey.ErrPassphrase):
		return nil, invalid("the Secret's key passphrase does not decrypt ssh-privatekey; correct it")
	case err != nil:
		return nil, invalid("the Secret's key ssh-privatekey %s", err)
	}
	return signer, nil
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

// suspect says what in the credentials themselves may be why a server refuses them for
// the user, to be added to a sentence. It is empty if there is nothing.
func (c *credentials) suspect(user string) string {
	switch {
	case c.certificate != nil:
		return suspectCertificate(c.certificate, user)
	case c.signer != nil && c.signer.PublicKey().Type() == ssh.KeyAlgoRSA:
		return ". If the server is old, it may take SHA-1 signatures of RSA keys only: use an ed25519 key"
	}
	return ""
}

// suspectCertificate names what in a certificate limits where it is good for a login.
func suspectCertificate(c *ssh.Certificate, user string) string {
	var parts []string
	switch {
	case len(c.ValidPrincipals) == 0:
		parts = append(parts, "no principals, without which sshd accepts it for no user")
	case !slices.Contains(c.ValidPrincipals, user):
		parts = append(parts, "the principals "+strings.Join(c.ValidPrincipals, ", ")+", but not "+user)
	}
	for _, option := range slices.Sorted(maps.Keys(c.CriticalOptions)) {
		switch option {
		case "source-address":
			parts = append(parts, "the source-address "+c.CriticalOptions[option]+", which must be the operator's")
		case "force-command", "verify-required":
			parts = append(parts, "the critical option "+option)
		default:
			parts = append(parts, "the critical option "+option+", which sshd may not know")
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return ". " + driver.Sanitize("The certificate has "+strings.Join(parts, ", and "))
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
