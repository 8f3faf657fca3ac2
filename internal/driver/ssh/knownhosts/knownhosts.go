// Package knownhosts reads the host keys that a target pins, in the syntax of
// known_hosts, and checks what a server proves against them.
package knownhosts

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/ssh/sshkey"
)

const (
	maxKnownHostsBytes = 1 << 20
	// MismatchRetryAfter is how long a server whose identity changed is not dialed: a
	// person has to look first.
	MismatchRetryAfter = 5 * time.Minute
)

// Pins are the keys by which one host may prove its identity.
type Pins struct {
	keys        []ssh.PublicKey
	authorities []ssh.PublicKey
	// revoked are keys in their wire format, of whatever type and strength.
	revoked [][]byte
	skipped []string
}

func hostKeysInvalid(format string, args ...any) error {
	return driver.Errorf(driver.HostKeysInvalid, driver.StagePrepare, "hostKeys: "+format, args...)
}

// Parse returns what known_hosts says about the address. Like ssh, it skips lines that
// it cannot use, and fails only if no usable one is about the host: targets share files
// of hundreds of lines. On another port than 22, lines about the host without a port
// count too where ssh looks for them: authorities always, and keys if no line names the
// host with its port.
func Parse(text []byte, address string) (*Pins, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return nil, hostKeysInvalid("there are none; add those that kubectl connpool hostkeys prints, once you have verified them")
	case len(text) > maxKnownHostsBytes:
		return nil, hostKeysInvalid("larger than 1 MiB; keep only the lines of this host")
	case bytes.Contains(text, []byte("PRIVATE KEY")):
		return nil, hostKeysInvalid("hold a private key; remove it, regard it as disclosed, and pin the public key instead")
	}
	p, host := Find(text, address), newReader(address).host
	switch {
	case !p.IsEmpty():
		return p, nil
	case len(p.skipped) > 0:
		return nil, hostKeysInvalid("no line can be used for %s: %s; add one that starts with %s", host, p.listSkipped(), host)
	}
	return nil, hostKeysInvalid("no line is about %s; add one that starts with %s", host, host)
}

// Find is Parse for a text that may say nothing about the address.
func Find(text []byte, address string) *Pins {
	r := newReader(address)
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		if err := r.read(strings.TrimSpace(line)); err != nil {
			r.skipped = append(r.skipped, fmt.Sprintf("line %d %s", number, err))
		}
	}
	return r.pins()
}

// IsEmpty reports whether there is nothing by which the host could prove its identity.
func (p *Pins) IsEmpty() bool { return len(p.keys)+len(p.authorities) == 0 }

// Has reports whether a key is pinned itself.
func (p *Pins) Has(key ssh.PublicKey) bool { return contains(p.keys, key) }

// HasAuthority reports whether a certificate of the host may prove its identity.
func (p *Pins) HasAuthority() bool { return len(p.authorities) > 0 }

// Revokes reports whether a key must never prove it.
func (p *Pins) Revokes(key ssh.PublicKey) bool { return p.isRevoked(key) }

// Lines returns the pins in the syntax of known_hosts, for one host whatever its name.
func (p *Pins) Lines() []string {
	var lines []string
	line := func(prefix string, key ssh.PublicKey) {
		lines = append(lines, prefix+strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
	}
	for _, key := range p.keys {
		line("", key)
	}
	for _, key := range p.authorities {
		line("@cert-authority * ", key)
	}
	for _, blob := range p.revoked {
		if key, err := ssh.ParsePublicKey(blob); err == nil {
			line("@revoked * ", key)
		}
	}
	return lines
}

// Warning says which lines are not used although they are about the host, or about no
// host that can be told, and why. It is empty if there are none.
func (p *Pins) Warning() string {
	if len(p.skipped) == 0 {
		return ""
	}
	return "hostKeys are used without some lines: " + p.listSkipped()
}

// maxListed is how many skipped lines are named.
const maxListed = 3

func (p *Pins) listSkipped() string {
	if len(p.skipped) <= maxListed {
		return strings.Join(p.skipped, ", ")
	}
	return fmt.Sprintf("%s, and so on for %d more", strings.Join(p.skipped[:maxListed], ", "), len(p.skipped)-maxListed)
}

// algorithms returns the signature algorithms that are accepted for a type of key.
func algorithms(kind string) []string {
	switch kind {
	case ssh.KeyAlgoRSA:
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		return []string{kind}
	}
	return nil
}

// Algorithms returns the host key algorithms to ask the server for: only those that a
// pinned key can verify. Otherwise a server with several keys may show one that is not
// pinned, and look like an impostor.
func (p *Pins) Algorithms() []string {
	var wanted []string
	if len(p.authorities) > 0 {
		wanted = []string{
			ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
			ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
		}
	}
	for _, key := range p.keys {
		for _, algorithm := range algorithms(key.Type()) {
			if !slices.Contains(wanted, algorithm) {
				wanted = append(wanted, algorithm)
			}
		}
	}
	return wanted
}

// Check returns an error unless the key or certificate is pinned. The server has proved
// that it owns it. Like ssh, it takes a certificate that does not pass for the bare key
// in it, unless it is revoked.
func (p *Pins) Check(address string, key ssh.PublicKey) error {
	certificate, ok := key.(*ssh.Certificate)
	if !ok {
		return p.checkKey(key)
	}
	err := p.checkCertificate(address, certificate)
	if err != nil && !p.revokes(certificate) && contains(p.keys, certificate.Key) {
		return nil
	}
	return err
}

func (p *Pins) checkCertificate(address string, certificate *ssh.Certificate) error {
	if !contains(p.authorities, certificate.SignatureKey) {
		return p.mismatch("a certificate signed by " + ssh.FingerprintSHA256(certificate.SignatureKey))
	}
	host, _, err := net.SplitHostPort(address)
	if err == nil {
		err = p.verify(strings.ToLower(host), certificate)
	}
	if err == nil {
		return nil
	}
	return &driver.Error{
		Reason: driver.CertificateInvalid, Stage: driver.StageHostKey, RetryAfter: MismatchRetryAfter, Err: err,
		Message: driver.Sanitize("the server's host certificate is refused: " +
			strings.TrimPrefix(err.Error(), "ssh: ") + "; have it signed again for this host"),
	}
}

func (p *Pins) verify(host string, certificate *ssh.Certificate) error {
	if certificate.CertType != ssh.HostCert {
		return errors.New("it is for a user, not for a host")
	}
	if weakness := sshkey.Weakness(certificate.Key); weakness != "" {
		return fmt.Errorf("it certifies %s", weakness)
	}
	if certificate.Signature.Format == ssh.KeyAlgoRSA {
		return errors.New("its authority signed with SHA-1, which is not secure; " +
			"sign with ssh-keygen -t rsa-sha2-512 or an ed25519 authority")
	}
	return (&ssh.CertChecker{IsRevoked: p.revokes}).CheckCert(host, certificate)
}

func (p *Pins) revokes(certificate *ssh.Certificate) bool {
	return p.isRevoked(certificate.Key) || p.isRevoked(certificate.SignatureKey)
}

func (p *Pins) isRevoked(key ssh.PublicKey) bool {
	blob := key.Marshal()
	return slices.ContainsFunc(p.revoked, func(revoked []byte) bool { return bytes.Equal(revoked, blob) })
}

func (p *Pins) checkKey(key ssh.PublicKey) error {
	switch {
	case p.isRevoked(key):
		return p.mismatch(ssh.FingerprintSHA256(key) + ", which is marked @revoked")
	case contains(p.keys, key):
		return nil
	}
	return p.mismatch(ssh.FingerprintSHA256(key))
}

// Describe names a host key or certificate by its fingerprint, which people compare.
func Describe(key ssh.PublicKey) string {
	if certificate, ok := key.(*ssh.Certificate); ok {
		return "a certificate of the " + certificate.Key.Type() + " key " + ssh.FingerprintSHA256(certificate.Key) +
			", signed by " + ssh.FingerprintSHA256(certificate.SignatureKey)
	}
	return "the " + key.Type() + " key " + ssh.FingerprintSHA256(key)
}

func contains(keys []ssh.PublicKey, key ssh.PublicKey) bool {
	blob := key.Marshal()
	return slices.ContainsFunc(keys, func(pinned ssh.PublicKey) bool { return bytes.Equal(pinned.Marshal(), blob) })
}

func (p *Pins) mismatch(proved string) error {
	return &driver.Error{
		Reason: driver.HostKeyMismatch, Stage: driver.StageHostKey, RetryAfter: MismatchRetryAfter,
		Message: fmt.Sprintf("the server proved %s, but hostKeys pin %s; no credential was offered. "+
			"If its key was changed on purpose, update hostKeys", proved, p.Describe()),
	}
}

// Describe names the pins by their fingerprints, which people compare.
func (p *Pins) Describe() string {
	var names []string
	for _, key := range p.keys {
		names = append(names, ssh.FingerprintSHA256(key))
	}
	for _, key := range p.authorities {
		names = append(names, "the authority "+ssh.FingerprintSHA256(key))
	}
	if len(names) > 3 {
		names = append(names[:3], fmt.Sprintf("%d more", len(names)-3))
	}
	return strings.Join(names, ", ")
}
