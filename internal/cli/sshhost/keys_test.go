package sshhost

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func newKey(t *testing.T) ssh.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAHostIsComparedWithWhatIsKnownOfIt(t *testing.T) {
	right, wrong := newKey(t), newKey(t)
	for name, test := range map[string]struct {
		lines   []string
		pins    []string
		changed bool
	}{
		"an unknown host has no pins":      {nil, nil, false},
		"a plain line":                     {[]string{"[web-1]:2222 " + Pin(right)}, []string{Pin(right)}, false},
		"a hashed line":                    {[]string{knownhosts.HashHostname("[web-1]:2222") + " " + Pin(right)}, []string{Pin(right)}, false},
		"a line of another host":           {[]string{"web-2 " + Pin(wrong)}, nil, false},
		"another key of this host":         {[]string{"[web-1]:2222 " + Pin(wrong)}, []string{Pin(wrong)}, true},
		"one of two keys is shown":         {[]string{"web-? " + Pin(wrong), "web-1 " + Pin(right)}, []string{Pin(wrong), Pin(right)}, false},
		"a key that is only revoked":       {[]string{"@revoked * " + Pin(right)}, []string{"@revoked * " + Pin(right)}, true},
		"an authority cannot be seen here": {[]string{"@cert-authority *-1 " + Pin(wrong)}, []string{"@cert-authority * " + Pin(wrong)}, false},
		"a damaged line is left out":       {[]string{"[web-1]:2222 ssh-ed25519 AAAA", "web-1 " + Pin(right)}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "known_hosts")
			if err := os.WriteFile(file, []byte(strings.Join(test.lines, "\n")), 0o600); err != nil {
				t.Fatal(err)
			}
			known, err := ReadKnownHosts(file)
			if err != nil {
				t.Fatal(err)
			}
			pins := known.Find("web-1", 2222)
			if got := strings.Join(pins.Lines(), "\n"); got != strings.Join(test.pins, "\n") {
				t.Errorf("the pins are\n%s\nwant\n%s", got, strings.Join(test.pins, "\n"))
			}
			err = (&Scan{Keys: []ssh.PublicKey{right}}).Verify(pins)
			if errors.Is(err, ErrChanged) != test.changed {
				t.Errorf("the comparison says %v, want a changed key: %t", err, test.changed)
			}
		})
	}
}
