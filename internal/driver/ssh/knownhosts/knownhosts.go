// Package knownhosts reads the host keys that a target pins, in the syntax of
// known_hosts, and checks what a server proves against them.
package knownhosts

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the format of hashed known_hosts
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

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
	revoked     []ssh.PublicKey
}

type entry struct {
	marker string
	hosts  string // empty: the target's host, whatever its name
	kind   string
	key    string
}

func hostKeysInvalid(format string, args ...any) error {
	return driver.Errorf(driver.HostKeysInvalid, driver.StagePrepare, "hostKeys: "+format, args...)
}

// Parse returns what known_hosts says about the address. It ignores lines
// about other hosts, because targets may share a file.
func Parse(text []byte, address string) (*Pins, error) {
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return nil, hostKeysInvalid("there are none; add the output of ssh-keyscan, once you have verified it")
	case len(text) > maxKnownHostsBytes:
		return nil, hostKeysInvalid("larger than 1 MiB; keep only the lines of this host")
	case bytes.Contains(text, []byte("PRIVATE KEY")):
		return nil, hostKeysInvalid("hold a private key; remove it, regard it as disclosed, and pin the public key instead")
	}
	host := knownhosts.Normalize(strings.ToLower(address))
	p, number := new(Pins), 0
	for line := range strings.Lines(string(text)) {
		number++
		if err := p.addLine(line, host); err != nil {
			return nil, hostKeysInvalid("line %d %s", number, err)
		}
	}
	if len(p.keys)+len(p.authorities) == 0 {
		return nil, hostKeysInvalid("no line is about %s; add one that starts with %s", host, host)
	}
	return p, nil
}

func (p *Pins) addLine(line, host string) error {
	line = strings.TrimSpace(line)
	if line == "" || strings.HasPrefix(line, "#") {
		return nil
	}
	e, err := parseEntry(line)
	if err != nil || !e.matches(host) {
		return err
	}
	key, err := e.publicKey()
	if err != nil {
		return err
	}
	switch e.marker {
	case "@revoked": // whatever its strength
		p.revoked = append(p.revoked, key)
		return nil
	case "@cert-authority":
		p.authorities = append(p.authorities, key)
	case "":
		p.keys = append(p.keys, key)
	}
	return checkStrength(key)
}

func checkStrength(key ssh.PublicKey) error {
	if weakness := sshkey.Weakness(key); weakness != "" {
		return fmt.Errorf("is %s; pin another key of the server, an ed25519 one if possible", weakness)
	}
	if len(algorithms(key.Type())) == 0 {
		return fmt.Errorf("has a key of type %s, which cannot be verified; pin another key of the server", key.Type())
	}
	return nil
}

func parseEntry(line string) (entry, error) {
	fields, e := strings.Fields(line), entry{}
	if strings.HasPrefix(fields[0], "@") {
		e.marker, fields = fields[0], fields[1:]
		if e.marker != "@cert-authority" && e.marker != "@revoked" {
			return e, errors.New("has an unknown marker; only @cert-authority and @revoked are known")
		}
	}
	if len(fields) > 0 && !sshkey.IsType(fields[0]) {
		e.hosts, fields = fields[0], fields[1:]
	}
	if len(fields) < 2 {
		return e, errors.New(`is not a host key; write "ssh-ed25519 AAAA..." or "host ssh-ed25519 AAAA..."`)
	}
	e.kind, e.key = fields[0], fields[1]
	return e, nil
}

func (e entry) publicKey() (ssh.PublicKey, error) {
	if e.kind == ssh.InsecureKeyAlgoDSA { //nolint:staticcheck // to refuse it
		return nil, errors.New("is a DSA key, which is not secure; pin another key of the server")
	}
	blob, err := base64.StdEncoding.DecodeString(e.key)
	if err != nil {
		return nil, errors.New("has a key that is not in base64; copy the whole line again")
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil || key.Type() != e.kind {
		return nil, errors.New("has a key that cannot be read as its type says; copy the whole line again")
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return nil, errors.New("is a certificate; pin its authority with @cert-authority instead")
	}
	return key, nil
}

// matches reports whether the entry is about the host. It follows sshd(8): one hashed
// name, or patterns separated by commas, of which a negated one counts first.
func (e entry) matches(host string) bool {
	if e.hosts == "" {
		return true
	}
	if strings.HasPrefix(e.hosts, "|1|") {
		return matchesHash(e.hosts, host)
	}
	matched := false
	for word := range strings.SplitSeq(strings.ToLower(e.hosts), ",") {
		pattern, negated := strings.CutPrefix(word, "!")
		if !matchesPattern(knownhosts.Normalize(pattern), host) {
			continue
		}
		if negated {
			return false
		}
		matched = true
	}
	return matched
}

func matchesHash(hashed, host string) bool {
	salt, hash, _ := strings.Cut(strings.TrimPrefix(hashed, "|1|"), "|")
	key, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		return false
	}
	want, err := base64.StdEncoding.DecodeString(hash)
	if err != nil {
		return false
	}
	mac := hmac.New(sha1.New, key)
	mac.Write([]byte(host))
	return hmac.Equal(mac.Sum(nil), want)
}

// matchesPattern reports whether the name matches a pattern with * and ?. It takes time
// proportional to the product of the lengths, for any pattern.
func matchesPattern(pattern, name string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0: // let the last star swallow one more
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
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
// that it owns it.
func (p *Pins) Check(address string, key ssh.PublicKey) error {
	certificate, ok := key.(*ssh.Certificate)
	if !ok {
		return p.checkKey(key)
	}
	if !contains(p.authorities, certificate.SignatureKey) {
		return p.mismatch("a certificate signed by " + ssh.FingerprintSHA256(certificate.SignatureKey))
	}
	host, _, err := net.SplitHostPort(address)
	if err == nil {
		err = p.checkCertificate(strings.ToLower(host), certificate)
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

func (p *Pins) checkCertificate(host string, certificate *ssh.Certificate) error {
	if certificate.CertType != ssh.HostCert {
		return errors.New("it is for a user, not for a host")
	}
	if weakness := sshkey.Weakness(certificate.Key); weakness != "" {
		return fmt.Errorf("it certifies %s", weakness)
	}
	checker := ssh.CertChecker{IsRevoked: func(c *ssh.Certificate) bool {
		return contains(p.revoked, c.Key) || contains(p.revoked, c.SignatureKey)
	}}
	return checker.CheckCert(host, certificate)
}

func (p *Pins) checkKey(key ssh.PublicKey) error {
	switch {
	case contains(p.revoked, key):
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
			"If its key was changed on purpose, update hostKeys", proved, p.describe()),
	}
}

func (p *Pins) describe() string {
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
