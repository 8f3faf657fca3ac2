package sshkey

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// ErrPassphrase says that the passphrase does not decrypt the key.
var ErrPassphrase = errors.New("is encrypted, and the passphrase does not decrypt it")

// ParsePrivate returns a signer for a private key, which never signs with SHA-1. The
// passphrase may be empty. An error is ErrPassphrase, or its text continues the key's
// name: what is wrong with the key, and the next step. It repeats nothing of the key.
func ParsePrivate(text []byte, passphrase string) (ssh.Signer, error) {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	if block, _ := pem.Decode(text); block == nil || strings.Contains(block.Type, "PUBLIC KEY") {
		return nil, notAKey(string(text))
	}
	key, err := ssh.ParsePrivateKey(text)
	if _, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); encrypted {
		if passphrase == "" {
			return nil, errors.New("is encrypted; add its passphrase under the key passphrase")
		}
		key, err = ssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase))
	}
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, errors.New("cannot be read as a private key, it may be cut off; " +
			"copy the whole file again, or make a new key with ssh-keygen -t ed25519")
	}
	if weakness := Weakness(key.PublicKey()); weakness != "" {
		return nil, fmt.Errorf("is %s; make a new one with ssh-keygen -t ed25519", weakness)
	}
	return withoutSHA1(key)
}

// notAKey says what the text is that should be a private key.
func notAKey(text string) error {
	trimmed := strings.TrimSpace(text)
	switch {
	case strings.Contains(trimmed, "PUBLIC KEY"), IsType(strings.SplitN(trimmed, " ", 2)[0]):
		return errors.New("is a public key; put the private key there, the file without .pub")
	case strings.HasPrefix(trimmed, "PuTTY-User-Key-File"):
		return errors.New("is in PuTTY's format; convert it with puttygen -O private-openssh")
	case strings.Contains(trimmed, "-----BEGIN"):
		return errors.New("is cut off or damaged; copy the whole file again, from its BEGIN line to its END line")
	}
	return errors.New("is not a private key; put the file there that ssh-keygen wrote")
}

// withoutSHA1 returns a signer that does not sign with SHA-1 if the key is an RSA key.
func withoutSHA1(key ssh.Signer) (ssh.Signer, error) {
	signer, ok := key.(ssh.AlgorithmSigner)
	if !ok || key.PublicKey().Type() != ssh.KeyAlgoRSA {
		return key, nil
	}
	return ssh.NewSignerWithAlgorithms(signer, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
}
