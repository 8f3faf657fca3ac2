// Package keybounds bounds what the keys of a Secret may cost. All users share the
// operator's processors, and one RSA signature of 32,768 bits takes eight seconds. One
// of 8,192 bits takes a tenth of a second.
package keybounds

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
)

const (
	// MaxRSABits is the longest RSA key that is used. crypto/tls takes no longer one
	// from a server either.
	MaxRSABits = 8192
	// MaxCertificates is how many certificates one file may hold: a chain, or a bundle
	// of authorities.
	MaxCertificates = 100
)

var (
	// ErrTooLong means that an RSA key has more than MaxRSABits.
	ErrTooLong = errors.New("an RSA key of more than 8,192 bits")
	// ErrTooMany means that there are more than MaxCertificates.
	ErrTooMany = errors.New("more than 100 certificates")
)

// CheckPEM returns ErrTooLong or ErrTooMany if a file of certificates or private keys
// goes beyond the bounds, or nil. It takes what it cannot read for small: the caller's
// parser refuses that.
func CheckPEM(text []byte) error {
	certificates := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			if modulusBits(block.Bytes) > MaxRSABits {
				return ErrTooLong
			}
			continue
		}
		if certificates++; certificates > MaxCertificates {
			return ErrTooMany
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue
		}
		if err := CheckKey(certificate.PublicKey); err != nil {
			return err
		}
	}
	return nil
}

// CheckKey returns ErrTooLong if a parsed key, private or public, is an RSA key of more
// than MaxRSABits, or nil.
func CheckKey(key any) error {
	var public *rsa.PublicKey
	switch key := key.(type) {
	case *rsa.PublicKey:
		public = key
	case *rsa.PrivateKey:
		public = &key.PublicKey
	}
	if public != nil && public.N.BitLen() > MaxRSABits {
		return ErrTooLong
	}
	return nil
}

// modulusBits returns the length of an RSA private key in PKCS #1 or #8, or 0. Neither
// structure is read to its end.
func modulusBits(der []byte) int {
	var wrapped struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		PrivateKey []byte
	}
	if _, err := asn1.Unmarshal(der, &wrapped); err == nil {
		der = wrapped.PrivateKey
	}
	var key struct {
		Version int
		Modulus *big.Int
	}
	if _, err := asn1.Unmarshal(der, &key); err != nil {
		return 0
	}
	return key.Modulus.BitLen()
}
