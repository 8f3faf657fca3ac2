package sshhost

import (
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestHostsAreReadWithTheirPorts(t *testing.T) {
	for _, c := range []struct {
		text, host, name string
		port             int
	}{
		{"web-1.example.com", "web-1.example.com", "web-1.example.com", 22},
		{"web-1:2222", "web-1", "web-1", 2222},
		{"2001:db8::1", "2001:db8::1", "2001-db8-1", 22},
		{"[2001:db8::1]:2222", "2001:db8::1", "2001-db8-1", 2222},
		{"[2001:db8::1]", "2001:db8::1", "2001-db8-1", 22},
		{"Web_1.local.", "Web_1.local.", "web-1.local", 22},
	} {
		t.Run(c.text, func(t *testing.T) {
			host, port, err := splitHost(c.text)
			if err != nil || host != c.host || port != c.port || NameOf(host) != c.name {
				t.Errorf("got %q, %d, %q, %v", host, port, NameOf(host), err)
			}
		})
	}
}

func TestWeakKeysAreNotPinned(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if scan := (Scan{Keys: []ssh.PublicKey{weak}}); len(scan.Pins()) > 0 {
		t.Error("an RSA key of 1024 bits would be pinned")
	}
}
