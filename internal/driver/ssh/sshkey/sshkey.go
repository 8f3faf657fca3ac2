// Package sshkey reads private keys, and says what is wrong with a key.
package sshkey

import (
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

const minRSABits = 2048

// IsType reports whether the word begins like the type of a public key.
func IsType(word string) bool {
	return slices.ContainsFunc([]string{"ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"}, func(prefix string) bool {
		return strings.HasPrefix(word, prefix)
	})
}

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
