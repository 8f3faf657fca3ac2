package knownhosts

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/connpool/connpool/internal/driver"
	"github.com/connpool/connpool/internal/driver/ssh/sshkey"
)

func line(key ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) }

func TestPinsSpeakForTheHostThatTheyName(t *testing.T) {
	signer, _ := newKey(t)
	key := line(signer.PublicKey())
	tests := map[string]struct {
		line, address string
		pinned        bool
	}{
		"a bare key is about any host":            {key, "web-1:22", true},
		"a comment does not matter":               {key + " some comment", "web-1:22", true},
		"the host by name":                        {"web-1 " + key, "web-1:22", true},
		"the host in other letters":               {"Web-1 " + key, "wEB-1:22", true},
		"another host":                            {"web-2 " + key, "web-1:22", false},
		"one of several":                          {"web-2,web-1 " + key, "web-1:22", true},
		"the host on another port":                {"web-1 " + key, "web-1:2222", true},
		"the host and its port":                   {"[web-1]:2222 " + key, "web-1:2222", true},
		"the usual port, written out":             {"[web-1]:22 " + key, "web-1:22", true},
		"an IPv6 address":                         {"2001:db8::1 " + key, "[2001:db8::1]:22", true},
		"a pattern":                               {"web-* " + key, "web-1:22", true},
		"a pattern for one character":             {"web-? " + key, "web-10:22", false},
		"a pattern with an exception":             {"web-*,!web-1 " + key, "web-1:22", false},
		"only an exception":                       {"!web-2 " + key, "web-1:22", false},
		"a hashed host":                           {knownhosts.HashHostname("web-1") + " " + key, "web-1:22", true},
		"another hashed host":                     {knownhosts.HashHostname("web-2") + " " + key, "web-1:22", false},
		"a hashed host and its port":              {knownhosts.HashHostname("[web-1]:2222") + " " + key, "web-1:2222", true},
		"a damaged hash":                          {"|1|x|y " + key, "web-1:22", false},
		"a file's other lines are not looked at":  {"# comment\n\nweb-2 ssh-dss AAAA\nweb-1 " + key, "web-1:22", true},
		"Windows line ends":                       {"web-1 " + key + "\r\nweb-2 " + key + "\r\n", "web-1:22", true},
		"a revoked key alone is no pin":           {"@revoked web-1 " + key, "web-1:22", false},
		"an authority is a pin":                   {"@cert-authority web-* " + key, "web-1:22", true},
		"an authority of other hosts is none":     {"@cert-authority db-* " + key, "web-1:22", false},
		"a pattern with the colon of IPv6":        {"2001:* " + key, "[2001:db8::1]:22", true},
		"a negated pattern for IPv6":              {"2001:db8::*,!2001:* " + key, "[2001:db8::1]:22", false},
		"a bare authority is about any host":      {"@cert-authority " + key, "web-1:22", true},
		"a pattern that would take long to match": {strings.Repeat("*a", 200) + "b " + key, strings.Repeat("a", 250) + ":22", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tc.line), tc.address)
			if (err == nil) != tc.pinned {
				t.Errorf("error %v, want pinned: %v", err, tc.pinned)
			}
		})
	}
}

func TestBadPinsAreRefusedWithTheNextStep(t *testing.T) {
	signer, private := newKey(t)
	small, err := ssh.NewPublicKey(&rsaKey(t, 1024).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	key := line(signer.PublicKey())
	tests := map[string]struct{ text, says string }{
		"none":                          {" \n", "kubectl connpool hostkeys"},
		"a private key":                 {string(private), "private key"},
		"something else":                {"canary", "line 1 is not a host key"},
		"an unknown marker":             {"@trusted web-1 " + key, "unknown marker"},
		"a marker alone":                {"@revoked", "is not a host key"},
		"a key in no base64":            {"web-1 ssh-ed25519 %%%", "base64"},
		"a key cut off":                 {"\nweb-1 " + key[:40], "line 2 has a key"},
		"another type than said":        {"web-1 ssh-rsa " + strings.Fields(key)[1], "type"},
		"DSA":                           {"web-1 ssh-dss AAAA", "DSA"},
		"a small RSA key":               {"web-1 " + line(small), "1024 bits"},
		"only other hosts":              {"web-2 " + key, "no line is about web-1"},
		"a file of over 1 MiB":          {strings.Repeat("web-2 "+key+"\n", 20_000), "1 MiB"},
		"a certificate as a key":        {"web-1 " + line(hostCertificate(t, signer, nil)), "@cert-authority"},
		"a key that cannot be verified": {"web-1 sk-ssh-ed25519@openssh.com AAAA", "cannot be read"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tc.text), "web-1:22")
			if err == nil {
				t.Fatal("accepted")
			}
			got := driver.AsError(err)
			if got.Reason != driver.HostKeysInvalid || !strings.HasPrefix(got.Message, "hostKeys: ") || !strings.Contains(got.Message, tc.says) {
				t.Errorf("%s: %q, want %q in it", got.Reason, got.Message, tc.says)
			}
			if strings.Contains(got.Message, "canary") {
				t.Errorf("%q repeats the value", got.Message)
			}
		})
	}
}

func TestSkippedLinesAreNamed(t *testing.T) {
	signer, _ := newKey(t)
	good := "web-1 " + line(signer.PublicKey()) + "\n"
	tests := map[string]struct{ text, want string }{
		"nothing is skipped":       {good, ""},
		"lines of other hosts":     {good + "web-2 ssh-dss AAAA\nweb-2 ssh-ed25519 %%%", ""},
		"a word":                   {"canary\n" + good, "hostKeys are used without some lines: line 1 is not a host key"},
		"a weak key":               {good + "web-1 ssh-dss AAAA", "line 2 is a DSA key"},
		"a merge conflict":         {"<<<<<<< HEAD\n" + good + "=======\n", "line 1 is not a host key"},
		"a marker for this host":   {"@trusted web-1 ssh-ed25519 AAAA\n" + good, "line 1 has an unknown marker"},
		"many lines are summed up": {strings.Repeat("canary\n", 9) + good, ", and so on for 6 more"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := Parse([]byte(tc.text), "web-1:22")
			if err != nil {
				t.Fatal(err)
			}
			got := p.Warning()
			if !strings.Contains(got, tc.want) || (tc.want == "") != (got == "") || strings.Contains(got, "canary") {
				t.Errorf("warning %q, want %q in it", got, tc.want)
			}
		})
	}
}

func TestAByteOrderMarkHidesNoLine(t *testing.T) {
	signer, _ := newKey(t)
	if _, err := Parse([]byte("\ufeffweb-1 "+line(signer.PublicKey())), "web-1:22"); err != nil {
		t.Error(err)
	}
}

// TestAnOfferedKeyThatIsRevokedIsRefusedWhateverItsKind goes on where the library may not
// even know the type of the key.
func TestAnOfferedKeyThatIsRevokedIsRefusedWhateverItsKind(t *testing.T) {
	good, _ := newKey(t)
	small, err := ssh.NewPublicKey(&rsaKey(t, 1024).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, revoked := range map[string]ssh.PublicKey{
		"a weak key": small, "a good key": good.PublicKey(), "the key in a certificate": hostCertificate(t, good, func(c *ssh.Certificate) {
			c.Key = good.PublicKey()
		}),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Parse([]byte("@revoked * "+line(revoked)+"\nweb-1 "+line(good.PublicKey())), "web-1:22")
			if err != nil {
				t.Fatal(err)
			}
			offered := revoked
			if certificate, ok := revoked.(*ssh.Certificate); ok {
				offered = certificate.Key
			}
			if err := p.Check("web-1:22", offered); err == nil || !strings.Contains(err.Error(), "@revoked") {
				t.Errorf("Check = %v, want a refusal that says @revoked", err)
			}
		})
	}
}

func TestAnAuthorityThatSignsWithSHA1IsRefused(t *testing.T) {
	authority, err := ssh.NewSignerFromKey(rsaKey(t, 2048))
	if err != nil {
		t.Fatal(err)
	}
	for algorithm, accepted := range map[string]bool{ssh.KeyAlgoRSA: false, ssh.KeyAlgoRSASHA256: true, ssh.KeyAlgoRSASHA512: true} {
		signer, err := ssh.NewSignerWithAlgorithms(authority.(ssh.AlgorithmSigner), []string{algorithm})
		if err != nil {
			t.Fatal(err)
		}
		p, err := Parse([]byte("@cert-authority * "+line(authority.PublicKey())), "web-1:22")
		if err != nil {
			t.Fatal(err)
		}
		err = p.Check("web-1:22", hostCertificate(t, signer, nil))
		if (err == nil) != accepted || err != nil && driver.AsError(err).Reason != driver.CertificateInvalid {
			t.Errorf("signed by %s: %v, want accepted: %t", algorithm, err, accepted)
		}
	}
}

func hostCertificate(t *testing.T, authority ssh.Signer, change func(*ssh.Certificate)) *ssh.Certificate {
	t.Helper()
	host, _ := newKey(t)
	c := &ssh.Certificate{
		Key: host.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"web-1"},
		ValidAfter: uint64(time.Now().Add(-time.Hour).Unix()), ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
	}
	if change != nil {
		change(c)
	}
	if err := c.SignCert(rand.Reader, authority); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOnlyWhatIsPinnedPassesTheCheck(t *testing.T) {
	authority, _ := newKey(t)
	unpinned, _ := newKey(t)
	plain, _ := newKey(t)
	revoked := hostCertificate(t, authority, nil)
	text := strings.Join([]string{
		line(plain.PublicKey()), "@cert-authority " + line(authority.PublicKey()), "@revoked " + line(revoked.Key),
		"@revoked * " + line(unpinned.PublicKey()), line(unpinned.PublicKey()),
	}, "\n")
	p, err := Parse([]byte(text), "web-1:22")
	if err != nil {
		t.Fatal(err)
	}
	unknown, _ := newKey(t)
	tests := map[string]struct {
		key  ssh.PublicKey
		want driver.Reason
	}{
		"a pinned key":                       {plain.PublicKey(), ""},
		"an unknown key":                     {unknown.PublicKey(), driver.HostKeyMismatch},
		"a pinned key that is revoked too":   {unpinned.PublicKey(), driver.HostKeyMismatch},
		"a certificate":                      {hostCertificate(t, authority, nil), ""},
		"a certificate of another authority": {hostCertificate(t, unknown, nil), driver.HostKeyMismatch},
		"the key of the authority itself":    {authority.PublicKey(), driver.HostKeyMismatch},
		"a revoked certificate":              {revoked, driver.CertificateInvalid},
		"an expired certificate":             {hostCertificate(t, authority, func(c *ssh.Certificate) { c.ValidBefore = 1 }), driver.CertificateInvalid},
		"a certificate for another host":     {hostCertificate(t, authority, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"web-2"} }), driver.CertificateInvalid},
		"a user's certificate":               {hostCertificate(t, authority, func(c *ssh.Certificate) { c.CertType = ssh.UserCert }), driver.CertificateInvalid},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := p.Check("web-1:22", tc.key)
			if err == nil && tc.want == "" {
				return
			}
			if got := driver.AsError(err); got.Reason != tc.want || got.RetryAfter != MismatchRetryAfter {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

func FuzzKnownHosts(f *testing.F) {
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ"
	f.Add("web-1 " + key)
	f.Add("@cert-authority *.example.com,!web-1 " + key)
	f.Add("|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= " + key)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse([]byte(text), "web-1:22")
		if err == nil && len(p.Algorithms()) == 0 {
			t.Error("accepted without an algorithm to ask for")
		}
		if err != nil && driver.AsError(err).Reason != driver.HostKeysInvalid {
			t.Errorf("not classified: %v", err)
		}
	})
}

// FuzzHostPatterns compares with ssh-keygen, which reads the same line. (The library
// differs from it: there a star at the end does not match an empty string.)
func FuzzHostPatterns(f *testing.F) {
	f.Add("web-1", "web-1")
	f.Add("web-*,!web-2", "web-2")
	f.Add("web*,!web-*,0", "web")
	f.Fuzz(func(t *testing.T, hosts, host string) {
		hosts, host = strings.ToLower(hosts), strings.ToLower(host)
		if strings.ContainsAny(hosts+host, "#@[]:|\"\\") || hosts == "" || host == "" || host[0] == '-' ||
			len(hosts)+len(host) > 200 || sshkey.IsType(hosts) || !isASCII(hosts+host) {
			t.Skip("no line of known_hosts")
		}
		signer, _ := newKey(t)
		text := hosts + " " + line(signer.PublicKey())
		path := filepath.Join(t.TempDir(), "known_hosts")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		theirs := exec.Command("ssh-keygen", "-F", host, "-f", path).Run() == nil
		_, err := Parse([]byte(text), net.JoinHostPort(host, "22"))
		if ours := err == nil; ours != theirs {
			t.Errorf("%q for %q: ours %v, theirs %v", hosts, host, ours, theirs)
		}
	})
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' })
}

func newKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

func rsaKey(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
