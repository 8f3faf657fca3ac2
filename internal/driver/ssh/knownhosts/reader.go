package knownhosts

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the format of hashed known_hosts
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/connpool/connpool/internal/driver/ssh/sshkey"
)

// reader collects what lines say about one host.
type reader struct {
	host  string // as the lines name it: host, or [host]:port
	bare  string // without its port; empty if the port is 22
	named found  // by lines about host
	other found  // by lines about bare
	// revoked and skipped are those of Pins.
	revoked [][]byte
	skipped []string
}

// found are the keys of one name of the host.
type found struct {
	keys, authorities []ssh.PublicKey
	// hasKey says that there is a key, be it usable or not. Then ssh does not look for
	// another one under the name without a port.
	hasKey bool
}

func newReader(address string) *reader {
	address = strings.ToLower(address)
	r := &reader{host: knownhosts.Normalize(address)}
	if host, port, err := net.SplitHostPort(address); err == nil && port != "22" {
		r.bare = host
	}
	return r
}

// pins puts together what was found. An authority counts under either name, and so does
// a revocation: ssh would miss one under the other name.
func (r *reader) pins() *Pins {
	p := &Pins{
		keys: r.named.keys, authorities: slices.Concat(r.named.authorities, r.other.authorities),
		revoked: r.revoked, skipped: r.skipped,
	}
	if !r.named.hasKey {
		p.keys = r.other.keys
	}
	return p
}

// read adds what a line says. Its error says why the line is skipped, in words that
// continue the number of the line. A line about other hosts is no error.
func (r *reader) read(line string) error {
	if line == "" || strings.HasPrefix(line, "#") {
		return nil
	}
	e, err := parseEntry(line)
	switch {
	case err != nil:
		return err
	case e.matches(r.host):
		return r.add(e, &r.named)
	case r.bare != "" && e.matches(r.bare):
		return r.add(e, &r.other)
	}
	return nil
}

func (r *reader) add(e entry, to *found) error {
	blob, err := base64.StdEncoding.DecodeString(e.key)
	if err != nil {
		return errors.New("has a key that is not in base64")
	}
	switch e.marker {
	case "@revoked":
		r.revoked = append(r.revoked, plain(blob))
		return nil
	case "@cert-authority":
		key, err := e.publicKey(blob)
		if err == nil {
			to.authorities = append(to.authorities, key)
		}
		return err
	case "":
		to.hasKey = true
		key, err := e.publicKey(blob)
		if err == nil {
			to.keys = append(to.keys, key)
		}
		return err
	}
	return errors.New("has an unknown marker; only @cert-authority and @revoked are known")
}

// plain returns the key of a certificate, and any other key as it is.
func plain(blob []byte) []byte {
	key, err := ssh.ParsePublicKey(blob)
	if certificate, ok := key.(*ssh.Certificate); ok && err == nil {
		return certificate.Key.Marshal()
	}
	return blob
}

// entry is one line.
type entry struct {
	marker string
	hosts  string // empty: the target's host, whatever its name
	kind   string
	key    string
}

// parseEntry splits a line. Its first word is a host although it looks like a type of
// key if such a type follows.
func parseEntry(line string) (entry, error) {
	fields, e := strings.Fields(line), entry{}
	if strings.HasPrefix(fields[0], "@") {
		e.marker, fields = fields[0], fields[1:]
	}
	if len(fields) > 0 && (!sshkey.IsType(fields[0]) || len(fields) > 2 && sshkey.IsType(fields[1])) {
		e.hosts, fields = fields[0], fields[1:]
	}
	if len(fields) < 2 {
		return e, errors.New(`is not a host key, which looks like "ssh-ed25519 AAAA..." or "host ssh-ed25519 AAAA..."`)
	}
	e.kind, e.key = fields[0], fields[1]
	return e, nil
}

// publicKey returns the key of the entry if it can be used to verify a server.
func (e entry) publicKey(blob []byte) (ssh.PublicKey, error) {
	if e.kind == ssh.InsecureKeyAlgoDSA { //nolint:staticcheck // to refuse it
		return nil, errors.New("is a DSA key, which is not secure")
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil || key.Type() != e.kind {
		return nil, errors.New("has a key that cannot be read as its type says")
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return nil, errors.New("is a certificate; pin its authority with @cert-authority instead")
	}
	if weakness := sshkey.Weakness(key); weakness != "" {
		return nil, fmt.Errorf("is %s", weakness)
	}
	if !canVerify(e.marker, key.Type()) {
		return nil, fmt.Errorf("has a key of type %s, which cannot be verified", key.Type())
	}
	return key, nil
}

// canVerify reports whether signatures by such a key can be verified: of host keys, and
// of authorities, whose keys may be on a security key.
func canVerify(marker, kind string) bool {
	if marker == "@cert-authority" && (kind == ssh.KeyAlgoSKED25519 || kind == ssh.KeyAlgoSKECDSA256) {
		return true
	}
	return len(algorithms(kind)) > 0
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
		// Normalize would take the end of 2001:* for a port.
		if !matchesPattern(pattern, host) && !matchesPattern(knownhosts.Normalize(pattern), host) {
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
