package keybounds_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"

	"github.com/connpool/connpool/internal/driver/keybounds"
)

// rsaKey has the form of an RSA private key in PKCS #1. Its numbers are no key: to make
// a real one of 16,384 bits takes minutes.
type rsaKey struct {
	Version                  int
	N                        *big.Int
	E                        int
	D, P, Q, DP, DQ, Inverse *big.Int
}

func longKey(t *testing.T, bits uint) []byte {
	t.Helper()
	number := new(big.Int).SetBit(big.NewInt(1), int(bits)-1, 1)
	half := new(big.Int).SetBit(big.NewInt(1), int(bits)/2-1, 1)
	return marshal(t, rsaKey{N: number, E: 65537, D: number, P: half, Q: half, DP: half, DQ: half, Inverse: half})
}

// wrap returns the form of a key in PKCS #8.
func wrap(t *testing.T, key []byte) []byte {
	t.Helper()
	return marshal(t, struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		PrivateKey []byte
	}{Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue}, PrivateKey: key})
}

func marshal(t *testing.T, value any) []byte {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// certificate is one for an RSA key of so many bits, signed by another key.
func certificate(t *testing.T, bits int) []byte {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), bits-1, 1), E: 65537}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", der)
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestKeysBeyondTheBoundsAreRefusedBeforeTheyAreParsed(t *testing.T) {
	for name, c := range map[string]struct {
		text []byte
		want error
	}{
		"an RSA key of 8,192 bits":              {encode("RSA PRIVATE KEY", longKey(t, 8192)), nil},
		"a longer one":                          {encode("RSA PRIVATE KEY", longKey(t, 8193)), keybounds.ErrTooLong},
		"one in PKCS #8":                        {encode("PRIVATE KEY", wrap(t, longKey(t, 65536))), keybounds.ErrTooLong},
		"one in PKCS #8 of a common length":     {encode("PRIVATE KEY", wrap(t, longKey(t, 4096))), nil},
		"one behind another block":              {append(encode("EC PARAMETERS", []byte{5, 0}), encode("RSA PRIVATE KEY", longKey(t, 16384))...), keybounds.ErrTooLong},
		"an authority with 8,192 bits":          {certificate(t, 8192), nil},
		"an authority with a longer key":        {certificate(t, 8200), keybounds.ErrTooLong},
		"such an authority behind a common one": {append(certificate(t, 2048), certificate(t, 16384)...), keybounds.ErrTooLong},
		"a hundred certificates":                {bytes.Repeat(certificate(t, 2048), 100), nil},
		"more than a hundred certificates":      {bytes.Repeat(certificate(t, 2048), 101), keybounds.ErrTooMany},
		"what is no key":                        {encode("PRIVATE KEY", []byte("nonsense")), nil},
		"nothing":                               {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := keybounds.CheckPEM(c.text); !errors.Is(got, c.want) {
				t.Errorf("CheckPEM = %v, want %v", got, c.want)
			}
		})
	}
}

func TestParsedKeysAreBoundedToo(t *testing.T) {
	long := rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), keybounds.MaxRSABits, 1), E: 3}
	short := rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), keybounds.MaxRSABits-1, 1), E: 3}
	for name, c := range map[string]struct {
		key  any
		want error
	}{
		"a long public key":     {&long, keybounds.ErrTooLong},
		"a long private key":    {&rsa.PrivateKey{PublicKey: long}, keybounds.ErrTooLong},
		"a short public key":    {&short, nil},
		"a short private key":   {&rsa.PrivateKey{PublicKey: short}, nil},
		"a key of another kind": {&ecdsa.PublicKey{Curve: elliptic.P256()}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := keybounds.CheckKey(c.key); !errors.Is(got, c.want) {
				t.Errorf("CheckKey = %v, want %v", got, c.want)
			}
		})
	}
}
