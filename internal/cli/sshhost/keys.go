package sshhost

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/connpool/connpool/internal/cli/display"
	"github.com/connpool/connpool/internal/driver/ssh/knownhosts"
	"github.com/connpool/connpool/internal/driver/ssh/sshkey"
)

// bitsOf returns the size of a key as ssh-keygen prints it.
func bitsOf(key ssh.PublicKey) int {
	switch public := key.(ssh.CryptoPublicKey).CryptoPublicKey().(type) {
	case *rsa.PublicKey:
		return public.N.BitLen()
	case *ecdsa.PublicKey:
		return public.Params().BitSize
	}
	return 256
}

// ErrWeak says that no key of a host may be pinned.
var ErrWeak = errors.New("every key of this host is too weak to be pinned: give it an ed25519 key (ssh-keygen -A)")

func isStrong(key ssh.PublicKey) bool { return sshkey.Weakness(key) == "" }

// Pin returns a key as a target pins it.
func Pin(key ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) }

// Pins returns those keys of a scan that a target may pin: weak ones are left out.
func (s *Scan) Pins() []string {
	var lines []string
	for _, key := range s.Keys {
		if isStrong(key) {
			lines = append(lines, Pin(key))
		}
	}
	return lines
}

// Table lists the keys with what people compare.
func (s *Scan) Table() *display.Table {
	t := &display.Table{Columns: []string{"TYPE", "BITS", "FINGERPRINT", "PINNED"}}
	for _, key := range s.Keys {
		note := "yes"
		if !isStrong(key) {
			note = "no: too weak"
		}
		t.Add(strings.ToUpper(shortType(key)), strconv.Itoa(bitsOf(key)), ssh.FingerprintSHA256(key), note)
	}
	return t
}

// HowToCompare is the command that prints the fingerprint on the host itself.
func (s *Scan) HowToCompare() string {
	return "ssh-keygen -lf /etc/ssh/ssh_host_" + shortType(s.Keys[0]) + "_key.pub"
}

// Title says in one line what answered.
func (s *Scan) Title(host string) string {
	return fmt.Sprintf("%s at %s, %s", display.OneLine(host), s.Address, cmp.Or(s.Server, "an SSH server"))
}

// shortType returns the name of a key's type in the files of /etc/ssh.
func shortType(key ssh.PublicKey) string {
	if strings.HasPrefix(key.Type(), "ecdsa-") {
		return "ecdsa"
	}
	return strings.TrimPrefix(key.Type(), "ssh-")
}

// KnownHosts is the content of known_hosts files, and where it is from.
type KnownHosts struct {
	// Files are the paths of those that exist, for people.
	Files []string
	text  []byte
}

// ReadKnownHosts reads files as ssh does, hashed names included. Without a file it reads
// the user's own and the machine's, which may be absent.
func ReadKnownHosts(files ...string) (*KnownHosts, error) {
	mayBeAbsent := len(files) == 0
	if mayBeAbsent {
		files = []string{"~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"}
	}
	known := &KnownHosts{}
	for _, file := range files {
		text, err := os.ReadFile(ExpandHome(file))
		switch {
		case errors.Is(err, fs.ErrNotExist) && mayBeAbsent:
			continue
		case err != nil:
			return nil, fmt.Errorf("read known hosts: %w", err)
		}
		known.Files = append(known.Files, file)
		known.text = append(append(known.text, text...), '\n')
	}
	return known, nil
}

// AddExisting adds those of the files that can be read.
func (k *KnownHosts) AddExisting(files ...string) {
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil {
			k.Files = append(k.Files, file)
			k.text = append(append(k.text, text...), '\n')
		}
	}
}

// Find returns what is known of a host's keys; nothing if there is no line about it.
func (k *KnownHosts) Find(host string, port int) *knownhosts.Pins {
	return knownhosts.Find(k.text, Join(host, port))
}

// Names returns the files, for people.
func (k *KnownHosts) Names() string { return strings.Join(k.Files, " and ") }

// ErrChanged says that a host does not show a key that it is known by.
var ErrChanged = errors.New("THE HOST KEY HAS CHANGED")

// Verify compares what a host shows with what is known of it, if anything is. It returns
// an error that is ErrChanged if the host shows only other keys, or one that is revoked. A
// host that is known by the authority that signs its key passes: the operator checks its
// certificate.
func (s *Scan) Verify(known *knownhosts.Pins) error {
	proved := known.IsEmpty() || known.HasAuthority()
	for _, key := range s.Keys {
		if known.Revokes(key) {
			return fmt.Errorf("%w: it shows %s, which is marked @revoked", ErrChanged, knownhosts.Describe(key))
		}
		proved = proved || known.Has(key)
	}
	if proved {
		return nil
	}
	var shown []string
	for _, key := range s.Keys {
		shown = append(shown, knownhosts.Describe(key))
	}
	return fmt.Errorf("%w: it shows %s, but is known by %s", ErrChanged, strings.Join(shown, ", "), known.Describe())
}

// Choose returns the key of the scan with a fingerprint, as a target pins it.
func (s *Scan) Choose(fingerprint string) (string, error) {
	var shown []string
	for _, key := range s.Keys {
		if ssh.FingerprintSHA256(key) != fingerprint {
			shown = append(shown, ssh.FingerprintSHA256(key))
			continue
		}
		if weakness := sshkey.Weakness(key); weakness != "" {
			return "", fmt.Errorf("the key with this fingerprint is %s: give the fingerprint of another key of the host", weakness)
		}
		return Pin(key), nil
	}
	return "", fmt.Errorf("the host shows no key with the fingerprint %s, but %s", fingerprint, strings.Join(shown, ", "))
}

// ExpandHome replaces a leading ~/ by the user's home directory, as ssh does.
func ExpandHome(path string) string {
	rest, ok := strings.CutPrefix(path, "~/")
	home, err := os.UserHomeDir()
	if !ok || err != nil {
		return path
	}
	return filepath.Join(home, rest)
}

// MaxKey bounds a private key, in bytes, as the operator does.
const MaxKey = 64 << 10

// ReadPrivateKey reads the file of a private key. It returns sshkey.ErrEncrypted if it
// needs a passphrase, sshkey.ErrPassphrase if that is wrong, and otherwise an error that
// says what is wrong with the key and repeats nothing of it.
func ReadPrivateKey(file, passphrase string) (text []byte, public ssh.PublicKey, err error) {
	if text, err = os.ReadFile(file); err != nil {
		return nil, nil, fmt.Errorf("read the private key: %w", err)
	}
	if len(bytes.TrimSpace(text)) == 0 || len(text) > MaxKey {
		return nil, nil, fmt.Errorf("%s is not a private key: it has %d bytes", file, len(text))
	}
	signer, err := sshkey.ParsePrivate(text, passphrase)
	if err != nil {
		return text, nil, fmt.Errorf("%s %w", file, err)
	}
	return text, signer.PublicKey(), nil
}
