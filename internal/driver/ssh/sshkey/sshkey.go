// Package sshkey reads private keys, and says what is wrong with a key.
package sshkey

import (
	"crypto/rsa"
	"fmt"
	"regexp"
	"sync"

	"golang.org/x/crypto/ssh"
)

const minRSABits = 2048

// types are the types of public keys and certificates that OpenSSH knows.
var types = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(ssh-(rsa|dss|ed25519|mldsa-(44|65|87))|ecdsa-sha2-nistp(256|384|521)|` +
		`sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com|` +
		`(ssh-(rsa|dss|ed25519)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256))-cert-v0[01]@openssh\.com)$`)
})

// IsType reports whether the word is the type of a public key or certificate. A host
// may have a name that begins like one.
func IsType(word string) bool { return types().MatchString(word) }

// Weakness says why the key is not secure, in words that continue "is", or nothing.
func Weakness(key ssh.PublicKey) string {
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
