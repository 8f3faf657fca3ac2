package sshkey

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver/keybounds"
)

// maxRounds bounds the rounds of bcrypt that decrypt a key. ssh-keygen takes 16 unless
// told otherwise. 64 take half a second of a processor that all targets share.
const maxRounds = 64

// ErrEncrypted says that the key is encrypted and there is no passphrase.
var ErrEncrypted = errors.New("is encrypted; add its passphrase under the key passphrase")

// ErrPassphrase says that the passphrase does not decrypt the key.
var ErrPassphrase = errors.New("is encrypted, and the passphrase does not decrypt it")

// ParsePrivate returns a signer for a private key, which never signs with SHA-1. The
// passphrase may be empty. The key is the first in the text, in any of the formats of
// ssh-keygen and openssl that the library reads; what editors add does not matter: a byte
// order mark, carriage returns, blanks around lines. An error is ErrEncrypted,
// ErrPassphrase, or its text continues the key's name: what is wrong with the key, and
// the next step. It repeats nothing of the key.
func ParsePrivate(text []byte, passphrase string) (ssh.Signer, error) {
	block, err := privateBlock(clean(text))
	if err != nil {
		return nil, err
	}
	key, err := parseBlock(block, passphrase)
	if err != nil {
		return nil, err
	}
	if weakness := Weakness(key.PublicKey()); weakness != "" {
		return nil, fmt.Errorf("is %s; make a new one with ssh-keygen -t ed25519", weakness)
	}
	return withoutSHA1(key)
}

// clean removes what editors and transports add to a file of lines.
func clean(text []byte) []byte {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	lines := bytes.Split(bytes.ReplaceAll(text, []byte("\r"), []byte("\n")), []byte("\n"))
	for i := range lines {
		lines[i] = bytes.TrimSpace(lines[i])
	}
	return bytes.Join(lines, []byte("\n"))
}

// privateBlock returns the first private key of the text. Certificates and parameters of
// curves may stand before it.
func privateBlock(text []byte) (*pem.Block, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return block, nil
		}
	}
	return nil, notAKey(string(text))
}

func parseBlock(block *pem.Block, passphrase string) (ssh.Signer, error) {
	if err := checkCost(block); err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(block)
	key, err := ssh.ParseRawPrivateKey(text)
	if _, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); encrypted {
		if passphrase == "" {
			return nil, ErrEncrypted
		}
		key, err = ssh.ParseRawPrivateKeyWithPassphrase(text, []byte(passphrase))
	}
	switch {
	case errors.Is(err, x509.IncorrectPasswordError):
		return nil, ErrPassphrase
	case err == nil && keybounds.CheckKey(key) != nil:
		return nil, errTooLong
	case err == nil:
		signer, err := ssh.NewSignerFromKey(key)
		if err == nil {
			return signer, nil
		}
	}
	return nil, errDamaged
}

var errDamaged = errors.New("cannot be read as a private key, it may be cut off; " +
	"copy the whole file again, or make a new key with ssh-keygen -t ed25519")

var errTooLong = fmt.Errorf("is %w; make a new one with ssh-keygen -t ed25519", keybounds.ErrTooLong)

// checkCost returns an error if the key would take too long to decrypt or to sign with,
// or is in a format that the library does not read. It decrypts nothing.
func checkCost(block *pem.Block) error {
	if keybounds.CheckPEM(pem.EncodeToMemory(block)) != nil {
		return errTooLong
	}
	switch block.Type {
	case "OPENSSH PRIVATE KEY":
		return checkContainer(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return errors.New("is encrypted in PKCS #8, which is not supported; " +
			"decrypt it with openssl pkcs8 -in FILE -out NEW, and put NEW there")
	}
	return nil
}

// container is the outside of a key in OpenSSH's format, of which only the private half
// is encrypted.
type container struct {
	Cipher, KDF, KDFOptions string
	Keys                    uint32
	PublicKey               []byte
	Rest                    []byte `ssh:"rest"`
}

// ciphers are those that the library decrypts.
var ciphers = []string{"none", "aes256-ctr", "aes256-cbc"}

func checkContainer(der []byte) error {
	var c container
	inside, _ := bytes.CutPrefix(der, []byte("openssh-key-v1\x00"))
	if ssh.Unmarshal(inside, &c) != nil {
		return errDamaged
	}
	var public struct {
		Type string
		Rest []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(c.PublicKey, &public) == nil && strings.HasPrefix(public.Type, "sk-") {
		return errors.New("is the handle of a security key (FIDO), which must be plugged in and touched for each login; " +
			"make a key that stands for itself with ssh-keygen -t ed25519")
	}
	if isTooLong(c.PublicKey) {
		return errTooLong
	}
	if !slices.Contains(ciphers, c.Cipher) {
		return fmt.Errorf("is encrypted with %s, which is not supported; "+
			"run ssh-keygen -p -Z aes256-ctr -f FILE, which encrypts it anew", known(c.Cipher))
	}
	var options struct {
		Salt   string
		Rounds uint32
	}
	if c.KDF == "bcrypt" && ssh.Unmarshal([]byte(c.KDFOptions), &options) == nil && options.Rounds > maxRounds {
		return fmt.Errorf("is encrypted with %d rounds of bcrypt, more than %d, which would hold up other targets; "+
			"run ssh-keygen -p -a 16 -f FILE, which encrypts it anew", options.Rounds, maxRounds)
	}
	return nil
}

// isTooLong reports whether the public half is of an RSA key that is too long.
func isTooLong(blob []byte) bool {
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return false
	}
	public, ok := key.(ssh.CryptoPublicKey)
	return ok && keybounds.CheckKey(public.CryptoPublicKey()) != nil
}

// withoutSHA1 returns a signer that does not sign with SHA-1 if the key is an RSA key.
func withoutSHA1(key ssh.Signer) (ssh.Signer, error) {
	signer, ok := key.(ssh.AlgorithmSigner)
	if !ok || key.PublicKey().Type() != ssh.KeyAlgoRSA {
		return key, nil
	}
	return ssh.NewSignerWithAlgorithms(signer, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
}
